// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	petHook   = publicURL + "/hook/pets/pet-intake"
	alertHook = publicURL + "/hook/notify/alert"
	jsonType  = "Content-Type: application/json"
	gromit    = `{"petname": "Gromit", "petstatus": "Sold"}`
)

// tour is what the README tells a newcomer to do.
func (d *demo) tour(ctx context.Context) error {
	samples := filepath.Join(d.config, "samples")

	d.say.title("Apply the petstore sample and wait until it is served")
	if err := d.kubectl(ctx, "apply", "-k", filepath.Join(samples, "petstore")); err != nil {
		return err
	}
	if err := d.kubectl(ctx, "wait", "--for=condition=Ready", "--timeout=60s", "-n", "pets", "flow/pet-intake"); err != nil {
		return err
	}

	d.say.title("Send the tutorial's payload")
	if err := d.curl(ctx, "HTTP 201", "-u", "partner:gromit-and-wallace", "-H", jsonType, "-d", gromit, petHook); err != nil {
		return err
	}
	d.say.title("The pet, as the store has it")
	if err := d.curl(ctx, `"name":"Gromit","status":"Sold"`, "-H", "api_key: "+petstoreKey, "http://"+petstoreAddress+"/v2/pet/1"); err != nil {
		return err
	}
	d.say.title("A wrong password")
	if err := d.curl(ctx, "HTTP 401", "-u", "partner:wrong", "-H", jsonType, "-d", gromit, petHook); err != nil {
		return err
	}

	d.say.title("The pushover sample: the token goes into the JSON body")
	if err := d.kubectl(ctx, "apply", "-k", filepath.Join(samples, "pushover")); err != nil {
		return err
	}
	if err := d.kubectl(ctx, "wait", "--for=condition=Ready", "--timeout=60s", "-n", "notify", "flow/alert"); err != nil {
		return err
	}
	alert := `{"alert": "Disk full", "host": "db-1", "severity": "critical"}`
	if err := d.curl(ctx, `"sent":true`, "-H", "Authorization: Bearer lighthouse-keeper-7", "-H", jsonType, "-d", alert, alertHook); err != nil {
		return err
	}

	d.say.title("What Kubernetes knows of it")
	if err := d.kubectl(ctx, "wait", "--for=jsonpath={.status.runs.succeeded}=1", "--timeout=30s", "-n", "pets", "flow/pet-intake"); err != nil {
		return err
	}
	return d.kubectl(ctx, "get", "flows,credentials", "-A")
}

// kubectl runs kubectl and shows the command and its output.
func (d *demo) kubectl(ctx context.Context, args ...string) error {
	d.say.command(append([]string{"kubectl"}, args...)...)
	out, err := d.plane.Run(ctx, args...)
	if err != nil {
		return err
	}
	d.say.text(out)
	return nil
}

// curl calls a URL, shows the command and the answer, and fails unless the
// answer, status included, holds want.
func (d *demo) curl(ctx context.Context, want string, args ...string) error {
	d.say.command(append([]string{"curl", "-s"}, args...)...)
	args = append([]string{"-sS", "--max-time", "30", "-w", "\nHTTP %{http_code}\n"}, args...)
	//nolint:gosec // the arguments are this program's own
	out, err := exec.CommandContext(ctx, "curl", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("curl: %w: %s", err, out)
	}
	d.say.text(string(out))
	if !strings.Contains(string(out), want) {
		return fmt.Errorf("curl %s: the answer does not hold %q", args[len(args)-1], want)
	}
	return nil
}
