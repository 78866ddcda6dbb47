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
//   - revisions: what earlier programs of a Flow were, without their secrets.
//   - gateways: one heartbeat per gateway replica; entries expire by themselves.
//   - reports: run counters and credential use, per object and replica.
//   - cache, seen: values that flows store, and ids that must not be taken twice.
//   - leases, ticks: which replica looks after what, and what schedules did last.
//
// Names on the wire follow the key-value convention of NATS (stream KV_<bucket>,
// subjects $KV.<bucket>.<key>), so that its tools can be used to look at them.
//
// # Durable runs
//
// A run that was accepted is never lost, and its record can be read later:
//
//   - INTAKE has what was accepted. Many accepts share one message, an envelope,
//     and so one sync of the disk; see Intake.
//   - QUEUE has the runs that wait or go on, in the order of acceptance, and their
//     checkpoints. One replica at a time moves envelopes there, see DrainIntake.
//     Each Flow belongs to one of a fixed number of partitions, and the replica
//     with the lease of a partition follows it, see Queue.Follow.
//   - RUNS has the records of runs that have ended, DEAD the requests of those
//     that were given up.
//
// A run that has ended stays in QUEUE until everything of its Flow before it has.
// Its record tells that it has ended; before records are removed, and when it stays
// for long, that is stored in QUEUE instead of the run, see Queue.PutEnded.
//
// Everything in them is sealed and bound to its subject, but for what the owner of
// a partition must know to order its runs: Flow, id, attempt, due time and a hash.
// A stream that is full refuses and drops nothing, but for the oldest in RUNS;
// shares has how much of the store each may fill. What is removed is removed in bulk, because single messages
// cost a sync each to delete. A write may be stored although its answer was lost:
// whoever reads must bear to see the same thing twice.
//
// # In a cluster
//
// Who leads a stream changes, and members are behind at times. A watch may read
// from a member that is: it counts as synced once it has what the leader had. A
// write that got no answer may be stored seconds later, when a network heals, and
// so by a gateway that owns the partition no more (Queue.LateWrites): runs are
// queued only where they are not yet, and looked up in RUNS before they start.
//
// A member that led a stream, was parted from the others and has not heard yet
// that another leads it answers reads for about a second after the network heals,
// from what it had. It can store nothing. So whoever takes runs over goes by what
// a write has confirmed: Queue.Follow reads up to a mark of its own,
// Runs.ConfirmNone stores one if there is no record, and Queue.PutUnchanged stores
// a run if its checkpoints are those that were read. Marks are the messages
// queue.<partition>.mark and runs.mark, one of each, empty.
//
// # Faults
//
// JetStream does not answer writes when its disk fails, and not again before it is
// started anew. Writes fail at once while others get no answer, see CheckWrites; a
// Server whose store takes no writes waits for the volume and starts over, with
// everything that was acknowledged.
//
// # Cluster
//
// Three or five servers form one JetStream cluster, see ClusterOptions; what is
// acknowledged is then on the disks of most of them. What one member has may be
// less: reads that decide something are answered by the leader of a stream, or
// confirmed by a write where a former leader's answer would do harm, and a watch
// counts as synced only when it has seen the last message that the leader has.
// Leases end by the clocks of the members, which must agree within a second.
// Without a majority nothing is stored or read (ErrUnavailable), and CheckCluster
// says so. The store of a server that was alone is never opened by a member: it
// would be deleted; Server.Move copies what is in it.
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
// other's replies or make up answers. The streams of runs are the gateways' own,
// but they can neither make nor remove them. Programs are sealed with a key that
// only controller and gateways hold; the name of the Flow is part of what is
// authenticated.
//
// A gateway that was captured cannot give programs to the others, even as a
// member of the cluster that holds the bucket: the controller signs each program,
// and each marker of a deleted one, for its place, which is the incarnation, the
// name and the revision. So an earlier program cannot be put in the place of a
// later one either. An earlier revision is signed for its name, and is run only
// by a replayed run that asks for it, with the secrets of today. Others refuse what
// is not signed and keep what they have; the controller notices and puts things
// right. The signature is a header, and is insisted on when the Secret has the key
// that verifies it: the Secret of an earlier version gets that key when every
// program has been signed.
//
// Gateways do trust each other with runs, heartbeats and reports: they are one
// user. See Material for the keys and where they live.
//
// # Lifecycle and concurrency
//
// Server.Start and the Watch and Maintain methods block until their context is
// done. A Client reconnects for ever until Close. All methods of Server, Client
// and the bucket types may be called from any goroutine; a watch calls its
// handler from one goroutine, in the order of revisions.
package bus
