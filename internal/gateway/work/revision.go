// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"errors"
	"fmt"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// maxRevisions is how many earlier revisions stay linked: those that are being
// replayed at a time.
const maxRevisions = 16

// errRevision is why a run ends that wants an earlier revision of its flow.
var errRevision = errors.New("the revision that the run was to be replayed with cannot be run")

// revision names a program of a flow.
type revision struct {
	flow program.Key
	name string
}

// earlier is a revision that was linked while another was served, from which it
// has its secrets.
type earlier struct {
	served, flow *runner.Flow
}

// revision returns what a run is run with that wants a revision of its flow: what
// is served if that is it, or what it was, with the secrets of what is served.
// errRevision if there is no such thing any more.
func (w *Worker) revision(ctx context.Context, served *runner.Flow, name string) (*runner.Flow, error) {
	if name == "" || name == served.Revision() {
		return served, nil
	}
	key := revision{served.Program().Key, name}
	if known, ok := w.revisions.Get(key); ok {
		if e, ok := known.(earlier); ok && e.served == served {
			return e.flow, nil
		}
	}
	p, err := w.client.Revisions().Get(ctx, served.Program(), name)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return nil, fmt.Errorf("%w: it is not kept", errRevision)
	case errors.Is(err, bus.ErrRevision):
		return nil, fmt.Errorf("%w: %w", errRevision, err)
	case err != nil:
		return nil, err
	}
	f, err := w.o.Link(p)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errRevision, err)
	}
	w.revisions.Add(key, earlier{served, f})
	return f, nil
}
