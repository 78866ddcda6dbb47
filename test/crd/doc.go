// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package crd proves the CustomResourceDefinitions against a real API server:
// that it takes what the page of the API shows, as it is shown; that each bound,
// required field and CEL rule refuses what it should, with a message that a
// person understands; and that nothing is ever written into a spec.
//
// The tests are derived from the generated schemas, so that a field or a rule
// that is added without a case fails the suite: testdata must use every field,
// and the table of rules must hold every message.
//
// One API server, started by TestMain from KUBEBUILDER_ASSETS, serves the whole
// package. Tests change nothing on it but objects of their own namespace, so
// they run in any order and in parallel.
package crd
