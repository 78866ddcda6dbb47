// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/headgate-io/headgate/internal/program"
)

// Backlog is what waits in the queue of a Flow; without the name of one, of the
// other Flows of the namespace; and without a namespace, of those of the others. A
// gateway of an earlier version counts that of other Flows to their namespace too.
type Backlog struct {
	Flow program.Key `json:"flow"`
	Runs int         `json:"runs"`
	// Bytes that are stored of these runs.
	Bytes int64 `json:"bytes"`
}

// TellBacklog tells all gateways what waits in a partition, in at most 64 KiB. Its owner tells it again and again; nobody stores it.
func (c *Client) TellBacklog(partition int, flows []Backlog) error {
	data, err := json.Marshal(flows)
	if err != nil {
		return fmt.Errorf("tell the backlog: %w", err)
	}
	if len(data) > maxSignal {
		return fmt.Errorf("tell the backlog: %w: %d bytes, limit %d", ErrTooLarge, len(data), maxSignal)
	}
	if err := c.usable(); err != nil {
		return fmt.Errorf("tell the backlog: %w", err)
	}
	if err := c.nc.Publish(subjectBacklog+strconv.Itoa(partition), data); err != nil {
		return fmt.Errorf("tell the backlog: %w", translate(err))
	}
	return nil
}

// HearBacklog calls handler, from one goroutine, with what the owners of
// partitions tell, this client's own words among them, until ctx is done.
func (c *Client) HearBacklog(ctx context.Context, handler func(partition int, flows []Backlog)) error {
	return c.hear(ctx, subjectBacklog+"*", Partitions, func(m *nats.Msg) {
		var flows []Backlog
		partition, err := strconv.Atoi(strings.TrimPrefix(m.Subject, subjectBacklog))
		if err = errors.Join(err, json.Unmarshal(m.Data, &flows)); err != nil || partition < 0 || partition >= Partitions {
			c.log.Warn("Ignoring a backlog that cannot be read", "subject", m.Subject, "error", err)
			return
		}
		handler(partition, flows)
	})
}

// Capacity returns how many bytes the queue holds of all Flows together.
func (q *Queue) Capacity(ctx context.Context) (int64, error) {
	info, err := q.c.streamInfo(ctx, streamQueue)
	if err != nil {
		return 0, fmt.Errorf("capacity of the queue: %w", err)
	}
	return info.Config.MaxBytes, nil
}
