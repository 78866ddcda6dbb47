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
//	lost       acknowledged, and never received or never ended
//	duplicate  received more than once under the same Idempotency-Key: at-least-once allows it
//	unstable   received under two Idempotency-Keys
//	unknown    received though it was not acknowledged: the gateway died before it could answer
//	reordered  received for the first time after a later one of the same caller
//	repeated   called by a first step again after the second had begun
//
// and fails if anything is lost, unstable, reordered or repeated.
package main
