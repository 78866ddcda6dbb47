// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate-io/headgate/internal/bus"
)

func newRunsGet(o *runsFlags, s Streams) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "get [NAMESPACE/]FLOW RUN",
		Short: "Show everything that is known of a run",
		Long: "Get shows the record of a run, or of one that has not ended what is known of it: the\n" +
			"steps that have finished, why its last attempt failed, and before when the next one\n" +
			"does not begin. Payloads are in the record as the history of the Flow says, without\n" +
			"what that redacts, and are not told of a run that has not ended.",
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			if err := output(format); err != nil {
				return err
			}
			run, err := o.run(args[0], args[1])
			if err != nil {
				return err
			}
			return o.with(c.Context(), s, func(ctx context.Context, client *bus.Client) error {
				record, err := findRun(ctx, client, run)
				switch {
				case err != nil:
					return err
				case format == "text":
					return describe(s.Out, &record)
				default:
					return printAs(s.Out, format, record)
				}
			})
		},
	}
	c.Flags().StringVarP(&format, "output", "o", "text", outputUsage)
	return c
}

// describe writes a record for people: what is not known is left out.
func describe(out io.Writer, r *bus.Record) error {
	why := "Failure"
	if pending(r) {
		why = "Last failure"
	}
	err := table(out, "", func(w io.Writer) {
		for _, line := range [][2]string{
			{"Run", r.ID},
			{"Flow", r.Flow.String()},
			{"State", r.State},
			{"Trigger", shown(r.Trigger)},
			{"Credential", shown(r.Credential)},
			{"Subject", shown(r.Subject)},
			{"Revision", shown(r.Revision)},
			{"Attempts", strconv.Itoa(r.Attempts)},
			{"Accepted", moment(r.Accepted)},
			{"Started", moment(r.Started)},
			{"Finished", moment(r.Finished)},
			{"Duration", duration(r)},
			{"Status", number(r.Status)},
			{"Next attempt", moment(r.Due)},
			{why, failure(r.Failure)},
		} {
			if line[1] != "-" {
				_, _ = fmt.Fprintf(w, "%s:\t%s\n", line[0], line[1]) // The table tells.
			}
		}
	})
	if err == nil && len(r.Steps) > 0 {
		err = describeSteps(out, r.Steps)
	}
	for _, payload := range []struct {
		name  string
		value json.RawMessage
	}{{"Request", r.Request}, {"Response", r.Response}, {"Result", r.Result}} {
		if err == nil {
			err = describePayload(out, payload.name, payload.value)
		}
	}
	return err
}

func describeSteps(out io.Writer, steps []bus.StepSummary) error {
	if _, err := fmt.Fprint(out, "\nSteps:\n"); err != nil {
		return err
	}
	err := table(out, "  NAME\tSTATE\tATTEMPTS\tITEMS\tSTARTED\tDURATION\tSTATUS\tCLASS\n", func(w io.Writer) {
		for i := range steps {
			p := &steps[i]
			_, _ = fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", // The table tells.
				p.Name, p.State, number(p.Attempts), number(p.Items), moment(p.Started),
				time.Duration(p.DurationMillis)*time.Millisecond, number(p.Status), shown(p.Class))
		}
	})
	for i := range steps {
		if err == nil {
			err = describePayload(out, "Request of step "+steps[i].Name, steps[i].Request)
		}
		if err == nil {
			err = describePayload(out, "Response of step "+steps[i].Name, steps[i].Response)
		}
	}
	return err
}

// describePayload writes JSON, in which no control character can be.
func describePayload(out io.Writer, name string, value json.RawMessage) error {
	if len(value) == 0 {
		return nil
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, value, "  ", "  "); err != nil {
		return fmt.Errorf("%s of the record: %w", name, err)
	}
	_, err := fmt.Fprintf(out, "\n%s:\n  %s\n", name, indented.String())
	return err
}

// number leaves out what is not known.
func number(n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n)
}
