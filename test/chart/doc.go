// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package chart tests charts/headgate with the real Helm on a real Kubernetes
// API server: what it renders, which values it refuses, that it grants and runs
// what config/default does, and that a release can be installed, used, upgraded
// and uninstalled. What an installed chart would run is run in this process, as
// the ServiceAccount and with the files that the chart gives it.
//
// One control plane serves all tests of the package. Only TestRelease installs
// something; the others render, or ask the API server with a dry run.
package chart
