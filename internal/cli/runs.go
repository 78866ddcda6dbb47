// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/gateway/work"
	"github.com/headgate-io/headgate/internal/program"
)

const defaultNamespace = "default"

// runsFlags are the flags of all commands about runs.
type runsFlags struct {
	busFlags

	namespace string
}

func newRuns(s Streams) *cobra.Command {
	var o runsFlags
	c := &cobra.Command{
		Use:   "runs",
		Short: "Look at the runs of flows, replay, cancel and delete them",
		Long: "Runs asks the bus of an installation, with the keys of its Secret headgate-bus:\n" +
			"whoever has them can read and write every run of every Flow. In a cluster, forward\n" +
			"the port of the bus and hand the Secret over without storing it:\n\n" +
			"  kubectl port-forward -n headgate-system svc/headgate-gateway-bus 4222 &\n" +
			"  kubectl get secret headgate-bus -n headgate-system -o json |\n" +
			"    headgate runs list -n pets orders --bus-secret -\n\n" +
			"The exit status is 0 for success, 1 when there is no such run or it cannot be\n" +
			"replayed, canceled or deleted, and 2 when the bus could not be asked.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	o.register(c)
	c.PersistentFlags().StringVarP(&o.namespace, "namespace", "n", "", `the namespace of the Flow (default "default")`)
	c.AddCommand(newRunsList(&o, s), newRunsGet(&o, s), newRunsReplay(&o, s), newRunsCancel(&o, s), newRunsDelete(&o, s))
	return c
}

// flow reads [NAMESPACE/]FLOW.
func (o *runsFlags) flow(text string) (program.Key, error) {
	namespace, name, ok := strings.Cut(text, "/")
	if !ok {
		namespace, name = o.defaultNamespace(), text
	}
	switch {
	case namespace == "" || name == "" || strings.Contains(name, "/"):
		return program.Key{}, fmt.Errorf("%q is not [NAMESPACE/]FLOW", text)
	case o.namespace != "" && o.namespace != namespace:
		return program.Key{}, fmt.Errorf("the namespace of Flow %s is not %s", text, o.namespace)
	}
	return program.Key{Namespace: namespace, Name: name}, nil
}

func (o *runsFlags) defaultNamespace() string {
	if o.namespace == "" {
		return defaultNamespace
	}
	return o.namespace
}

// run reads FLOW RUN.
func (o *runsFlags) run(flow, id string) (bus.Run, error) {
	key, err := o.flow(flow)
	if err != nil {
		return bus.Run{}, err
	}
	prefix, ok := work.ParseID(id)
	if !ok {
		return bus.Run{}, fmt.Errorf("%q is not the id of a run", id)
	}
	run := bus.Run{Flow: key, ID: id}
	if prefix != work.IDPrefix(key) {
		return bus.Run{}, noRun(run)
	}
	return run, nil
}

// with asks the bus, within the time that one question may take.
func (o *runsFlags) with(parent context.Context, s Streams, ask func(context.Context, *bus.Client) error) error {
	client, err := o.connect(parent, s)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(parent, o.timeout)
	defer cancel()
	return o.tooShort(parent, ask(ctx, client))
}

func noRun(run bus.Run) error {
	return &exitError{statusFailed, fmt.Errorf("there is no run %s of Flow %s: it was never accepted, or its history is over", run.ID, run.Flow)}
}

// findRun returns what is known of a run. What has outlived its record in the form
// of a dead letter is told by the letter.
func findRun(ctx context.Context, client *bus.Client, run bus.Run) (bus.Record, error) {
	record, err := work.Find(ctx, client, run)
	if err == nil && pending(&record) {
		err = work.AddProgress(ctx, client, &record)
	}
	if !errors.Is(err, bus.ErrNotFound) {
		return record, err
	}
	letter, err := client.Dead().Get(ctx, run)
	if errors.Is(err, bus.ErrNotFound) {
		return bus.Record{}, noRun(run)
	}
	if err != nil {
		return bus.Record{}, err
	}
	return bus.Record{
		Run: run, State: bus.StateDeadLettered, Trigger: letter.Trigger, Revision: letter.GivenUpBy,
		Attempts: letter.Attempt, Accepted: letter.Accepted, Finished: letter.Time,
		Failure: &bus.Failure{Time: letter.Time, RunID: run.ID, Message: letter.Reason},
	}, nil
}

// pending tells whether a run has not ended.
func pending(r *bus.Record) bool { return r.State == bus.StateQueued || r.State == bus.StateRunning }

// outputUsage is the help of the flag that output checks.
const outputUsage = "text, json or yaml"

// output checks the flag of a command that prints text, JSON or YAML.
func output(format string) error {
	switch format {
	case "text", "json", "yaml":
		return nil
	default:
		return fmt.Errorf("output: %q is none of text, json and yaml", format)
	}
}

// printAs prints a document as JSON or YAML.
func printAs(w io.Writer, format string, v any) error {
	if format == "json" {
		return printJSON(w, v)
	}
	document, err := yaml.Marshal(v)
	if err == nil {
		_, err = w.Write(document)
	}
	return err
}

func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// shown returns a text for one cell of a table. Some have what a caller or an
// upstream sent in them, which must not reach the terminal as control characters.
func shown(text string) string {
	if text == "" {
		return "-"
	}
	quoted := strconv.Quote(text)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// moment returns a time for people.
func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

// duration of a run; none for one that has not both begun and ended.
func duration(r *bus.Record) string {
	if r.Started.IsZero() || r.Finished.IsZero() {
		return "-"
	}
	return r.Finished.Sub(r.Started).Round(time.Millisecond).String()
}

// failure is "step: class: message".
func failure(f *bus.Failure) string {
	if f == nil {
		return "-"
	}
	var parts []string
	for _, part := range []string{f.Step, f.Class, f.Message} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return shown(strings.Join(parts, ": "))
}
