// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

// The states of a run; of a record those in which a run ends.
const (
	// StateQueued: it waits for its turn, or for its next attempt.
	StateQueued = "Queued"
	// StateRunning: an attempt is under way.
	StateRunning = "Running"
	// StateSucceeded: it has ended well.
	StateSucceeded = "Succeeded"
	// StateFailed: it has failed, and nobody tries again.
	StateFailed = "Failed"
	// StateDeadLettered: it has failed for good, and is kept to be replayed.
	StateDeadLettered = "DeadLettered"

	// StateSkipped is for a step whose condition was false.
	StateSkipped = "Skipped"
)
