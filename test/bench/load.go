// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// load sends the same request over and over, on each connection the next one
// when the answer to the last one has come. It is not net/http: a generator
// should take little of the processors that it shares with what it measures.
type load struct {
	address     string
	request     []byte
	status      int
	connections int
}

// outcome of a load.
type outcome struct {
	// latencies in order.
	latencies []time.Duration
	took      time.Duration
}

func (o *outcome) perSecond() float64 { return float64(len(o.latencies)) / o.took.Seconds() }

// percentile returns the latency that p of 100 requests did not exceed.
func (o *outcome) percentile(p int) time.Duration {
	if len(o.latencies) == 0 {
		return 0
	}
	return o.latencies[min(len(o.latencies)*p/100, len(o.latencies)-1)]
}

// run sends for a while, on each connection at least once. Any answer that is not the one expected ends it.
func (l *load) run(ctx context.Context, d time.Duration) (outcome, error) {
	group, ctx := errgroup.WithContext(ctx)
	perConnection := make([][]time.Duration, l.connections)
	started := time.Now()
	for i := range perConnection {
		group.Go(func() error {
			var err error
			perConnection[i], err = l.connection(ctx, started.Add(d))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return outcome{}, err
	}
	o := outcome{took: time.Since(started), latencies: slices.Concat(perConnection...)}
	slices.Sort(o.latencies)
	return o, nil
}

// connection sends on one connection.
func (l *load) connection(ctx context.Context, until time.Time) (latencies []time.Duration, err error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.address)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closed(conn)) }()
	defer context.AfterFunc(ctx, func() { _ = closed(conn) })()
	reader := bufio.NewReader(conn)
	for now := time.Now(); len(latencies) == 0 || now.Before(until); {
		if _, err := conn.Write(l.request); err != nil {
			return nil, err
		}
		if err := l.answer(reader); err != nil {
			return nil, err
		}
		end := time.Now()
		latencies = append(latencies, end.Sub(now))
		now = end
	}
	return latencies, nil
}

// answer reads one answer.
func (l *load) answer(r *bufio.Reader) error {
	m, err := readMessage(r)
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(m.start, " ")
	code, _, _ := strings.Cut(rest, " ")
	if status, err := strconv.Atoi(code); err != nil || status != l.status {
		body, _ := io.ReadAll(io.LimitReader(r, int64(min(m.length, 512)))) // the error tells enough without it
		return fmt.Errorf("%d was expected, and the answer is %s: %s", l.status, m.start, body)
	}
	_, err = r.Discard(m.length)
	return err
}

// message is the head of an HTTP/1.1 message, as far as the bench needs it.
type message struct {
	start  string
	length int
	// keyed is true when the API key of the pet store is among the fields.
	keyed bool
}

var apiKeyField = []byte(strings.ToLower(apiKeyName) + ": " + apiKey)

// readMessage reads a head. It knows messages with a Content-Length only, which
// is what all the systems send here.
func readMessage(r *bufio.Reader) (message, error) {
	m := message{length: -1}
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return m, err
		}
		line = bytes.TrimRight(line, "\r\n")
		switch {
		case m.start == "":
			m.start = string(line)
			continue
		case len(line) == 0:
			if m.length < 0 {
				return m, fmt.Errorf("no length: %s", m.start)
			}
			return m, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case len(name) == len("Content-Length") && bytes.EqualFold(name, []byte("Content-Length")):
			if m.length, err = strconv.Atoi(string(textproto.TrimBytes(value))); err != nil {
				return m, err
			}
		case len(line) == len(apiKeyField) && bytes.EqualFold(line, apiKeyField):
			m.keyed = true
		}
	}
}
