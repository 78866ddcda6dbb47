// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package certtest makes certificates for tests, and lays them out as a mounted
// Secret. Nothing else imports it.
package certtest
