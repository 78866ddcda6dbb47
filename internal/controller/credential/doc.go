// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package credential reconciles Credentials: it judges each by what its Secrets
// hold, with the compiler that Flows are judged by, and says in the status
// whether it can be used, by how many Flows it is, and when each key was last
// used.
//
// It watches Credentials, exactly the Secrets that they refer to, the Flows that
// refer to them, and the gateways' reports. It owns all conditions of a
// Credential. It never changes anything but that status, publishes nothing and
// needs no finalizer: Flows read Credentials themselves, so nothing waits for
// this controller.
package credential
