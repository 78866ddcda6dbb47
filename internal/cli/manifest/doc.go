// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package manifest reads the objects of Headgate, and the Secrets, ConfigMaps
// and Namespaces that they refer to, from YAML files.
//
// # Purpose
//
// A [Reader] finds and reads files; [Join] makes one [Set] of them. What an API
// server would refuse is found here, with file and line: unknown fields,
// repeated keys, everything that the schemas and rules of the
// CustomResourceDefinitions forbid. Defaults are set as the API server sets them.
// Kinds that have nothing to do with Headgate are passed over, so that a folder
// may hold whatever else an installation consists of.
//
// A folder with a kustomization.yaml is read as kustomize would build it where
// that is simple: its namespace and its generators with literals count. Whatever
// else would change objects is an error, and "kubectl kustomize" the answer.
//
// # Concurrency
//
// A Reader keeps compiled schemas and is used from one goroutine. A Set is not
// changed after Join.
package manifest
