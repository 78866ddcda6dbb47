// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fleet is what the controller knows of the gateways, and how it reaches
// them: the programs that the bus holds, the replicas that live and what they
// serve, and what they report about runs and credentials.
//
// # Lifecycle
//
// A Fleet is a manager.Runnable of the leader. It connects to the bus, follows
// its three buckets and mirrors what the reconcilers need in memory, so that
// asking costs no call; it reconnects for ever, and begins anew when the bus
// Secret holds another identity. After the first synchronization, and after the
// bucket of programs was lost, every Flow is reconciled: what is missing is
// published again, and what no Flow stands for any more is withdrawn.
//
// # Who is told what
//
// FlowSource and CredentialSource enqueue what a reconciler has to look at
// again. A heartbeat that only advances costs the Flows that wait for it and no
// others; a replica that comes or goes concerns every Flow. Such waves have low
// priority, so that an edit overtakes them. Counters are told at most once every
// five seconds per Flow.
//
// # Link
//
// A short interruption, such as a gateway that restarts with the bus inside,
// changes nothing in any status. After ten seconds the Link is lost, and every
// Flow says so.
//
// All methods may be called from any goroutine.
package fleet
