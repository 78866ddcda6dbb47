// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"strings"
	"time"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

// The id of a run is a prefix that leads to its flow, and a part that cannot be
// guessed: 130 random bits, or a mark and a hash of what started the run, or a mark
// and 125 random bits. A run with a mark may be accepted more than once, and must
// not be started twice. The marks are no letters of base32.
const (
	idPrefixLength = 6
	idLength       = idPrefixLength + 26

	markTick   = '0'
	markEvent  = '1'
	markReplay = '8'
	markClaim  = '9'

	// repeatable are all marks.
	repeatable = string(markTick) + string(markEvent) + string(markReplay) + string(markClaim)
)

var lowerBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// IDPrefix is what the ids of a flow's runs begin with. Few flows share one.
func IDPrefix(flow program.Key) string {
	sum := sha256.Sum256([]byte(flow.String()))
	return lowerBase32.EncodeToString(sum[:5])[:idPrefixLength]
}

// NewID returns a new id for a run of the flow whose prefix that is.
func NewID(prefix string) string { return prefix + strings.ToLower(rand.Text()) }

// ParseID returns the prefix of an id, and whether it is one.
func ParseID(id string) (prefix string, ok bool) {
	if len(id) != idLength {
		return "", false
	}
	for _, c := range []byte(id) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return "", false
		}
	}
	return id[:idPrefixLength], true
}

// tickID names the run of a tick: whoever fires it, it is the same run.
func tickID(flow program.Key, uid string, tick time.Time) string {
	return derivedID(flow, markTick, uid, string(binary.BigEndian.AppendUint64(nil, uint64(tick.Unix()))))
}

// eventID names the run that an event starts: however often it is emitted, it is
// the same run.
func eventID(flow program.Key, uid, event string) string {
	return derivedID(flow, markEvent, uid, event)
}

// replayID names the run that starts a dead-lettered one again: however often
// that is asked for, it is the same run.
func replayID(of bus.Run) string { return derivedID(of.Flow, markReplay, "", of.ID) }

func derivedID(flow program.Key, mark byte, uid, of string) string {
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(uid))))
	h.Write([]byte(uid))
	h.Write([]byte(of))
	hash := lowerBase32.EncodeToString(h.Sum(nil))
	return IDPrefix(flow) + string(mark) + hash[:idLength-idPrefixLength-1]
}

// ClaimedID returns an id for the run of a request that is deduplicated: who is
// not told whether it was accepted sends it again, and then it may be accepted
// once more under the same id.
func ClaimedID(id string) string {
	return id[:idPrefixLength] + string(markClaim) + id[idPrefixLength+1:]
}

// isRepeatable tells whether the run may be accepted more than once: a tick, an
// event or a replay may start it again, or whoever has called for it.
func isRepeatable(id string) bool {
	return len(id) == idLength && strings.IndexByte(repeatable, id[idPrefixLength]) >= 0
}

// isClaimed tells whether the run is that of a request that is deduplicated.
func isClaimed(id string) bool { return len(id) == idLength && id[idPrefixLength] == markClaim }

// isTick tells whether a schedule has started the run.
func isTick(id string) bool { return len(id) == idLength && id[idPrefixLength] == markTick }
