// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Command bench compares the gateway with other ways of doing the same work over
// loopback: a webhook with Basic authentication becomes a mapped call to a pet
// store that is signed with an API key, and its answer is mapped into a 201.
//
// The systems are
//
//   - headgate: the gateway's binary as it is run in a cluster, with its bus, its
//     access log (written to a file) and the flow of testdata/flow.yaml, compiled
//     and put on the bus as the controller does it;
//   - headgate, log-level warn: the same without a line per request;
//   - net/http: a handler written by hand for this one flow;
//   - nginx and HAProxy: they check the caller's header and pass everything on as
//     it is, without looking into the body. They are what the network costs, and
//     are left out where they are not installed.
//
// Each round measures every system once in each case, one after the other, so
// that what else the machine does meets all of them; figures are medians over
// rounds, and ratios medians of the ratios within a round. Absolute figures
// depend on the machine and on its day: the load generator, the system and the
// upstream share its processors. Quote ratios.
//
// CPU time is what the kernel accounts to the processes of the system, user and
// system time together. RSS is their resident memory: idle means after
// the first request; under load is the largest that was seen
// after a case.
package main
