// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package bussecret looks after the bus Secret: everything random or signed that
// the bus needs. The controller makes it when it is missing, so that no key is
// rendered by a chart or drifts under a GitOps tool, and renews the server's
// certificate in it.
//
// What protects stored data or identifies a party is never replaced: a Secret
// whose content cannot be used is an error for a person to look at, not a reason
// to generate new keys that nothing on disk could be read with.
//
// A Keeper has no lifecycle of its own: whoever needs the material calls it, and
// again from time to time. It may be called from several goroutines and
// processes; the API server decides who wins.
package bussecret
