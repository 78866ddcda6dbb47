// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// The exit statuses of every command.
const (
	statusOK = iota
	// statusFailed: the command did its work, and the result is not good.
	statusFailed
	// statusUsage: the command could not do its work.
	statusUsage
)

// Streams are what a command reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// exitError ends a command with a status. Without an error everything was said.
type exitError struct {
	status int
	err    error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// Main runs a command line, the name of the program first, and returns the exit
// status: 0 for success, 1 for a result that is not good, 2 for a command that
// could not do its work. Send has statuses of its own.
func Main(ctx context.Context, args []string, s Streams) int {
	root := newRoot(args[0], s) //nolint:contextcheck // The commands get ctx when they are run.
	root.SetArgs(args[1:])
	err := root.ExecuteContext(ctx)
	if err == nil {
		return statusOK
	}
	var exit *exitError
	if !errors.As(err, &exit) {
		exit = &exitError{statusUsage, err}
	}
	if exit.err != nil {
		_, _ = fmt.Fprintf(s.Err, "%s: %v\n", root.DisplayName(), exit.err)
	}
	return exit.status
}

// newRoot makes all commands. A program whose name begins with kubectl- is run
// by kubectl, and its help says so.
func newRoot(program string, s Streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "headgate",
		Short: "Judge, run and call Headgate flows without a cluster, and look at their runs",
		Long: "Headgate runs integration flows that are declared as Kubernetes resources.\n" +
			"This command works on their YAML files and needs no cluster; only runs asks an\n" +
			"installation, or a headgate serve.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	if strings.HasPrefix(filepath.Base(program), "kubectl-") {
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl headgate"}
	}
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.AddCommand(newLint(s), newServe(s), newSend(s), newRuns(s), newBus(s), newVersion(s))
	return root
}

func newVersion(s Streams) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(s.Out, "headgate %s %s %s/%s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// version is that of the module, or "(devel)" for a build from a working copy.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// fileFlags are the flags of every command that reads files.
type fileFlags struct {
	paths     []string
	namespace string
}

func (f *fileFlags) register(c *cobra.Command) {
	c.Flags().StringSliceVarP(&f.paths, "filename", "f", nil, `a file, a folder that is read with its subfolders, or "-" for the standard input; may be repeated`)
	c.Flags().StringVarP(&f.namespace, "namespace", "n", "", `the namespace of objects that name none (default "default")`)
	if err := c.MarkFlagRequired("filename"); err != nil {
		panic(err) // the flag is defined above
	}
}
