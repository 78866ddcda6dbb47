// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/blang/semver/v4"
	"github.com/nats-io/nats.go"
)

// Versions of a NATS server: the first that can be used, because earlier ones
// lose what they acknowledged or lack what is needed; the first that one should
// use; and the first that writes batches to one disk with few syncs.
var (
	minServer         = semver.MustParse("2.12.1")
	recommendedServer = semver.MustParse("2.14.0")
	batchesServer     = semver.MustParse("2.15.0")
)

const (
	// safeReplicas is how many servers of a cluster keep a message, so that what
	// was acknowledged survives the loss of any one.
	safeReplicas = 3
	// subjectVarz is where the servers of a cluster tell their settings to whom
	// they permit.
	subjectVarz = "$SYS.REQ.SERVER.PING.VARZ"
	// varzQuiet is how long nobody else has to answer for the answers to be
	// complete.
	varzQuiet = time.Second
)

// unfit returns why a server cannot be used, or nil.
func unfit(versionText string, payload int64) error {
	version, err := semver.ParseTolerant(versionText)
	if err != nil {
		return fmt.Errorf("%w: it says that its version is %q", ErrUnfit, versionText)
	}
	if version.LT(minServer) {
		return fmt.Errorf("%w: it has version %s, and durable runs need %s", ErrUnfit, version, minServer)
	}
	if payload < maxPayload {
		return fmt.Errorf("%w: its max_payload is %d bytes, and programs and runs need %d", ErrUnfit, payload, int64(maxPayload))
	}
	return nil
}

// CheckServer looks at a server that this project does not run, once the streams
// exist, and returns what an operator should know about it: how it could be more
// durable. Whether it can be used at all is known as soon as it is connected, see
// Fit.
func (c *Client) CheckServer(ctx context.Context) (findings []string, err error) {
	if err := c.usable(); err != nil {
		return nil, fmt.Errorf("check the server: %w", err)
	}
	version, err := semver.ParseTolerant(c.nc.ConnectedServerVersion())
	if err != nil {
		return nil, fmt.Errorf("check the server: version %q: %w", c.nc.ConnectedServerVersion(), err)
	}
	info, err := c.streamInfo(ctx, streamIntake)
	if err != nil {
		return nil, fmt.Errorf("check the server: %w", err)
	}
	findings = judgeServer(version, info.Config.Replicas)
	return append(findings, c.checkSync(ctx)...), nil
}

func judgeServer(version semver.Version, replicas int) (findings []string) {
	switch {
	case version.LT(recommendedServer):
		findings = append(findings, fmt.Sprintf("the server has version %s; %s or later is recommended", version, recommendedServer))
	case version.LT(batchesServer) && replicas < safeReplicas:
		findings = append(findings, fmt.Sprintf("the server has version %s; from %s on it writes many messages to one disk with fewer syncs", version, batchesServer))
	}
	if replicas < safeReplicas {
		findings = append(findings, fmt.Sprintf("streams have %d replicas: runs are as durable as one disk; %d keep them on two at least", replicas, safeReplicas))
	}
	return findings
}

// varz is what is read of a server's settings.
type varz struct {
	Server struct {
		Name string `json:"name"`
	} `json:"server"`
	Data *struct {
		JetStream struct {
			Config *struct {
				SyncInterval time.Duration `json:"sync_interval"`
				SyncAlways   bool          `json:"sync_always"`
			} `json:"config"`
		} `json:"jetstream"`
	} `json:"data"`
}

// checkSync returns which servers do not sync before they acknowledge.
func (c *Client) checkSync(ctx context.Context) []string {
	const unknown = `sync_interval of the server was not verified: with anything but "always" a power cut of all its members loses what was acknowledged last`
	answers, err := c.askAll(ctx, subjectVarz)
	if err != nil || len(answers) == 0 {
		// Most installations do not permit it.
		return []string{unknown}
	}
	var findings []string
	stores := 0
	for _, answer := range answers {
		var v varz
		if json.Unmarshal(answer.Data, &v) != nil || v.Data == nil || v.Data.JetStream.Config == nil {
			// A server without JetStream stores nothing.
			continue
		}
		stores++
		if o := v.Data.JetStream.Config; !o.SyncAlways {
			findings = append(findings, fmt.Sprintf(
				`sync_interval of server %s is %s: a power cut of all servers loses what was acknowledged meanwhile; set it to "always"`, v.Server.Name, o.SyncInterval))
		}
	}
	if stores == 0 {
		return []string{unknown}
	}
	return findings
}

// askAll returns the answers of everybody who answers a request.
func (c *Client) askAll(ctx context.Context, subject string) ([]*nats.Msg, error) {
	sub, err := c.nc.SubscribeSync(c.nc.NewInbox())
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }() // Fails when the connection is closed already.
	if err := c.nc.PublishRequest(subject, sub.Subject, nil); err != nil {
		return nil, err
	}
	var answers []*nats.Msg
	for {
		quiet, cancel := context.WithTimeout(ctx, varzQuiet)
		answer, err := sub.NextMsgWithContext(quiet)
		cancel()
		switch {
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			return answers, nil
		case err != nil:
			return nil, err
		case len(answer.Data) == 0:
			// Nobody is there who could answer.
			return answers, nil
		}
		answers = append(answers, answer)
	}
}

// Fit returns ErrUnfit, and why, while the client is connected to a server that
// is too old or takes too little at once. Such a connection is used for nothing.
func (c *Client) Fit() error {
	if err := c.refusal.Load(); err != nil {
		return *err
	}
	return nil
}

// judge looks at the server of a new connection.
func (c *Client) judge(nc *nats.Conn) error {
	err := unfit(nc.ConnectedServerVersion(), nc.MaxPayload())
	if err == nil {
		c.refusal.Store(nil)
		return nil
	}
	c.refusal.Store(&err)
	return err
}

// explain says what to do about an attempt that failed for a reason that is hard
// to understand.
func explain(err error) error {
	record, ok := errors.AsType[tls.RecordHeaderError](err)
	if ok && string(record.RecordHeader[:]) == "INFO " {
		return fmt.Errorf("the server speaks before the TLS handshake: set handshake_first in its tls block, or begin the URL with nats://: %w", err)
	}
	return err
}
