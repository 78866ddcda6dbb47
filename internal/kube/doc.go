// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package kube is the thin glue between the reconcilers and controller-runtime:
// what every reconciler of this project needs, once.
//
//   - StatusWriter writes a status only when it changed, and from no outdated object.
//   - SetCondition, Summarize and RemoveCondition are the one way to conditions.
//   - Outcome turns an error into what the workqueue does with it.
//   - Emit turns changes of conditions into events, once per change.
//   - Grants decides whether a Flow may use a Credential, before anything that
//     the Credential refers to is read.
//   - Objects reads and watches the Secrets and ConfigMaps that something refers
//     to, and no others.
//   - RegisterFlowIndexes and the functions beside it find Flows by what they
//     refer to.
//   - NewController sets a controller up with the project's limits.
//
// Everything that only computes is pure and takes the time as an argument.
// Objects is the one thing here with a lifecycle: it is a manager.Runnable, and
// its methods may be called from any goroutine.
package kube
