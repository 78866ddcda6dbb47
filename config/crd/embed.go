// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package crd holds the CustomResourceDefinitions, so that the command line
// judges objects by the rules of the API server.
package crd

import "embed"

// Bases has one file for each definition, in the folder bases.
//
//go:embed bases/*.yaml
var Bases embed.FS
