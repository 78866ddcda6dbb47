// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

// every is a schedule with a tick at each multiple of itself.
type every time.Duration

func (e every) Next(t time.Time) time.Time {
	return t.Truncate(time.Duration(e)).Add(time.Duration(e))
}

type never struct{}

func (never) Next(time.Time) time.Time { return time.Time{} }

func TestLastDue(t *testing.T) {
	t.Parallel()
	at := func(clock string) time.Time {
		parsed, err := time.Parse(time.DateTime, clock)
		NewWithT(t).Expect(err).NotTo(HaveOccurred())
		return parsed
	}
	for name, test := range map[string]struct {
		schedule  timing
		last, now string
		want      string
	}{
		"not yet":                         {every(time.Hour), "2026-01-01 10:00:00", "2026-01-01 10:59:59", ""},
		"on time":                         {every(time.Hour), "2026-01-01 10:00:00", "2026-01-01 11:00:00", "2026-01-01 11:00:00"},
		"a little late":                   {every(time.Hour), "2026-01-01 10:00:00", "2026-01-01 11:00:09", "2026-01-01 11:00:00"},
		"after a downtime, the last only": {every(time.Hour), "2026-01-01 10:00:00", "2026-01-03 15:30:00", "2026-01-03 15:00:00"},
		"a year of minutes":               {every(time.Minute), "2025-01-01 10:00:00", "2026-01-01 10:00:30", "2026-01-01 10:00:00"},
		"the clock went back":             {every(time.Hour), "2026-01-01 12:00:00", "2026-01-01 11:30:00", ""},
		"a schedule without an end":       {never{}, "2026-01-01 10:00:00", "2026-01-02 10:00:00", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			tick, missed := lastDue(test.schedule, at(test.last), at(test.now))
			g.Expect(missed).To(Equal(test.want != ""))
			if missed {
				g.Expect(tick).To(Equal(at(test.want)))
			}
		})
	}
}
