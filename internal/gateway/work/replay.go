// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/headgate-io/headgate/internal/bus"
)

// RevisionFailed is, for Replay, the revision that has given a run up.
const RevisionFailed = "failed"

// ErrNoRevision is returned for a run that is to be replayed with a revision of
// its flow that is not kept, or cannot be run any more.
var ErrNoRevision = errors.New("the revision cannot be run")

// Replay starts a dead-lettered run again, from its first step, and removes the
// dead letter. It returns the id of the new run, which runs the flow as it is
// served then or, if revision is not empty, that revision of it: its name, or
// RevisionFailed. ErrNotFound of package bus when there is no such letter, and
// ErrNoRevision when there is no such revision. After any other error it may be
// asked again: a letter that is replayed twice is the same new run. The intake
// must be running.
func Replay(ctx context.Context, client *bus.Client, intake *bus.Intake, run bus.Run, revision string) (id string, err error) {
	letter, err := client.Dead().Get(ctx, run)
	if err != nil {
		return "", fmt.Errorf("replay: %w", err)
	}
	if revision, err = chosen(ctx, client, &letter, revision); err != nil {
		return "", fmt.Errorf("replay run %s: %w", run, err)
	}
	again := bus.Run{Flow: run.Flow, ID: replayID(run)}
	// What was accepted before its letter could be removed goes on. If it is still
	// on its way to the queue, it meets itself there.
	_, err = find(ctx, client, again)
	if errors.Is(err, bus.ErrNotFound) {
		err = intake.Accept(ctx, bus.Entry{
			Run: again, Attempt: 1, OrderKey: letter.OrderKey, Trigger: letter.Trigger, Accepted: time.Now(), Data: letter.Data,
			Revision: revision,
		})
	}
	if err != nil {
		return "", fmt.Errorf("replay run %s: %w", run, err)
	}
	if err := client.Dead().Delete(ctx, run); err != nil {
		return again.ID, fmt.Errorf("run %s goes on as %s, but its dead letter is still there: %w", run, again.ID, err)
	}
	return again.ID, nil
}

// chosen returns the name of the revision that a letter is to be replayed with,
// empty for the one that is served then.
func chosen(ctx context.Context, client *bus.Client, letter *bus.Letter, revision string) (string, error) {
	if revision == RevisionFailed {
		if revision = letter.GivenUpBy; revision == "" {
			return "", fmt.Errorf("%w: it is not known which one has given the run up", ErrNoRevision)
		}
	}
	if revision == "" {
		return "", nil
	}
	served, _, err := client.Programs().Get(ctx, letter.Flow)
	if errors.Is(err, bus.ErrNotFound) {
		return "", fmt.Errorf("%w: %s is not served", ErrNoRevision, letter.Flow)
	}
	if err != nil {
		return "", err
	}
	now, err := served.Revision()
	if err != nil {
		return "", err
	}
	kept, err := client.Revisions().List(ctx, letter.Flow)
	if err != nil {
		return "", err
	}
	if revision != now && !slices.Contains(kept, revision) {
		return "", fmt.Errorf("%w: there is no %s of %s any more; it is %s now, and of the earlier ones there are: %s",
			ErrNoRevision, revision, letter.Flow, now, cmp.Or(strings.Join(kept, ", "), "none"))
	}
	if revision != now {
		_, err = client.Revisions().Get(ctx, served, revision)
	}
	if errors.Is(err, bus.ErrRevision) {
		return "", fmt.Errorf("%w: %w", ErrNoRevision, err)
	}
	return revision, err
}
