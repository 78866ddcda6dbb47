// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package controller tells user stories about the controllers: they run as they
// do in a cluster, with the rights of config/rbac, on a real API server and a
// real bus. What stands in for the gateways follows the bus and beats, and serves
// nothing. Stories share one installation and have a namespace each; those that
// break the installation put it right again.
package controller
