// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package integration tells the stories of users on a real Kubernetes API
// server, with the code of both binaries: the controller as the ServiceAccount
// that config/rbac grants rights to, the gateway without any Kubernetes
// credentials. One control plane serves all tests of the package; each test has
// namespaces of its own.
//
// When all tests have run, everything that Headgate wrote on the way (logs,
// statuses, events, metrics) is searched for the secrets that they used.
package integration
