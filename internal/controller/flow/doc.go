// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package flow reconciles Flows: it resolves what a Flow refers to, compiles it,
// publishes the program to the gateways, and says in the status what became of
// it.
//
// # What a reconciliation does
//
//  1. Resolve: Credentials that may be used (grants are checked before anything
//     that a Credential refers to is read), then Secrets and ConfigMaps, and the
//     older Flow that claims the same route.
//  2. Compile.
//  3. Publish. A spec that does not compile leaves the last good program
//     serving, with its Secrets and Credentials resolved anew, so that rotation
//     and revocation count. A reference that does not resolve publishes a program
//     that answers 503. Nothing is written when the bus holds that already.
//  4. Observe: which gateways serve what was published.
//  5. Status: conditions, URL, revision, gateways, runs; written once, only when
//     changed. Events for transitions.
//
// Reconciling is level-triggered and works on what is in memory: with unchanged
// inputs nothing is compiled and nothing is called.
//
// # Watches
//
// Flows (spec, deletion, the annotation headgate.dev/requestedAt, and rivals for
// a route), Credentials, labels of Namespaces, exactly the Secrets and ConfigMaps
// that are referred to, and the gateways by way of package fleet.
//
// # What it never does
//
// It never changes anything but the status of a Flow, and needs no finalizer: a
// program whose Flow is gone is withdrawn when the deletion is seen, or after the
// next start. It owns all conditions of a Flow.
package flow
