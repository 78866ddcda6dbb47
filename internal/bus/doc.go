// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package bus carries what controller and gateways tell each other: compiled
// programs one way, heartbeats and reports the other way.
//
// # Engine
//
// The bus is NATS JetStream. A Server runs it inside the gateway's process,
// with every write synced to disk and everything at rest encrypted; a Client
// talks to it in-process, to another gateway's listener over TLS, or to an
// external server, by the same code.
//
// # Buckets
//
//   - programs: one sealed program per Flow, written by the controller only.
//   - gateways: one heartbeat per gateway replica; entries expire by themselves.
//   - reports: run counters and credential use, per object and replica.
//
// Names on the wire follow the key-value convention of NATS (stream KV_<bucket>,
// subjects $KV.<bucket>.<key>), so that its tools can be used to look at them.
//
// # Acknowledgement by watermark
//
// Every write to a bucket has a revision, its sequence in the bucket's stream.
// A gateway that has linked everything up to revision N says so once in its
// heartbeat, together with the few programs it refused; Heartbeat.Ack tells for
// a Flow whether a replica serves it. The cost of acknowledging does not grow
// with the number of Flows. Revisions start anew when a bucket is lost, so each
// bucket also has an incarnation, and revisions of different incarnations are
// never compared.
//
// # Trust
//
// Controller and gateways are different users of the server. A gateway can read
// programs but not write, delete or purge them, and neither can read the
// other's replies. Programs are sealed with a key that only controller and
// gateways hold; the name of the Flow is part of what is authenticated. See
// Material for the keys and where they live.
//
// # Lifecycle and concurrency
//
// Server.Start and the Watch and Maintain methods block until their context is
// done. A Client reconnects for ever until Close. All methods of Server, Client
// and the bucket types may be called from any goroutine; a watch calls its
// handler from one goroutine, in the order of revisions.
package bus
