// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/program"
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

// When clocks change, what names its hour happens once all the same, and what
// happens every so many minutes goes on.
func TestSchedulesWhenClocksChange(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cron, zone, from string
		want             []string
	}{
		"forward, named":       {"30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", []string{"2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"}},
		"forward, several":     {"0,30 2,3 * * *", "Europe/Berlin", "2026-03-29T00:59:59Z", []string{"2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:00:00Z"}},
		"forward, west":        {"30 2 * * *", "America/New_York", "2026-03-08T05:00:00Z", []string{"2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"}},
		"forward, at midnight": {"@daily", "America/Santiago", "2026-09-05T12:00:00Z", []string{"2026-09-06T04:00:00Z", "2026-09-07T03:00:00Z"}},
		"forward, behind it":   {"30 2 * * *", "Europe/Berlin", "2026-03-29T01:00:00Z", []string{"2026-03-30T00:30:00Z"}},
		"forward, minutes":     {"*/30 * * * *", "Europe/Berlin", "2026-03-29T00:15:00Z", []string{"2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"}},
		"back, named":          {"30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", []string{"2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"}},
		"back, west":           {"30 1 * * *", "America/New_York", "2026-11-01T04:00:00Z", []string{"2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"}},
		"back, the second":     {"*/20 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", []string{"2026-10-26T01:00:00Z"}},
		"back, minutes":        {"30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", []string{"2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"}},
		"half an hour":         {"15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00Z", []string{"2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"}},
		"no change":            {"0 12 * * 1-5", "", "2026-06-19T12:00:00Z", []string{"2026-06-22T12:00:00Z"}},
		"never":                {"0 0 30 2 *", "Europe/Berlin", "2026-01-01T00:00:00Z", []string{"0001-01-01T00:00:00Z"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			s, err := parseSchedule(&program.Schedule{Cron: test.cron, TimeZone: test.zone})
			g.Expect(err).NotTo(HaveOccurred())
			at, err := time.Parse(time.RFC3339, test.from)
			g.Expect(err).NotTo(HaveOccurred())
			var got []string
			for range test.want {
				next := s.Next(at)
				got = append(got, next.UTC().Format(time.RFC3339))
				if tick, missed := lastDue(s, at, next); missed {
					g.Expect(tick).To(BeTemporally("==", next))
				}
				_, early := lastDue(s, at, next.Add(-time.Second))
				g.Expect(early).To(BeFalse())
				at = next
			}
			g.Expect(got).To(Equal(test.want))
		})
	}
	_, err := parseSchedule(&program.Schedule{Cron: "0 0 * * *", TimeZone: "Nowhere/Here"})
	NewWithT(t).Expect(err).To(HaveOccurred())
}
