// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/cli/manifest"
	"github.com/headgate-io/headgate/internal/compile"
	"github.com/headgate-io/headgate/internal/gateway"
	"github.com/headgate-io/headgate/internal/program"
)

// publisher is to serve what the controllers are to a cluster: it compiles what
// files hold and puts it on the bus. It is used from one goroutine, but for
// heard.
type publisher struct {
	streams Streams
	reader  *manifest.Reader
	paths   []string
	gateway *gateway.Gateway
	// scheme of the webhooks' URLs.
	scheme   string
	material bus.Material
	log      *slog.Logger
	// busDir is where the user finds the keys of the bus, or empty.
	busDir string
	client *bus.Client
	// beats has the latest heartbeats that nobody has looked at.
	beats chan map[string]bus.Heartbeat

	// files are the last good ones by name.
	files map[string]*manifest.File
	// good are the last programs that compiled, revisions what the bus holds.
	good      map[types.NamespacedName]*program.Program
	revisions map[types.NamespacedName]uint64
}

// publish makes the gateway serve what files hold and says what changed. Files
// and Flows that are broken go on as they were.
func (p *publisher) publish(ctx context.Context, files []*manifest.File) error {
	files, findings := p.fallBack(files)
	set, repeated := manifest.Join(files)
	j := &judge{set: set}
	j.run()
	findings = append(append(findings, repeated...), j.findings...)
	manifest.Sort(findings)
	if err := printFindings(p.streams.Err, findings); err != nil {
		return err
	}
	programs, err := p.programs(j)
	if err != nil {
		return err
	}
	changed, err := p.put(ctx, programs)
	if err != nil {
		return err
	}
	return p.await(ctx, changed, programs)
}

// fallBack replaces files that are broken by what they were before, and returns
// what is wrong with them.
func (p *publisher) fallBack(files []*manifest.File) ([]*manifest.File, []manifest.Finding) {
	kept := make(map[string]*manifest.File, len(files))
	var findings []manifest.Finding
	for i, f := range files {
		findings = append(findings, f.Findings...)
		if last, ok := p.files[f.Name]; ok && f.Broken() {
			files[i] = last
		}
		kept[f.Name] = files[i]
	}
	p.files = kept
	return files, findings
}

// programs returns what should be served: the programs of the Flows that
// compile, and for the others their last good ones with secrets as they are now.
func (p *publisher) programs(j *judge) (map[types.NamespacedName]*program.Program, error) {
	programs := make(map[types.NamespacedName]*program.Program, len(j.set.Flows))
	good := make(map[types.NamespacedName]*program.Program, len(j.set.Flows))
	for _, name := range sorted(j.set.Flows) {
		if compiled, ok := j.programs[name]; ok {
			programs[name], good[name] = compiled, compiled
			continue
		}
		last, ok := p.good[name]
		if !ok || j.claimed(name, last) {
			continue
		}
		good[name] = last
		programs[name], _ = compile.Rebind(last, j.source(name))
		if _, err := fmt.Fprintf(p.streams.Err, "Flow %s is broken; its last good revision goes on\n", name); err != nil {
			return nil, err
		}
	}
	p.good = good
	return programs, nil
}

// claimed tells whether another Flow that compiles has the route of a program.
func (j *judge) claimed(name types.NamespacedName, last *program.Program) bool {
	for other, compiled := range j.programs {
		if other != name && other.Namespace == name.Namespace && last.Webhook != nil && compiled.Webhook != nil &&
			compiled.Webhook.Path == last.Webhook.Path {
			return true
		}
	}
	return false
}

// put writes programs to the bus, removes all others, and returns the names of
// those that changed.
func (p *publisher) put(ctx context.Context, programs map[types.NamespacedName]*program.Program) ([]types.NamespacedName, error) {
	// Paths become free before others take them.
	for _, name := range sorted(p.revisions) {
		if programs[name] != nil {
			continue
		}
		if err := p.client.Programs().Delete(ctx, program.Key(name)); err != nil {
			return nil, err
		}
		delete(p.revisions, name)
		if _, err := fmt.Fprintf(p.streams.Out, "Stopped %s\n", name); err != nil {
			return nil, err
		}
	}
	var changed []types.NamespacedName
	for _, name := range sorted(programs) {
		revision, err := p.client.Programs().Put(ctx, programs[name])
		if err != nil {
			return nil, err
		}
		if p.revisions[name] != revision {
			changed = append(changed, name)
		}
		if p.revisions == nil {
			p.revisions = make(map[types.NamespacedName]uint64)
		}
		p.revisions[name] = revision
	}
	return changed, nil
}

// await says what became of programs in the gateway.
func (p *publisher) await(
	ctx context.Context, names []types.NamespacedName, programs map[types.NamespacedName]*program.Program,
) error {
	if len(names) == 0 {
		return nil
	}
	incarnation, err := p.client.Programs().Incarnation(ctx)
	if err != nil {
		return err
	}
	for len(names) > 0 {
		var beat bus.Heartbeat
		select {
		case <-ctx.Done():
			return ctx.Err()
		case live := <-p.beats:
			beat = live[replica]
		}
		for len(names) > 0 {
			ack, message := beat.Ack(incarnation, program.Key(names[0]), p.revisions[names[0]])
			if ack == bus.AckPending {
				break
			}
			if err := p.report(programs[names[0]], ack, message); err != nil {
				return err
			}
			names = names[1:]
		}
	}
	return nil
}

func (p *publisher) report(served *program.Program, ack bus.Ack, message string) error {
	var err error
	switch {
	case ack == bus.AckRefused:
		_, err = fmt.Fprintf(p.streams.Err, "The gateway refuses %s: %s\n", served.Key, message)
	case served.Suspend:
		_, err = fmt.Fprintf(p.streams.Out, "Suspended %s\n", served.Key)
	case served.Unavailable != "":
		_, err = fmt.Fprintf(p.streams.Out, "Answering 503 for %s: %s\n", served.Key, served.Unavailable)
	case served.Webhook == nil:
		_, err = fmt.Fprintf(p.streams.Out, "Serving %s\n", served.Key)
	default:
		_, err = fmt.Fprintf(p.streams.Out, "Serving %s: %s %s\n", served.Key, strings.Join(served.Webhook.Methods, ","),
			hookURL(baseURL(p.scheme, p.gateway.Addr()), served))
	}
	return err
}

// baseURL is the URL of a listener as a program on this machine calls it.
func baseURL(scheme, address string) string {
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && (ip == nil || ip.IsUnspecified()) {
		address = net.JoinHostPort("localhost", port)
	}
	return scheme + "://" + address
}

// schemeOf returns the scheme of a listener with a certificate, or without one.
func schemeOf(certFile string) string {
	if certFile == "" {
		return "http"
	}
	return "https"
}

// hookURL is where a program is called.
func hookURL(base string, p *program.Program) string {
	return base + "/hook/" + p.Namespace + "/" + p.Webhook.Pattern()
}
