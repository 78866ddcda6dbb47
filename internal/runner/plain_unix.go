// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package runner

import (
	"errors"
	"net"
	"syscall"
)

// canProbe tells whether newProbe works on this platform.
const canProbe = true

// newProbe returns a function that reports whether the other side of a
// connection has neither sent anything nor closed. It does not block.
func newProbe(conn net.Conn) (func() bool, error) {
	sys, ok := conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	raw, err := sys.SyscallConn()
	if err != nil {
		return nil, err
	}
	// Made once, so that a look takes no memory.
	var one [1]byte
	var quiet bool
	look := func(fd uintptr) bool {
		_, err := syscall.Read(int(fd), one[:])
		// A byte that is there was not asked for; it is lost with the connection.
		quiet = errors.Is(err, syscall.EAGAIN)
		return true
	}
	return func() bool { return raw.Read(look) == nil && quiet }, nil
}
