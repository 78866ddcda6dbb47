// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package runner

import (
	"errors"
	"net"
)

// canProbe tells whether newProbe works on this platform.
const canProbe = false

// newProbe is for the platforms that have it.
func newProbe(net.Conn) (func() bool, error) { return nil, errors.ErrUnsupported }
