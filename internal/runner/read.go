// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

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
	return failForGood(program.ClassNetwork, "the answer is larger than "+size)
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
	// A content type that cannot be read says nothing; then the bytes are all
	// that is known.
	media, params, _ := parseMedia(header.Get(headerContentType))
	how, label := a.parse, params["charset"]
	if how == program.ParseAuto {
		how = howTo(media)
	}
	if how == program.ParseBytes {
		out.body = body
		return ""
	}
	if encoding := header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return "the answer is compressed, which was not asked for"
	}
	if how == program.ParseJSON {
		// It is in UTF-8 whatever its content type says (RFC 8259).
		label = ""
	}
	value, problem := decodeAs(how, body, label, DecodeLimits{})
	switch {
	case problem == nil:
		out.body = value
		return ""
	case how == program.ParseText && a.parse == program.ParseAuto:
		out.body = body
		return ""
	default:
		return unreadable[how]
	}
}

// unreadable says what an answer is not. Details could show what it holds.
var unreadable = map[program.Parse]string{
	program.ParseJSON: "the answer is not valid JSON",
	program.ParseXML:  "the answer is not valid XML",
	program.ParseForm: "the answer is not a valid form",
	program.ParseText: "the answer is not text in UTF-8 or in its charset",
}
