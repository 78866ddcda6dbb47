// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/headgate-io/headgate/internal/expr"
	"github.com/headgate-io/headgate/internal/program"
)

// read returns the body of an answer, or nothing if the flow does not want it.
func (a *callAction) read(ctx context.Context, res *http.Response) ([]byte, *Error) {
	if a.parse == program.ParseNone {
		discard(res)
		return nil, nil
	}
	limit := a.runner.maxBody
	if res.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	var buf bytes.Buffer
	if res.ContentLength > 0 {
		// One byte more than announced, so that the end is found without growing.
		buf.Grow(int(min(res.ContentLength, firstReadBytes)) + bytes.MinRead)
	}
	_, err := buf.ReadFrom(io.LimitReader(res.Body, limit+1))
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return nil, fail(program.ClassNetwork, "the answer was cut short")
	case err != nil:
		return nil, transportError(ctx, err)
	case int64(buf.Len()) > limit:
		return nil, tooLarge(limit)
	default:
		return buf.Bytes(), nil
	}
}

func tooLarge(limit int64) *Error {
	size := fmt.Sprintf("%d bytes", limit)
	if limit%(1<<20) == 0 {
		size = fmt.Sprintf("%d MiB", limit>>20)
	}
	return fail(program.ClassNetwork, "the answer is larger than "+size)
}

// discard reads a body that is known to be short, so that its connection can be
// used again. One of unknown length may never end. That it was cut short is of
// no interest.
func discard(res *http.Response) {
	if res.ContentLength > 0 && res.ContentLength <= discardBytes {
		_, _ = io.Copy(io.Discard, res.Body)
	}
}

// decode makes a value of a body. It returns what is wrong with the body, or "".
func (a *callAction) decode(header http.Header, body []byte, out *exchange) string {
	if len(body) == 0 {
		return ""
	}
	how, utf8Text := a.parse, true
	if how == program.ParseAuto {
		how, utf8Text = byContentType(header.Get(headerContentType))
	}
	if how == program.ParseBytes {
		out.body = body
		return ""
	}
	if encoding := header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return "the answer is compressed, which was not asked for"
	}
	if how == program.ParseJSON {
		value, err := expr.DecodeJSON(body, expr.JSONLimits{})
		if err != nil {
			return "the answer is not valid JSON"
		}
		out.body = value
		return ""
	}
	switch {
	case utf8Text && utf8.Valid(body):
		out.body = string(body)
	case a.parse == program.ParseText:
		return "the answer is not text in UTF-8"
	default:
		out.body = body
	}
	return ""
}

// byContentType says how an answer is read, and whether text is in UTF-8.
func byContentType(contentType string) (how program.Parse, utf8Text bool) {
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return program.ParseBytes, false
	}
	switch {
	case media == contentTypeJSON, strings.HasSuffix(media, "+json"), media == "text/json":
		return program.ParseJSON, true
	case strings.HasPrefix(media, "text/"), media == "application/xml", strings.HasSuffix(media, "+xml"):
		charset := strings.ToLower(params["charset"])
		return program.ParseText, charset == "" || charset == "utf-8" || charset == "utf8" || charset == "us-ascii"
	default:
		return program.ParseBytes, false
	}
}
