// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/headgate-io/headgate/internal/program"
)

// transportError returns the error of a call that got no complete answer. The
// message is one of ours: those of net/http can quote what the upstream sent.
func transportError(ctx context.Context, err error) *Error {
	if pastDeadline(ctx, err) {
		<-ctx.Done() // at once
	}
	if stopped := interrupted(ctx); stopped != nil {
		return stopped
	}
	failure := fail(program.ClassNetwork, plainCause(err))
	failure.permanent = errors.Is(err, errNotPermitted) || errors.Is(err, errNoTLS)
	return failure
}

// pastDeadline tells whether a connection has timed out by the deadline of ctx,
// which its own timer may not have seen yet.
func pastDeadline(ctx context.Context, err error) bool {
	timeout, isNetwork := errors.AsType[net.Error](err)
	deadline, limited := ctx.Deadline()
	return isNetwork && timeout.Timeout() && limited && !time.Now().Before(deadline)
}

// plainCause says in plain words why a call failed.
func plainCause(err error) string {
	if errors.Is(err, errNotPermitted) {
		return "the address is not permitted"
	}
	if errors.Is(err, errNoTLS) {
		return errNoTLS.Error()
	}
	if text := lookupCause(err); text != "" {
		return text
	}
	if text := tlsCause(err); text != "" {
		return text
	}
	timeout, isNetwork := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "the upstream is unreachable"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the connection was reset"
	case isNetwork && timeout.Timeout():
		return "the connection timed out"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed before an answer came"
	}
	// net/http has no types for these.
	text := err.Error()
	switch {
	case strings.Contains(text, "server closed idle connection"):
		return "the connection was closed before an answer came"
	case strings.Contains(text, "gave HTTP response to HTTPS client"):
		return "the upstream does not speak TLS"
	case strings.Contains(text, "server response headers exceeded"):
		return "the header of the answer is too large"
	case strings.Contains(text, "malformed"):
		return "the answer is not valid HTTP"
	default:
		return "the call could not be completed"
	}
}

func lookupCause(err error) string {
	lookup, ok := errors.AsType[*net.DNSError](err)
	switch {
	case !ok:
		return ""
	case lookup.IsNotFound:
		return "no such host"
	case lookup.IsTimeout:
		return "the look-up of the host timed out"
	default:
		return "the look-up of the host failed"
	}
}

func tlsCause(err error) string {
	invalid, isInvalid := errors.AsType[x509.CertificateInvalidError](err)
	operation, isOperation := errors.AsType[*net.OpError](err)
	switch {
	case isA[x509.HostnameError](err):
		return "the TLS certificate is for another host"
	case isA[x509.UnknownAuthorityError](err):
		return "the TLS certificate is not signed by a known authority"
	case isInvalid && invalid.Reason == x509.Expired:
		return "the TLS certificate has expired or is not valid yet"
	case isInvalid, isA[*tls.CertificateVerificationError](err):
		return "the TLS certificate is not valid"
	case isA[tls.RecordHeaderError](err):
		return "the upstream does not speak TLS"
	case isOperation && operation.Op == "remote error":
		// crypto/tls has no exported type for the alerts that it receives.
		return "the upstream refused the TLS handshake"
	default:
		return ""
	}
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
