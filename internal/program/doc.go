// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package program defines what a Flow becomes once it is compiled: plain
// structs that the compiler writes, the bus carries and the runner links.
//
// A Program holds everything that serving its Flow needs, so that a gateway
// asks nobody else at run time. Secret material lives in one field only, the
// keyring; everything else refers to it by identifier. JSON of a Program
// therefore never shows a secret; only Encode, whose output is sealed by the
// bus, carries the keyring.
//
// The package also fixes the vocabulary of expressions: which variables exist
// at which place of a Flow, and their types (see Scope).
//
// Programs are immutable by convention: whoever has decoded or compiled one
// may share it between goroutines, and nobody changes it afterwards.
package program
