// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/headgate-io/headgate/internal/runner"
)

// budget bounds the bytes that all bodies together take.
type budget struct {
	limit int64
	used  atomic.Int64
}

func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.used.Add(-n) }

// readBody reads and decodes the body of an admitted request.
func (h *handler) readBody(x *exchange) *problem {
	if p := h.readContent(x); p != nil {
		return p
	}
	if len(x.r.Header["Content-Type"]) > 1 {
		// Who reads the other one sees another body (RFC 9110 section 5.3).
		return &problemTwoTypes
	}
	contentType := x.r.Header.Get("Content-Type")
	if len(x.raw) == 0 && (contentType == "" || !hasBody(x.r) && !carriesBody(x.r.Method)) {
		return nil
	}
	return x.decode(contentType)
}

// readContent reads the body as it is, once. After that x.raw is not nil.
func (h *handler) readContent(x *exchange) *problem {
	if x.raw != nil {
		return nil
	}
	if p := checkCoding(x.r); p != nil {
		return p
	}
	if !hasBody(x.r) {
		x.raw = []byte{}
		return nil
	}
	limit := x.route.program.Webhook.MaxBodySize
	if x.r.ContentLength > limit {
		return tooLarge(limit)
	}
	return h.readRaw(x, limit)
}

// decode makes request.body of the bytes that were read.
func (x *exchange) decode(contentType string) *problem {
	var failure *runner.DecodeError
	if contentType == contentTypeJSON {
		// Most bodies: their type need not be taken apart.
		x.body, failure = runner.DecodeJSON(x.raw, runner.DecodeLimits{})
	} else {
		x.body, failure = runner.DecodeBody(contentType, x.raw, runner.DecodeLimits{})
	}
	switch {
	case failure == nil:
		return nil
	case failure.Unsupported:
		return new(problemMediaType.because(failure.Message))
	default:
		return new(problemBadBody.because(failure.Message))
	}
}

func tooLarge(limit int64) *problem {
	return new(problemTooLarge.because(fmt.Sprintf("at most %d bytes are taken", limit)))
}

// carriesBody tells whether a content type without a body is a mistake: many
// clients send one with every GET.
func carriesBody(method string) bool {
	return method != http.MethodGet && method != http.MethodHead && method != http.MethodDelete && method != http.MethodOptions
}

// checkCoding refuses compressed bodies: a small one can be a huge one.
func checkCoding(r *http.Request) *problem {
	for _, coding := range r.Header["Content-Encoding"] {
		if coding != "" && !strings.EqualFold(coding, "identity") {
			return &problemEncoding
		}
	}
	return nil
}

// readRaw reads the body as it is. Memory is taken from the budget as bytes
// arrive, not on the word of the sender.
func (h *handler) readRaw(x *exchange, limit int64) *problem {
	size := int64(firstChunkedBytes)
	if x.r.ContentLength >= 0 {
		size = min(x.r.ContentLength, firstReadBytes)
	}
	if !h.takeBody(x, size) {
		return &problemBusy
	}
	body := http.MaxBytesReader(x.w, x.r.Body, limit)
	buf := make([]byte, 0, size)
	for {
		if len(buf) == cap(buf) {
			more := max(int64(cap(buf)), firstChunkedBytes)
			if !h.takeBody(x, more) {
				return &problemBusy
			}
			buf = slices.Grow(buf, int(more))
		}
		n, err := body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if errors.Is(err, io.EOF) {
			x.raw = buf
			return nil
		}
		if err != nil {
			return readProblem(err, limit)
		}
	}
}

func (h *handler) takeBody(x *exchange, n int64) bool {
	if !h.bodies.take(n) {
		return false
	}
	x.held += n
	return true
}

func readProblem(err error, limit int64) *problem {
	var large *http.MaxBytesError
	var network net.Error
	switch {
	case errors.As(err, &large):
		return tooLarge(limit)
	case errors.As(err, &network) && network.Timeout():
		return &problemSlowBody
	default:
		return &problemBrokenBody
	}
}
