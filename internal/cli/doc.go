// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cli is the command headgate, which is kubectl headgate under the name
// kubectl-headgate.
//
// # Purpose
//
// [Main] runs one command line. The commands work on YAML files and need no
// cluster; they use the compiler of the controllers, so that what they accept
// the cluster accepts. Package manifest reads the files. Only runs talks to an
// installation: to its bus, as a gateway would.
//
// # Lifecycle
//
// Main returns the exit status when the command is done. A command that serves
// runs until its context ends.
//
// # Concurrency
//
// Commands share nothing; Main may be called concurrently.
package cli
