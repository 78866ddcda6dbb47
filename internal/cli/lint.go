// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/headgate-io/headgate/internal/cli/manifest"
)

type lintOptions struct {
	fileFlags

	output string
	strict bool
}

func newLint(s Streams) *cobra.Command {
	var o lintOptions
	c := &cobra.Command{
		Use:   "lint -f DIR|FILE|-",
		Short: "Say what a cluster would refuse",
		Long: "Lint judges Flows and Credentials as a cluster does: by the schemas and rules of\n" +
			"their CustomResourceDefinitions, and by the compiler of the controller.\n\n" +
			"The exit status is 0 when there are no errors, 1 when there are, and 2 when\n" +
			"nothing could be judged.",
		Example: "  headgate lint -f deploy/\n  kubectl kustomize overlays/production | headgate lint -f -",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return o.run(c.Context(), s) },
	}
	o.register(c)
	c.Flags().StringVarP(&o.output, "output", "o", "text", "text or json")
	c.Flags().BoolVar(&o.strict, "strict", false, "a Secret or ConfigMap that is not in the files is an error, not a warning")
	return c
}

func (o *lintOptions) run(ctx context.Context, s Streams) error {
	if o.output != "text" && o.output != "json" {
		return fmt.Errorf("output: %q is neither text nor json", o.output)
	}
	reader, err := manifest.NewReader(o.namespace, s.In)
	if err != nil {
		return err
	}
	files, err := reader.Read(ctx, o.paths)
	if err != nil {
		return err
	}
	set, findings := manifest.Join(files)
	for _, f := range files {
		findings = append(findings, f.Findings...)
	}
	objects := len(set.Flows) + len(set.Credentials) + len(set.Subscriptions)
	if objects == 0 && len(findings) == 0 {
		return errors.New("there is no Flow and no Credential in the files")
	}
	judge := &judge{set: set, strict: o.strict}
	judge.run()
	findings = append(findings, judge.findings...)
	manifest.Sort(findings)
	if err := o.print(s, findings, objects); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	if errs, _ := manifest.Count(findings); errs > 0 {
		return &exitError{status: statusFailed}
	}
	return nil
}

// report is the form of -o json.
type report struct {
	Findings []manifest.Finding `json:"findings"`
	Objects  int                `json:"objects"`
	Errors   int                `json:"errors"`
	Warnings int                `json:"warnings"`
}

func (o *lintOptions) print(s Streams, findings []manifest.Finding, objects int) error {
	errs, warnings := manifest.Count(findings)
	if o.output == "json" {
		encoder := json.NewEncoder(s.Out)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		return encoder.Encode(report{append([]manifest.Finding{}, findings...), objects, errs, warnings})
	}
	if err := printFindings(s.Out, findings); err != nil {
		return err
	}
	// Not among the findings, which tools read line by line.
	_, err := fmt.Fprintf(s.Err, "Flows, Credentials and Subscriptions: %d, errors: %d, warnings: %d\n", objects, errs, warnings)
	return err
}

func printFindings(w io.Writer, findings []manifest.Finding) error {
	for _, f := range findings {
		if _, err := fmt.Fprintln(w, f); err != nil {
			return err
		}
	}
	return nil
}
