// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

// The tests are about what comes with the first gateway that serves hmac.
func init() { hmacServed = true }
