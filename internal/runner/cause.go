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

	"github.com/headgate-io/headgate/internal/program"
)

// transportError returns the error of a call that got no complete answer. The
// message is one of ours: those of net/http can quote what the upstream sent.
func transportError(ctx context.Context, err error) *Error {
	if stopped := interrupted(ctx); stopped != nil {
		return stopped
	}
	return fail(program.ClassNetwork, plainCause(err))
}

// plainCause says in plain words why a call failed.
func plainCause(err error) string {
	if errors.Is(err, errNotPermitted) {
		return "the address is not permitted"
	}
	if text := lookupCause(err); text != "" {
		return text
	}
	if text := tlsCause(err); text != "" {
		return text
	}
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "the upstream is unreachable"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the connection was reset"
	case errors.As(err, &timeout) && timeout.Timeout():
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
	case strings.Contains(text, "malformed HTTP"):
		return "the answer is not valid HTTP"
	default:
		return "the call could not be completed"
	}
}

func lookupCause(err error) string {
	var lookup *net.DNSError
	switch {
	case !errors.As(err, &lookup):
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
	var (
		hostname x509.HostnameError
		unknown  x509.UnknownAuthorityError
		invalid  x509.CertificateInvalidError
		verify   *tls.CertificateVerificationError
		record   tls.RecordHeaderError
		alert    tls.AlertError
	)
	switch {
	case errors.As(err, &hostname):
		return "the TLS certificate is for another host"
	case errors.As(err, &unknown):
		return "the TLS certificate is not signed by a known authority"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the TLS certificate has expired or is not valid yet"
	case errors.As(err, &verify), errors.As(err, &invalid):
		return "the TLS certificate is not valid"
	case errors.As(err, &record):
		return "the upstream does not speak TLS"
	case errors.As(err, &alert):
		return "the upstream refused the TLS handshake"
	default:
		return ""
	}
}
