// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"errors"
	"fmt"
	"hash/fnv"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/headgate-io/headgate/internal/program"
)

// Run names one run of a Flow.
type Run struct {
	Flow program.Key `json:"flow"`
	// ID is one token of a subject: up to 64 lower-case letters and digits.
	ID string `json:"id"`
}

// String returns "namespace/name/id".
func (r Run) String() string { return r.Flow.String() + "/" + r.ID }

// Partitions is the number of partitions that the Flows are spread over. It is
// fixed: a run stays where it was queued.
const Partitions = 16

// Partition returns the partition of a Flow, from 0. Every build computes the
// same.
func Partition(flow program.Key) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(flow.String())) // A hash never fails.
	return int(h.Sum32() % Partitions)
}

// Entry is one run that is waiting or going on.
type Entry struct {
	Run
	// Attempt counts from 1.
	Attempt int
	// Starts counts how often the run was started without coming to an end.
	Starts int
	// Due is when the run may start; zero means now. Milliseconds are kept.
	Due time.Time
	// Order is the place of the run among those with the same OrderKey, lower
	// first. DrainIntake sets it to the order of acceptance; an entry that is
	// put with 0 has its own sequence.
	Order uint64
	// OrderKey is a short hash of what the Flow orders its runs by, or empty:
	// up to 64 letters and digits.
	OrderKey string
	// Revision of the program that the run has to be run with, as
	// program.Revision names it; empty for the one that is served then.
	Revision string
	// Trigger is what started the run, for the run log.
	Trigger string
	// Accepted is when the run was. Milliseconds are kept.
	Accepted time.Time
	// Failure is why the last attempt failed; nil if there was none. Texts that
	// are too long are cut, and milliseconds are kept.
	Failure *Failure
	// Data is the request, in the gateway's own form.
	Data []byte
}

// Bounds of an entry.
const (
	maxRunID    = 64
	maxOrderKey = 64
	maxRevision = 64
	maxTrigger  = 256
	// maxFailureName bounds step and class of a failure, maxFailureMessage its
	// message, bytes: it is stored again with each attempt.
	maxFailureName    = 64
	maxFailureMessage = 512
	// MaxEntryData bounds Entry.Data, and the data of a checkpoint or record,
	// bytes: what fits in one message with everything around it.
	MaxEntryData = maxProgramSize - 64<<10
)

var token = regexp.MustCompile(`^[0-9A-Za-z]+$`)

func (r Run) validate() error {
	if _, err := programKey(r.Flow); err != nil {
		return fmt.Errorf("run: %w", err)
	}
	if len(r.ID) > maxRunID || !token.MatchString(r.ID) {
		return fmt.Errorf("run: id %q is not up to %d letters and digits", truncate(r.ID, maxRunID), maxRunID)
	}
	return nil
}

func (e *Entry) validate() error {
	if err := e.Run.validate(); err != nil {
		return err
	}
	switch {
	case e.Attempt < 1:
		return fmt.Errorf("run: attempt %d is below 1", e.Attempt)
	case e.Starts < 0:
		return fmt.Errorf("run: %d starts", e.Starts)
	case e.OrderKey != "" && (len(e.OrderKey) > maxOrderKey || !token.MatchString(e.OrderKey)):
		return fmt.Errorf("run: order key is not up to %d letters and digits", maxOrderKey)
	case e.Revision != "" && (len(e.Revision) > maxRevision || !token.MatchString(e.Revision)):
		return fmt.Errorf("run: revision is not up to %d letters and digits", maxRevision)
	case len(e.Trigger) > maxTrigger:
		return fmt.Errorf("%w: trigger of %d bytes, limit %d", ErrTooLarge, len(e.Trigger), maxTrigger)
	case len(e.Data) > MaxEntryData:
		return fmt.Errorf("%w: %d bytes, limit %d", ErrTooLarge, len(e.Data), MaxEntryData)
	}
	return nil
}

// Subjects of a run. Names are DNS labels, so each is one token.
func (r Run) queued() string { return flowQueue(r.Flow) + "run." + r.ID }

func (r Run) checkpoints() string { return flowQueue(r.Flow) + "step." + r.ID + "." }

func (r Run) checkpoint(n int) string { return r.checkpoints() + strconv.Itoa(n) }

func (r Run) record() string {
	return subjectRuns + r.Flow.Namespace + "." + r.Flow.Name + "." + r.ID
}

func (r Run) letter() string {
	return subjectDead + r.Flow.Namespace + "." + r.Flow.Name + "." + r.ID
}

// flowQueue is what the subjects of a Flow in the queue start with.
func flowQueue(flow program.Key) string {
	return partitionQueue(Partition(flow)) + flow.Namespace + "." + flow.Name + "."
}

// pendingRuns is the filter for the runs in the queue of a Flow, of a namespace with
// a key without a name, or of all with the zero key.
func pendingRuns(of program.Key) (string, error) {
	switch {
	case of == (program.Key{}):
		return subjectQueue + "*.*.*.run.*", nil
	case of.Name == "":
		return subjectQueue + "*." + of.Namespace + ".*.run.*", validLabel("namespace", of.Namespace)
	default:
		_, err := programKey(of)
		return flowQueue(of) + "run.*", err
	}
}

func partitionQueue(partition int) string {
	return subjectQueue + strconv.Itoa(partition) + "."
}

// parseQueued reads a subject of the queue: a run, or its checkpoint n.
func parseQueued(subject string) (r Run, step bool, n int, err error) {
	parts := strings.Split(strings.TrimPrefix(subject, subjectQueue), ".")
	bad := fmt.Errorf("subject %q does not name a run", subject)
	if len(parts) < 5 {
		return Run{}, false, 0, bad
	}
	r = Run{Flow: program.Key{Namespace: parts[1], Name: parts[2]}, ID: parts[4]}
	switch {
	case parts[3] == "run" && len(parts) == 5:
	case parts[3] == "step" && len(parts) == 6:
		step = true
		if n, err = strconv.Atoi(parts[5]); err != nil || n < 0 {
			return Run{}, false, 0, bad
		}
	default:
		return Run{}, false, 0, bad
	}
	if err := r.validate(); err != nil {
		return Run{}, false, 0, errors.Join(bad, err)
	}
	return r, step, n, nil
}
