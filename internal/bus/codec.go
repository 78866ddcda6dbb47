// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/headgate-io/headgate/internal/program"
)

// Entries are stored in a compact binary form, before sealing: a version byte,
// then fields in a fixed order, integers as varints, texts with their length in
// front (encoding/binary). An envelope is a version byte, the number of entries
// and the entries, each with its length in front.
const (
	entryVersion = 1
	// entryRevision is the version of an entry that names its revision, right
	// before its data: builds that do not know of that must not run it.
	entryRevision = 2
	// entryFailure is the version of an entry that says why its last attempt
	// failed, right behind its revision, which may be empty then.
	entryFailure    = 3
	envelopeVersion = 1
	// maxEnvelopeEntries bounds the entries of one envelope.
	maxEnvelopeEntries = 4096
)

var errDamaged = errors.New("stored value is damaged")

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendTime stores milliseconds; zero stays zero.
func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return binary.AppendVarint(b, 0)
	}
	return binary.AppendVarint(b, t.UnixMilli())
}

// appendEntry appends the stored form of e, which must be valid.
func appendEntry(b []byte, e *Entry) []byte {
	version := byte(entryVersion)
	switch {
	case e.Failure != nil:
		version = entryFailure
	case e.Revision != "":
		version = entryRevision
	}
	b = append(b, version)
	b = appendText(b, e.Flow.Namespace)
	b = appendText(b, e.Flow.Name)
	b = appendText(b, e.ID)
	b = binary.AppendUvarint(b, uint64(e.Attempt))
	b = binary.AppendUvarint(b, uint64(e.Starts))
	b = appendTime(b, e.Due)
	b = binary.AppendUvarint(b, e.Order)
	b = appendText(b, e.OrderKey)
	b = appendText(b, e.Trigger)
	b = appendTime(b, e.Accepted)
	if version >= entryRevision {
		b = appendText(b, e.Revision)
	}
	if version >= entryFailure {
		b = appendTime(b, e.Failure.Time)
		b = appendText(b, truncate(e.Failure.Step, maxFailureName))
		b = appendText(b, truncate(e.Failure.Class, maxFailureName))
		b = appendText(b, truncate(e.Failure.Message, maxFailureMessage))
	}
	b = binary.AppendUvarint(b, uint64(len(e.Data)))
	return append(b, e.Data...)
}

// entrySize is an upper bound of what appendEntry appends.
func entrySize(e *Entry) int {
	failure := 0
	if e.Failure != nil {
		failure = 2*maxFailureName + maxFailureMessage + 4*binary.MaxVarintLen64
	}
	return failure + len(e.Flow.Namespace) + len(e.Flow.Name) + len(e.ID) + len(e.OrderKey) + len(e.Revision) + len(e.Trigger) + len(e.Data) +
		1 + 12*binary.MaxVarintLen64
}

// decoder reads what the append functions wrote. The first error sticks.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) fail() {
	d.rest = nil
	if d.err == nil {
		d.err = errDamaged
	}
}

// version reads a version, which must be from 1 to newest.
func (d *decoder) version(newest byte) byte {
	if len(d.rest) == 0 {
		d.fail()
		return 0
	}
	v := d.rest[0]
	if v < 1 || v > newest {
		d.rest, d.err = nil, fmt.Errorf("%w: version %d, this build reads %d", errDamaged, v, newest)
		return 0
	}
	d.rest = d.rest[1:]
	return v
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// count reads a number that is at most limit.
func (d *decoder) count(limit int) int {
	v := d.uint()
	if v > uint64(limit) {
		d.fail()
		return 0
	}
	return int(v)
}

// bytes reads a text of at most limit bytes; it is part of the input.
func (d *decoder) bytes(limit int) []byte {
	n := d.count(limit)
	if n > len(d.rest) {
		d.fail()
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) time() time.Time {
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.fail()
		return time.Time{}
	}
	d.rest = d.rest[n:]
	if v == 0 {
		return time.Time{}
	}
	return time.UnixMilli(v)
}

// Counters beyond this are damage.
const maxCounter = 1 << 30

// decodeEntry reads the stored form of an entry. Data is part of the input.
func decodeEntry(b []byte) (Entry, error) {
	d := decoder{rest: b}
	version := d.version(entryFailure)
	var e Entry
	e.Flow = program.Key{Namespace: string(d.bytes(maxSubdomain)), Name: string(d.bytes(maxSubdomain))}
	e.ID = string(d.bytes(maxRunID))
	e.Attempt = d.count(maxCounter)
	e.Starts = d.count(maxCounter)
	e.Due = d.time()
	e.Order = d.uint()
	e.OrderKey = string(d.bytes(maxOrderKey))
	e.Trigger = string(d.bytes(maxTrigger))
	e.Accepted = d.time()
	if version >= entryRevision {
		e.Revision = string(d.bytes(maxRevision))
	}
	if version >= entryFailure {
		e.Failure = d.failure(e.ID)
	}
	e.Data = d.bytes(MaxEntryData)
	if d.err == nil && len(d.rest) > 0 {
		d.fail()
	}
	if d.err != nil {
		return Entry{}, d.err
	}
	if err := e.validate(); err != nil {
		return Entry{}, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return e, nil
}

// failure reads why the last attempt of a run failed.
func (d *decoder) failure(id string) *Failure {
	return &Failure{
		Time: d.time(), RunID: id, Step: string(d.bytes(maxFailureName)), Class: string(d.bytes(maxFailureName)),
		Message: string(d.bytes(maxFailureMessage)),
	}
}

// encodeEnvelope makes one envelope of entries that appendEntry made.
func encodeEnvelope(entries [][]byte) []byte {
	size := 1 + binary.MaxVarintLen64
	for _, e := range entries {
		size += binary.MaxVarintLen64 + len(e)
	}
	b := append(make([]byte, 0, size), envelopeVersion)
	b = binary.AppendUvarint(b, uint64(len(entries)))
	for _, e := range entries {
		b = binary.AppendUvarint(b, uint64(len(e)))
		b = append(b, e...)
	}
	return b
}

// decodeEnvelope is the inverse. The entries' data is part of the input.
func decodeEnvelope(b []byte) ([]Entry, error) {
	d := decoder{rest: b}
	d.version(envelopeVersion)
	n := d.count(maxEnvelopeEntries)
	// What an entry takes at least bounds the memory that a damaged count costs.
	if n > len(d.rest) {
		d.fail()
	}
	if d.err != nil {
		return nil, d.err
	}
	entries := make([]Entry, 0, n)
	for range n {
		part := d.bytes(maxPayload)
		if d.err != nil {
			return nil, d.err
		}
		e, err := decodeEntry(part)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	if len(d.rest) > 0 {
		return nil, errDamaged
	}
	return entries, nil
}
