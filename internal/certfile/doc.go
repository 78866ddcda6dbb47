// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package certfile serves a TLS certificate from two files that may be replaced
// at any time, as the kubelet replaces those of a mounted Secret.
//
// # Lifecycle
//
// A [Pair] is made of files, or of what was read from them before. It does
// nothing by itself: its owner calls [Pair.Reload] when it wants to know, at
// each handshake or from time to time. Files that cannot be used (a mount that is
// being replaced, a key that belongs to another certificate) leave the last good
// certificate in use. Connections that stand are not touched.
//
// # Concurrency
//
// A Pair is safe for concurrent use. A handshake never waits for a reload that
// another one does not ask for.
//
// # What is never shown
//
// Errors name the files and say what is wrong with them; nothing of a key gets
// into them.
package certfile
