// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package work runs what nobody waits for: asynchronous requests, schedules and
// events.
//
// # The way of a run
//
// Accept makes a run durable in the intake of the bus, where all accepts of a
// moment share one write. One replica drains the intake into the queue, in the
// order of acceptance. Each partition of the queue belongs to one replica at a
// time, by a lease; its board keeps a few words about every pending run and
// decides which is begun next. An attempt reads the run from the bus, goes on
// after the step that was finished last, and stores what came of it: a record in
// the run log, the run once more with the time of its next attempt, or a dead
// letter. What has ended is swept out of the queue up to the first run that has
// not; before the run log is trimmed, the queue is told of the rest that it has.
//
// # What holds
//
// An accepted run ends in a record, whatever becomes of the processes that work
// on it. A step that has finished is not repeated, unless it was the one under
// way when its process died; then its calls have the same Idempotency-Key. A flow
// has at most its concurrency limit under way, on all replicas together. Runs
// with one key go one at a time, in the order of acceptance, also over retries; one
// whose key cannot be told is not run: its caller is told, or, if it has none, it is
// given up.
// Namespaces take turns, and so do the flows of a namespace; none takes all
// slots. A run that ends its process again and again is given up.
//
// What runs under a lease is interrupted before the lease can be another's, so
// two replicas work on the same run at most for the time that a frozen process
// does not know that it was frozen. What a former owner has written, and the bus
// stores later, starts no run that has ended.
//
// A member of the bus may answer from what it knew before others went on without
// it. A run is taken over, or moved in the queue, by a write that such an answer
// fails; an owner that goes on with a run knows how many steps have finished. Until
// the answer fits, the run is read again.
//
// # Lifecycle and concurrency
//
// A Worker is made when the bus can be used, is told by Serve which flows there
// are, and runs until its context ends. It begins nothing new once the gateway
// drains, and leaves what has not ended by then to the next owner. Its methods
// may be called from any goroutine.
package work
