// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Command chaos kills a gateway again and again while callers send it
// asynchronous requests, and tells what became of every one of them.
//
//	go run ./test/chaos --gateway bin/gateway --cycles 30
//
// It is the observer outside the gateway: it counts what was acknowledged to its
// callers, what its own upstream received, and how each run ended. Every request
// carries a number, and each caller's requests share a concurrency key, so they
// must arrive in order. At the end it prints
//
//	ok         acknowledged, received, and ended well
//	open       acknowledged, and its end is not known; as bad as the next
//	lost       acknowledged, and never received, or ended otherwise
//	duplicate  received more than once under the same Idempotency-Key: at-least-once allows it
//	unstable   received under two Idempotency-Keys
//	unknown    received though it was not acknowledged: the gateway died before it could answer
//	reordered  received for the first time after a later one of the same caller
//	repeated   called by a first step again after the second had begun
//	overlapped called while another call with the same concurrency key was under way
//
// and fails if anything is open, lost, unstable, reordered, repeated or
// overlapped.
//
// SIGKILL takes nothing from the page cache, and so cannot tell whether what was
// acknowledged had been synced. With --power-cuts the store is on an ext4 file
// system of its own, which is shut down without its journal (EXT4_IOC_SHUTDOWN)
// when the gateway has been stopped, and before it is killed, and mounted again:
// what was not synced is gone.
// With --full-disk that file system is small and is filled: callers must be
// refused with 503 and Retry-After while runs that somebody waits for go on and
// /readyz says why, and with room again everything goes on by itself. Both need
// root, losetup and mkfs.ext4, and run in a mount namespace of their own.
//
// # A cluster
//
// With --cluster-faults three gateways are one JetStream cluster, each in a
// network namespace of its own, which the observer makes and joins; nothing is
// seen of them outside. The observer is the router between the members, so that
// it reaches all of them whatever they hear of each other. Faults come in an
// order and at moments that the seed decides:
//
//	kill one, two, all   SIGKILL at the same moment; each starts again a while later
//	kill leader          the same for who leads the intake
//	isolate              what a member sends the others, and they send it, is dropped
//	deafen, mute         only the one, or only the other
//	outlast              isolate for longer than a lease and an election last
//	part two             what two members send each other is dropped
//	isolate and kill     of the other two one is killed: nobody has a majority
//	narrow               64 to 1024 kbit/s to a member, with a long queue before them
//
// Callers turn to any member, and send a request that was not acknowledged again
// to whichever, as senders do; the flows know it by its number
// (webhook.deduplicate). One that was acknowledged must not have been taken by a
// member that was in the minority all the while. The test also tells how long
// callers wait after a fault until a request is acknowledged. It needs root, ip
// and tc (Debian: iproute2).
package main
