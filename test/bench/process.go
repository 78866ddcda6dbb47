// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// startTimeout bounds how long a process has to answer after its start.
	startTimeout = 30 * time.Second
	// stopTimeout is how long a process has to end before it is killed.
	stopTimeout = 10 * time.Second
	// pollInterval is how often a process that starts is asked.
	pollInterval = 20 * time.Millisecond
)

// clockTicks per second in /proc/PID/stat: USER_HZ, 100 on every architecture
// that Go runs Linux on (proc_pid_stat(5)).
const clockTicks = 100

// process is a child of the bench with whatever it starts itself.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// launch starts a process whose output goes to a file in dir.
func launch(dir, name, path string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(path, args...), log: filepath.Join(dir, name+".log"), done: make(chan struct{})} //nolint:noctx // the bench's own children, ended by stop
	out, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	// A bench that is killed leaves nothing behind.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := errors.Join(p.cmd.Start(), out.Close()); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		// How it ended is in its log.
		_ = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// stop ends the process: it is asked first.
func (p *process) stop() {
	// One that has ended already needs neither.
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// await waits until ready says so.
func (p *process) await(ctx context.Context, ready func() error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-p.done:
			return fmt.Errorf("it ended: %s", p.tail())
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w: %s", err, p.tail())
		}
	}
}

// tail returns the end of what the process wrote.
func (p *process) tail() string {
	const most = 1000
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(text[max(0, len(text)-most):]))
}

// usage is what a process and its children have taken.
type usage struct {
	cpu time.Duration
	rss int64
}

// usage reads /proc (proc_pid_stat(5)).
func (p *process) usage() (usage, error) { return usageOf(p.cmd.Process.Pid) }

func usageOf(pid int) (usage, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return usage{}, err
	}
	// The name of the program, in brackets, may hold anything.
	_, rest, _ := strings.Cut(string(stat[max(0, bytes.LastIndexByte(stat, ')')):]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 22 {
		return usage{}, fmt.Errorf("%s/stat: %d fields", dir, len(fields))
	}
	var ticks, pages int64
	for _, field := range []struct {
		at  int
		sum *int64
	}{{11, &ticks}, {12, &ticks}, {21, &pages}} { // utime, stime and rss, counted from the state
		n, err := strconv.ParseInt(fields[field.at], 10, 64)
		if err != nil {
			return usage{}, fmt.Errorf("%s/stat: %w", dir, err)
		}
		*field.sum += n
	}
	total := usage{cpu: time.Duration(ticks) * time.Second / clockTicks, rss: pages * int64(os.Getpagesize())}
	children, err := os.ReadFile(filepath.Join(dir, "task", strconv.Itoa(pid), "children"))
	if err != nil {
		return usage{}, err
	}
	for child := range strings.FieldsSeq(string(children)) {
		id, err := strconv.Atoi(child)
		if err != nil {
			return usage{}, err
		}
		more, err := usageOf(id)
		if err != nil {
			return usage{}, err
		}
		total.cpu += more.cpu
		total.rss += more.rss
	}
	return total, nil
}

// freeAddress returns an address of loopback at which nothing listens.
func freeAddress(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// answers returns a check that something listens at an address.
func answers(ctx context.Context, address string) func() error {
	return func() error {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return closed(conn)
	}
}

// closed closes what has done its work.
func closed(c io.Closer) error {
	if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
