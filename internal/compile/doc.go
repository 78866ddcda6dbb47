// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package compile turns a Flow into the program that gateways run, and says in
// plain words what is wrong with it if that is not possible.
//
// # Purpose
//
// [Compile] is a pure function: whoever calls it has resolved the references of
// the Flow and hands everything over in a [Source]. There is no client, clock,
// environment or log inside, so that the controller, the gateway's tests and
// the command line judge alike: what one accepts, the others accept.
// [FlowReferences], [CredentialReferences] and [ProgramReferences] say what has
// to be resolved; of other Flows, [FactsOf] says all that counts.
//
// # Result
//
// Everything that is wrong becomes a [Diagnostic]. Those of the condition
// Accepted are about the spec itself: there is no program then, and the last
// good one stays ([Rebind] keeps its secrets fresh). Those of the condition
// ResolvedRefs are about what the spec refers to: the program is Unavailable
// then, because to serve with less authentication than was asked for would be
// worse than not to serve.
//
// The compiler checks again what the schemas of the CRDs check, since not all
// objects come from an API server. It refuses fields that exist in the API but
// that this version does not implement; nothing is silently ignored.
//
// # Concurrency
//
// The functions keep no state and may be called concurrently. They do not
// change what they are given; programs share no memory with it.
package compile
