// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import "time"

// timing is a schedule as package cron parses it.
type timing interface {
	// Next returns the first time after t; zero if there is none.
	Next(t time.Time) time.Time
}

// lastDue returns the latest tick after last and not after now. Ticks that were
// missed before it are not made up for: after a downtime a schedule runs once.
//
// It looks back from now in steps that double, so that a schedule of every
// minute costs no more after a year than after an hour.
func lastDue(s timing, last, now time.Time) (tick time.Time, missed bool) {
	from := last
	for back := time.Minute; now.Add(-back).After(last); back *= 2 {
		if t := s.Next(now.Add(-back)); !t.IsZero() && !t.After(now) {
			from = now.Add(-back)
			break
		}
	}
	for t := s.Next(from); !t.IsZero() && !t.After(now); t = s.Next(t) {
		tick, missed = t, true
	}
	return tick, missed
}
