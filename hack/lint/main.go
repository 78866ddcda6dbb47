// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// The golangci-lint of this project: the released linter with the Kubernetes
// API linter built in. Upstream makes such a binary with "golangci-lint custom",
// which clones a repository; a main of its own needs the module proxy only, and
// go.sum pins every byte of it.
package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"github.com/golangci/golangci-lint/v2/pkg/commands"
	"github.com/golangci/golangci-lint/v2/pkg/exitcodes"
	// Registers the plugin "kubeapilinter", see .golangci-kal.yml.
	_ "sigs.k8s.io/kube-api-linter"
)

const linterModule = "github.com/golangci/golangci-lint/v2"

func main() {
	if err := commands.Execute(buildInfo()); err != nil {
		fmt.Fprintf(os.Stderr, "golangci-lint: %v\n", err)
		os.Exit(exitcodes.Failure)
	}
}

// buildInfo reports the version of the golangci-lint module that was linked in,
// rather than that of this wrapper, because configuration files and bug reports
// refer to the former.
func buildInfo() commands.BuildInfo {
	info := commands.BuildInfo{
		GoVersion: "unknown",
		Version:   "unknown",
		Commit:    "unknown",
		Date:      "unknown",
	}
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return info
	}
	info.GoVersion = build.GoVersion
	for _, dep := range build.Deps {
		if dep.Path == linterModule {
			info.Version = strings.TrimPrefix(dep.Version, "v")
			info.Commit = dep.Sum
		}
	}
	return info
}
