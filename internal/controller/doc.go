// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package controller puts the controllers together: it makes the manager with
// what all of them share (indexes, the watcher of Secrets and ConfigMaps, the
// connection to the bus) and runs it. The reconcilers are in the packages below;
// cmd/controller turns flags into Options.
//
// Run may be called several times in one process, for tests, with a Registerer
// each.
package controller
