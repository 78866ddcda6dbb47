// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var (
	// ErrNotFound is returned when a bucket has no value under a key.
	ErrNotFound = errors.New("not found on the bus")
	// ErrEnded is an ErrNotFound about a run that is not pending because it has
	// ended.
	ErrEnded = fmt.Errorf("%w: the run has ended", ErrNotFound)
	// ErrNotConnected is returned when an operation needs the server and the
	// client has no connection at this moment. Retry later.
	ErrNotConnected = errors.New("not connected to the bus")
	// ErrNoBucket is returned when a bucket does not exist (yet). The
	// controller creates buckets, see Client.MaintainBuckets.
	ErrNoBucket = errors.New("bucket does not exist")
	// ErrTooLarge is returned for a value above the limit of its bucket.
	ErrTooLarge = errors.New("value is too large for the bus")
	// ErrStoreKey is returned by Server.Start when the store folder was
	// written under another encryption key, or by something else.
	ErrStoreKey = errors.New("store was encrypted with another key")
	// ErrStoreInUse is returned by Server.Start when another process has the store
	// folder open.
	ErrStoreInUse = errors.New("store is in use by another process")
	// ErrStoreMode is returned by Server.Start of a server that is alone when the
	// store folder is that of a member of a cluster, and the other way round.
	ErrStoreMode = errors.New("store was written by another kind of server")
	// ErrClosed is returned after Client.Close.
	ErrClosed = errors.New("bus client is closed")
	// ErrUnseal is returned for a stored value that was not sealed with this
	// installation's key for its place: damaged, forged or moved.
	ErrUnseal = errors.New("stored value cannot be unsealed")
	// ErrUnfit is returned while the client is connected to a server that cannot
	// be used, see Client.Fit.
	ErrUnfit = errors.New("the NATS server cannot be used")
	// ErrNotSigned is returned for a stored program that the controller did not
	// put where it is.
	ErrNotSigned = errors.New("program was not signed by the controller")
	// ErrRevision is returned for an earlier revision of a Flow that is kept but
	// cannot be used: it was not put by the controller, this build cannot read it,
	// or it needs a secret that the Flow does not have any more.
	ErrRevision = errors.New("revision cannot be used")
	// ErrUnavailable is returned when the bus cannot take a write at this
	// moment, or did not say whether it did. The write may have happened.
	ErrUnavailable = errors.New("bus cannot store at this moment")
	// ErrFull is returned when there is no room for a write. Nothing was
	// written.
	ErrFull = errors.New("no room on the bus")
	// ErrChanged is returned for a write that rests on something which is not as
	// it was read. Nothing was written; read it again.
	ErrChanged = errors.New("not as it was read")
)

// translate maps the client library's errors to the ones above, keeping the
// original in the chain.
func translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrConnectionDraining):
		return fmt.Errorf("%w: %w", ErrClosed, err)
	case errors.Is(err, nats.ErrDisconnected), errors.Is(err, nats.ErrReconnectBufExceeded),
		errors.Is(err, nats.ErrConnectionReconnecting), errors.Is(err, nats.ErrNoServers):
		return fmt.Errorf("%w: %w", ErrNotConnected, err)
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("%w: %w", ErrNoBucket, err)
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		return fmt.Errorf("%w, or has no leader: %w", ErrNoBucket, err)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, nats.ErrNoResponders), refusedWith(err, codeNoLeader):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	default:
		return err
	}
}

// Codes of the server for a cluster, or a stream of it, that has no leader, for
// too few servers for the replicas that are asked for, for servers that are all
// full, and for a server that is no member of a cluster.
const (
	codeNoLeader    jetstream.ErrorCode = 10008
	codeNoPeers     jetstream.ErrorCode = 10005
	codeNoResources jetstream.ErrorCode = 10023
	codeAlone       jetstream.ErrorCode = 10074
)

// refusedWith tells whether the server refused something with one of the codes.
func refusedWith(err error, codes ...jetstream.ErrorCode) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && slices.Contains(codes, api.ErrorCode)
}
