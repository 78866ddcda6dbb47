// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package upstream holds small real services that samples, tests and the demo
// call: a pet store after the Swagger Petstore, a push notification service after
// Pushover, a warehouse that honors Idempotency-Key, a CRM whose changes are read
// in pages, and a newsletter that they are written to. They check their API keys
// as the real ones do, and keep what they were sent in memory. Handlers are safe
// for concurrent use.
package upstream
