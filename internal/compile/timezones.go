// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	_ "embed"
	"strings"
	"sync"
)

// timeZonesFile has the names of the IANA time zone database that comes with Go,
// in order: what is installed where the compiler runs must not count. It is
// rewritten by make golden.
//
//go:embed timezones.txt
var timeZonesFile string

var timeZones = sync.OnceValue(func() []string { return strings.Fields(timeZonesFile) })
