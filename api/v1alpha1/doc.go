// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 holds the three kinds of headgate.dev/v1alpha1: Flow,
// Credential and Subscription.
//
// The types import nothing but apimachinery, so that anyone can use them as a
// client library. Defaults are documented here but applied by the compiler,
// never written into an object: what users wrote stays what it is.
//
// +groupName=headgate.dev
// +kubebuilder:object:generate=true
package v1alpha1
