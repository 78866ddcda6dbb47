// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Command headgate judges, runs and calls flows on a developer's machine and in
// CI. Under the name kubectl-headgate it is a plugin of kubectl.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	// Schedules have time zones, whatever is installed.
	_ "time/tzdata"

	"github.com/headgate-io/headgate/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks for the end; the second one enforces it.
	context.AfterFunc(ctx, stop)
	status := cli.Main(ctx, os.Args, cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	os.Exit(status)
}
