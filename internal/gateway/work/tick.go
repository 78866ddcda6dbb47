// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"time"

	"github.com/robfig/cron/v3"

	"github.com/headgate-io/headgate/internal/program"
)

// timing is a schedule as package cron parses it.
type timing interface {
	// Next returns the first time after t; zero if there is none.
	Next(t time.Time) time.Time
}

// everyHour is the bit of a field of package cron that names all values.
const everyHour = 1 << 63

// parseSchedule returns what a schedule is due by.
func parseSchedule(s *program.Schedule) (timing, error) {
	zone := s.TimeZone
	if zone == "" {
		zone = "Etc/UTC"
	}
	location, err := time.LoadLocation(zone)
	if err != nil {
		return nil, err
	}
	parsed, err := cron.ParseStandard(s.Cron)
	if err != nil {
		return nil, err
	}
	spec, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return parsed, nil
	}
	spec.Location = location
	if spec.Hour&everyHour != 0 {
		return spec, nil
	}
	spec.Location = time.UTC
	return &wallClock{spec, location}, nil
}

// wallClock is a schedule that names hours, by the clock on a wall somewhere. In
// the hour that is left out when clocks are put forward, package cron finds
// nothing due, and what is due in the one that comes twice when they are put back
// it finds twice: what is to happen every night would not in one, and would twice
// in another. Here it is due once: when the hour that is left out would have
// begun, and the first time.
type wallClock struct {
	// spec takes the time on the wall for that of UTC.
	spec *cron.SpecSchedule
	zone *time.Location
}

// Next implements timing.
func (w *wallClock) Next(t time.Time) time.Time {
	local := t.In(w.zone)
	_, offset := local.Zone()
	shown := local.UTC().Add(time.Duration(offset) * time.Second)
	for {
		if shown = w.spec.Next(shown); shown.IsZero() {
			return shown
		}
		// The hour that comes twice is behind t when it comes again.
		if due := w.at(shown); due.After(t) {
			return due
		}
	}
}

// at returns when the clock first shows a time, or does not because it is put
// forward.
func (w *wallClock) at(shown time.Time) time.Time {
	t := time.Date(shown.Year(), shown.Month(), shown.Day(), shown.Hour(), shown.Minute(), shown.Second(), 0, w.zone)
	start, end := t.ZoneBounds()
	_, offset := t.Zone()
	switch ahead := t.UTC().Add(time.Duration(offset) * time.Second).Sub(shown); {
	case ahead > 0:
		return start
	case ahead < 0:
		return end
	case start.IsZero():
		return t
	}
	_, before := start.Add(-1).Zone()
	if first := t.Add(time.Duration(offset-before) * time.Second); before > offset && first.Before(start) {
		return first
	}
	return t
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
