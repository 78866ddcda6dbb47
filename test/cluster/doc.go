// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cluster starts a real Kubernetes control plane (etcd and
// kube-apiserver, built from source by `make kube`) for tests and for the demo,
// and drives it as a user does: with kubectl, and as the ServiceAccounts that
// config/rbac grants rights to.
package cluster
