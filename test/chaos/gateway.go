// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

const (
	namespace = "chaos"
	flow      = "intake"
	// syncFlow calls the same upstream while its caller waits.
	syncFlow = "waiting"
	loopback = "127.0.0.1"
	// maxHistory is how many records are kept; the runs are asked about before
	// more have ended.
	maxHistory = 100_000
	// patience is how long anything may take before the test is given up.
	patience = 2 * time.Minute
	poll     = 20 * time.Millisecond
)

// gateway is a gateway process that is killed and started again on the same
// store and the same addresses.
type gateway struct {
	name, binary, dir, store string
	// storeSize is --store-max-size.
	storeSize        int64
	hook, admin, bus string
	// network is the namespace of a member of a cluster; empty for this one.
	network  string
	material bus.Material
	// flags that only some have.
	flags   []string
	log     *os.File
	process *exec.Cmd
}

// newGateway lays out a gateway that is alone.
func newGateway(o *options, dir, store string, storeSize int64) (*gateway, error) {
	g := &gateway{
		name: "gateway-0", binary: o.gateway, dir: dir, store: store, storeSize: storeSize,
		flags: []string{"--log-level=" + o.logLevel, "--allow-cidrs=127.0.0.0/8"},
	}
	for _, address := range []*string{&g.hook, &g.admin, &g.bus} {
		var err error
		if *address, err = freeAddress(); err != nil {
			return nil, err
		}
	}
	var err error
	if g.material, err = newMaterial(dir, loopback); err != nil {
		return nil, err
	}
	if err := g.openLog(); err != nil {
		return nil, err
	}
	return g, nil
}

// newMaterial makes the keys of an installation and writes down those of its
// gateways.
func newMaterial(dir string, hosts ...string) (bus.Material, error) {
	material, err := bus.Generate(time.Now(), hosts)
	if err != nil {
		return material, err
	}
	keys := filepath.Join(dir, "bus")
	if err := os.MkdirAll(keys, 0o700); err != nil {
		return material, err
	}
	for name, value := range material.GatewayData() {
		if err := os.WriteFile(filepath.Join(keys, name), value, 0o600); err != nil {
			return material, err
		}
	}
	return material, nil
}

