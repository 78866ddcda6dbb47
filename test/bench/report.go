// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"
)

// column is a figure of a system in a round.
type column struct {
	title string
	of    func(s *system, m *[len(kinds)]measurement) float64
	// format of the figure.
	format string
	// aims are floor, target and stretch of Headgate's ratio to the handler by
	// hand; nil if there are none.
	aims []float64
}

const mebibyte = 1 << 20

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

var columns = []column{
	{"requests/s", func(_ *system, m *[len(kinds)]measurement) float64 { return m[kindMany].perSecond }, "%.0f", []float64{0.75, 0.90, 1.05}},
	{"p50 ms", func(_ *system, m *[len(kinds)]measurement) float64 { return milliseconds(m[kindMany].p50) }, "%.2f", nil},
	{"p99 ms", func(_ *system, m *[len(kinds)]measurement) float64 { return milliseconds(m[kindMany].p99) }, "%.2f", nil},
	{"CPU µs", func(_ *system, m *[len(kinds)]measurement) float64 { return microseconds(m[kindMany].cpu) }, "%.0f", []float64{1.35, 1.15, 0.85}},
	{"10 kB: requests/s", func(_ *system, m *[len(kinds)]measurement) float64 { return m[kindLarge].perSecond }, "%.0f", nil},
	{"10 kB: CPU µs", func(_ *system, m *[len(kinds)]measurement) float64 { return microseconds(m[kindLarge].cpu) }, "%.0f", []float64{1.1, 0.65, 0.5}},
	{"alone: p50 ms", func(_ *system, m *[len(kinds)]measurement) float64 { return milliseconds(m[kindAlone].p50) }, "%.3f", []float64{1.3, 1.1, 0.9}},
	{"RSS idle MiB", func(s *system, _ *[len(kinds)]measurement) float64 { return float64(s.idle) / mebibyte }, "%.0f", nil},
	{"RSS load MiB", func(_ *system, m *[len(kinds)]measurement) float64 {
		return float64(max(m[kindMany].rss, m[kindLarge].rss, m[kindAlone].rss)) / mebibyte
	}, "%.0f", nil},
}

// report prints the figures and their ratios as Markdown tables.
func (b *bench) report(rounds []round) error {
	if _, err := fmt.Fprintf(b.out, "\n%s, %s, %d processors shared by load, system and upstream; medians of %d interleaved rounds of %s;\n"+
		"64 connections, alone: one; CPU is time per request.\n\n",
		time.Now().UTC().Format(time.DateOnly), runtime.Version(), runtime.NumCPU(), b.rounds, b.duration); err != nil {
		return err
	}
	hand := slices.IndexFunc(b.systems, func(s *system) bool { return s.name == nameBare })
	if err := b.table("figures", func(i int, c *column) string {
		return fmt.Sprintf(c.format, median(rounds, func(r round) float64 { return c.of(b.systems[i], &r[i]) }))
	}, nil); err != nil {
		return err
	}
	return b.table("ratios to "+nameBare, func(i int, c *column) string {
		return fmt.Sprintf("%.2f", median(rounds, func(r round) float64 {
			return c.of(b.systems[i], &r[i]) / c.of(b.systems[hand], &r[hand])
		}))
	}, []string{"aim: floor", "aim: target", "aim: stretch"})
}

// table prints a row for each system, and one for each of the aims.
func (b *bench) table(title string, cell func(system int, c *column) string, aims []string) error {
	w := tabwriter.NewWriter(b.out, 0, 0, 1, ' ', 0)
	row := func(name string, cell func(i int) string) error {
		if _, err := fmt.Fprintf(w, "| %s\t", name); err != nil {
			return err
		}
		for i := range columns {
			if _, err := fmt.Fprintf(w, "| %s\t", cell(i)); err != nil {
				return err
			}
		}
		_, err := io.WriteString(w, "|\n")
		return err
	}
	if err := row(title, func(i int) string { return columns[i].title }); err != nil {
		return err
	}
	if err := row("---", func(int) string { return "---:" }); err != nil {
		return err
	}
	for s := range b.systems {
		if err := row(b.systems[s].name, func(i int) string { return cell(s, &columns[i]) }); err != nil {
			return err
		}
	}
	for a, name := range aims {
		if err := row(name, func(i int) string {
			if columns[i].aims == nil {
				return ""
			}
			return fmt.Sprintf("%.2f", columns[i].aims[a])
		}); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(b.out, "\n")
	return err
}

func median(rounds []round, of func(round) float64) float64 {
	values := make([]float64, 0, len(rounds))
	for _, r := range rounds {
		values = append(values, of(r))
	}
	slices.Sort(values)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}
