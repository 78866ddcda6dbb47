// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	benchCallers = 64
	benchPayload = 1024
)

// perSecond runs n operations from many callers and returns the rate.
func perSecond(b *testing.B, n int, operation func(i int) error) float64 {
	b.Helper()
	var next atomic.Int64
	var callers sync.WaitGroup
	start := time.Now()
	for range benchCallers {
		callers.Go(func() {
			for {
				i := int(next.Add(1))
				if i > n {
					return
				}
				if err := operation(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	callers.Wait()
	return float64(n) / time.Since(start).Seconds()
}

func benchEntry(i int) Entry {
	e := testEntry("orders", "run"+strconv.Itoa(i))
	e.Data = make([]byte, benchPayload)
	return e
}

// rawLog is the yardstick: a hand-written log with group commit, one append and
// one fdatasync for everything that waits.
type rawLog struct {
	f       *os.File
	mu      sync.Mutex
	waiting [][]byte
	done    chan struct{}
	err     *error
	busy    bool
}

func (l *rawLog) append(record []byte) error {
	l.mu.Lock()
	if l.done == nil {
		l.done, l.err = make(chan struct{}), new(error)
	}
	done, failed := l.done, l.err
	l.waiting = append(l.waiting, record)
	if !l.busy {
		l.busy = true
		go l.commit()
	}
	l.mu.Unlock()
	<-done
	return *failed
}

func (l *rawLog) commit() {
	var buf []byte
	for {
		l.mu.Lock()
		records, done, failed := l.waiting, l.done, l.err
		l.waiting, l.done, l.err = nil, nil, nil
		if len(records) == 0 {
			l.busy = false
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		buf = buf[:0]
		for _, r := range records {
			buf = binary.AppendUvarint(buf, uint64(len(r)))
			buf = append(buf, r...)
		}
		if _, err := l.f.Write(buf); err != nil {
			*failed = err
		} else {
			*failed = syscall.Fdatasync(int(l.f.Fd()))
		}
		close(done)
	}
}

// BenchmarkAccept compares durable accepts of 64 callers, 1 KiB each, with a raw
// group-commit log and with one synced message per accept, on the same disk in
// the same run. Rounds are interleaved, since disks have moods. Metrics:
// accepts/s, x-raw (aim: 0.7 and more) and x-plain (aim: 8 and more), and the
// first two while what was accepted is moved into the queue on the same disk.
func BenchmarkAccept(b *testing.B) {
	_, _, gateway := startBus(b)
	intake, _ := startIntake(b, gateway, IntakeOptions{})
	f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
	if err != nil {
		b.Fatal(err)
	}
	raw := &rawLog{f: f}
	b.Cleanup(func() { _ = f.Close() })
	const rounds = 5
	n := max(b.N/rounds, benchCallers)
	var alone, draining, log, plain float64
	id := 0
	accept := func() float64 {
		id += n
		return perSecond(b, n, func(i int) error { return intake.Accept(b.Context(), benchEntry(id+i)) })
	}
	for range rounds {
		alone += accept()
		log += perSecond(b, n, func(int) error { return raw.append(make([]byte, benchPayload)) })
		plain += perSecond(b, max(n/16, benchCallers), func(i int) error {
			e := benchEntry(i)
			e.Flow.Name = "plain"
			msg, err := gateway.queued(&e, false)
			if err == nil {
				_, err = gateway.publish(b.Context(), msg)
			}
			return err
		})
		stop := startDrain(b, gateway)
		drained(b, gateway)
		draining += accept()
		drained(b, gateway)
		stop()
	}
	b.ReportMetric(alone/rounds, "accepts/s")
	b.ReportMetric(alone/log, "x-raw")
	b.ReportMetric(alone/plain, "x-plain")
	b.ReportMetric(draining/rounds, "draining-accepts/s")
	b.ReportMetric(draining/log, "draining-x-raw")
}

// drained waits for the intake to be empty, and empties the queue.
func drained(b *testing.B, c *Client) {
	b.Helper()
	if err := c.WaitDrained(b.Context()); err != nil {
		b.Fatal(err)
	}
	if err := c.Queue().Purge(b.Context(), orders, 1<<40); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkDrain measures how fast accepted runs get into the queue.
func BenchmarkDrain(b *testing.B) {
	_, _, gateway := startBus(b)
	intake, _ := startIntake(b, gateway, IntakeOptions{})
	startDrain(b, gateway)
	b.ResetTimer()
	start := time.Now()
	const round = 20_000
	for done := 0; done < b.N; done += round {
		n := min(round, b.N-done)
		perSecond(b, n, func(i int) error { return intake.Accept(b.Context(), benchEntry(done+i)) })
		drained(b, gateway)
	}
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "runs/s")
}

// BenchmarkWrite measures writes of 1 KiB by so many callers.
func BenchmarkWrite(b *testing.B) {
	for _, callers := range []int{1, 8, 64, 512} {
		for name, operation := range map[string]func(c *Client, i int) error{
			"queue": func(c *Client, i int) error {
				_, err := c.Queue().Put(b.Context(), benchEntry(i%10_000), nil)
				return err
			},
			"record": func(c *Client, i int) error {
				r := testRecord("run" + strconv.Itoa(i%10_000))
				r.Result = fmt.Appendf(nil, "%q", strings.Repeat("x", benchPayload))
				return c.Runs().Put(b.Context(), r)
			},
		} {
			b.Run(fmt.Sprintf("%s/%d", name, callers), func(b *testing.B) {
				_, _, gateway := startBus(b)
				b.SetParallelism(max(1, callers/2))
				var next atomic.Int64
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if err := operation(gateway, int(next.Add(1))); err != nil {
							b.Error(err)
							return
						}
					}
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
			})
		}
	}
}