func (g *gateway) openLog() (err error) {
	g.log, err = os.OpenFile(filepath.Join(g.dir, g.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	return err
}

// freeAddress returns an address that nobody listens on at this moment.
func freeAddress() (string, error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", loopback+":0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// start starts the process.
func (g *gateway) start(ctx context.Context) error {
	command := append([]string{
		g.binary,
		"--listen-address=" + g.hook, "--admin-address=" + g.admin, "--bus-listen-address=" + g.bus,
		"--bus-dir=" + filepath.Join(g.dir, "bus"), "--store-dir=" + g.store, "--replica=" + g.name, fmt.Sprintf("--store-max-size=%d", g.storeSize),
		"--drain-delay=0",
	}, g.flags...)
	if g.network != "" {
		ip, err := lookTool("ip")
		if err != nil {
			return err
		}
		// It becomes the gateway, with the same process id.
		command = append([]string{ip, "netns", "exec", g.network}, command...)
	}
	g.process = exec.CommandContext(context.WithoutCancel(ctx), command[0], command[1:]...)
	g.process.Stdout, g.process.Stderr = g.log, g.log
	g.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return g.process.Start()
}

// freeze stops the process: none of its threads does anything any more, but for
// what the kernel does for it.
func (g *gateway) freeze(ctx context.Context) error {
	if err := g.process.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	pattern := fmt.Sprintf("/proc/%d/task/*/stat", g.process.Process.Pid)
	var err error
	return errors.Join(until(ctx, func() bool {
		var stopped bool
		stopped, err = allStopped(pattern)
		return stopped || err != nil
	}), err)
}

// allStopped tells whether all threads are stopped, or will be before they do
// anything: proc_pid_stat(5).
func allStopped(pattern string) (bool, error) {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return false, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // It has ended.
		}
		if err != nil {
			return false, err
		}
		// The name of the program, in parentheses, may hold anything.
		state := string(text[bytes.LastIndexByte(text, ')')+1:])
		if !strings.HasPrefix(state, " T") && !strings.HasPrefix(state, " D") {
			return false, nil
		}
	}
	return len(files) > 0, nil
}

// kill ends the process without a warning.
func (g *gateway) kill() error {
	if err := g.process.Process.Kill(); err != nil {
		return err
	}
	_ = g.process.Wait() // it says that it was killed
	return nil
}

// ready waits until the gateway says that it is, or ctx ends.
func (g *gateway) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return until(ctx, func() bool {
		resp, err := get(ctx, "http://"+g.admin+"/readyz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// get makes a request that ends with ctx.
func get(ctx context.Context, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	return client.Do(req)
}

// until waits for ok.
func until(ctx context.Context, ok func() bool) error {
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain: %w", ctx.Err())
		case <-ticker.C:
		}
	}
	return nil
}

// publish is what the controller does: it makes the streams, and puts the flows.
func (g *gateway) publish(ctx context.Context, replicas int, programs ...*program.Program) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	controller, err := bus.Connect(ctx, bus.ClientOptions{
		URL: "tls://" + g.bus, Role: bus.RoleController, Material: g.material, Name: "chaos",
	})
	if err != nil {
		return err
	}
	defer controller.Close()
	if err := controller.WaitConnected(ctx); err != nil {
		return err
	}
	if err := controller.EnsureBuckets(ctx, bus.BucketOptions{Replicas: replicas, StoreSize: g.storeSize}); err != nil {
		return err
	}
	for _, p := range programs {
		if _, err := controller.Programs().Put(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// chaosProgram is an asynchronous flow of two steps, ordered by caller.
func chaosProgram(upstream string) *program.Program {
	p := flowProgram(flow, program.ModeAsync,
		callStep(upstream, "first", `{"number": "${request.body.number}"}`),
		callStep(upstream, "second", `{"number": "${steps.first.body.number}"}`))
	p.Retry = program.RunRetry{Attempts: 50, Initial: program.Duration(50 * time.Millisecond), Max: program.Duration(time.Second), Factor: 2}
	p.Concurrency = program.Concurrency{Limit: 256, Key: "${string(request.body.caller)}"}
	p.History = program.History{Limit: maxHistory, TTL: program.Duration(time.Hour), Payloads: program.PayloadsNone}
	return p
}

// syncProgram is a flow whose callers wait for it.
func syncProgram(upstream string) *program.Program {
	return flowProgram(syncFlow, program.ModeSync, callStep(upstream, "third", `{"number": "${request.body.number}"}`))
}

func flowProgram(name string, mode program.Mode, steps ...program.Step) *program.Program {
	return &program.Program{
		Key: program.Key{Namespace: namespace, Name: name}, UID: "chaos-" + name,
		Webhook: &program.Webhook{
			Path: name, Methods: []string{http.MethodPost}, Credentials: []string{"chaos/anyone"}, MaxBodySize: 1 << 20,
		},
		Credentials: map[string]program.Credential{"chaos/anyone": {Spec: auth.Spec{None: &auth.None{}}}},
		Steps:       steps,
		Response:    program.Response{Mode: mode, Timeout: program.Duration(time.Minute), Status: http.StatusOK},
	}
}

// callStep posts a number to the upstream.
func callStep(upstream, name, body string) program.Step {
	return program.Step{
		Name: name, Timeout: program.Duration(30 * time.Second),
		HTTP: &program.HTTP{
			Method: http.MethodPost, URL: upstream + "/" + name, JSON: json.RawMessage(body),
			Parse: program.ParseAuto, Expect: "${response.status == 200}",
		},
	}
}
