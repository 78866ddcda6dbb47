// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package subscription reconciles Subscriptions. This version of Headgate does
// not implement them: each is told so in its status, as a whole, so that nobody
// waits for events that will not come. It watches Subscriptions, owns all their
// conditions, and changes nothing else.
package subscription
