// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

// childDir is set for a test that this package's tests run in a process of its
// own; without it the test is not for you.
const childDir = "HEADGATE_BUS_TEST_DIR"

// child prepares a test of this binary to run in a process of its own.
func child(ctx context.Context, test, dir string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+test+"$", "-test.count=1", "-test.v")
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	return cmd
}

// savedMaterial keeps the keys of an installation beside its store.
func savedMaterial(t testing.TB, dir string) Material {
	t.Helper()
	path := filepath.Join(dir, "material")
	if m, err := ReadDir(path); err == nil {
		return m
	}
	m := newMaterial()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, value := range m.Data() {
		if err := os.WriteFile(filepath.Join(path, name), value, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// childBus starts a bus with the store of dir.
func childBus(t *testing.T, dir string) *Client {
	t.Helper()
	m := savedMaterial(t, dir)
	s := startServer(t, func(o *ServerOptions) { o.StoreDir, o.Material, o.Listen = filepath.Join(dir, "store"), m, "" })
	with := func(o *ClientOptions) { o.Material = m }
	ensureBuckets(t, connect(t, RoleController, s, inProcess(s), with), BucketOptions{})
	gateway := connect(t, RoleGateway, s, inProcess(s), with)
	if err := gateway.WaitRunStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	return gateway
}

const ackPrefix = "acknowledged "

// TestChildAccepts accepts and drains runs until it is killed, and says which
// were acknowledged.
func TestChildAccepts(t *testing.T) {
	dir := os.Getenv(childDir)
	if dir == "" {
		t.Skip("run by TestNothingAcknowledgedIsLostByAKill")
	}
	gateway := childBus(t, dir)
	intake, _ := startIntake(t, gateway, IntakeOptions{})
	startDrain(t, gateway)
	cycle := strconv.FormatInt(time.Now().UnixNano(), 36)
	var out sync.Mutex
	var callers sync.WaitGroup
	for caller := range 16 {
		callers.Go(func() {
			for n := 0; ; n++ {
				id := fmt.Sprintf("c%sx%dx%d", cycle, caller, n)
				if err := intake.Accept(t.Context(), testEntry("orders", id)); err != nil {
					continue
				}
				out.Lock()
				fmt.Println(ackPrefix + id) //nolint:forbidigo // Whoever runs this reads it.
				out.Unlock()
			}
		})
	}
	callers.Wait()
}

// acknowledged returns the ids that the output of TestChildAccepts names.
func acknowledged(t *testing.T, out io.Reader, enough int, kill func()) (ids []string) {
	t.Helper()
	kill = sync.OnceFunc(kill)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if id, ok := strings.CutPrefix(lines.Text(), ackPrefix); ok {
			ids = append(ids, id)
		} else if strings.Contains(lines.Text(), "FAIL") {
			t.Error(lines.Text())
		}
		if len(ids) == enough {
			kill()
		}
	}
	return ids
}

func TestNothingAcknowledgedIsLostByAKill(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	dir := t.TempDir()
	want := make(map[string]bool)
	for cycle := range 4 {
		cmd := child(t.Context(), "TestChildAccepts", dir)
		out, err := cmd.StdoutPipe()
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(cmd.Start()).To(Succeed())
		// The last line may be cut in two by the kill; it counts only when whole.
		for _, id := range acknowledged(t, out, 100+150*cycle, func() { g.Expect(cmd.Process.Kill()).To(Succeed()) }) {
			want[id] = true
		}
		g.Expect(cmd.Wait()).To(MatchError(ContainSubstring("killed")))
	}

	gateway := childBus(t, dir)
	startDrain(t, gateway)
	g.Expect(gateway.WaitDrained(t.Context())).To(Succeed())
	for _, h := range heads(t, gateway, orders).until(func(h Head) bool { return h.Synced }) {
		delete(want, h.ID)
	}
	g.Expect(want).To(BeEmpty())
}

// TestChildSurvivesBadVolumes runs in a mount namespace of its own, where the
// store is on a small volume.
func TestChildSurvivesBadVolumes(t *testing.T) {
	dir := os.Getenv(childDir)
	if dir == "" {
		t.Skip("run by TestBadVolumes")
	}
	g := NewWithT(t)
	g.Expect(syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")).To(Succeed())
	volume := filepath.Join(dir, "volume")
	g.Expect(os.MkdirAll(volume, 0o700)).To(Succeed())
	g.Expect(syscall.Mount("tmpfs", volume, "tmpfs", 0, "size=64m")).To(Succeed())
	t.Run("full", func(t *testing.T) { fullVolume(t, volume) })
	t.Run("read-only", func(t *testing.T) { readOnlyVolume(t, volume) })
}

// fullVolume fills the volume under a running gateway and makes room again.
func fullVolume(t *testing.T, volume string) {
	g := NewWithT(t)
	gateway := childBus(t, volume)
	intake, _ := startIntake(t, gateway, IntakeOptions{})
	var accepted []string
	accept := func(id string, size int) error {
		e := testEntry("orders", id)
		e.Data = make([]byte, size)
		err := intake.Accept(t.Context(), e)
		if err == nil {
			accepted = append(accepted, id)
		}
		return err
	}
	for n := range 20 {
		g.Expect(accept(fmt.Sprintf("before%d", n), 1000)).To(Succeed())
	}
	filler := filepath.Join(volume, "filler")
	f, err := os.Create(filler)
	g.Expect(err).NotTo(HaveOccurred())
	for err == nil {
		_, err = f.Write(make([]byte, 64<<10))
	}
	g.Expect(err).To(MatchError(syscall.ENOSPC))
	g.Expect(f.Close()).To(Succeed())

	var failed error
	for n := 0; failed == nil && n < 100; n++ {
		failed = accept(fmt.Sprintf("during%d", n), 1<<20)
	}
	g.Expect(failed).To(MatchError(ErrUnavailable), "never a success, and no success that is none")
	eventually(t, func() bool { return gateway.CheckWrites() != nil })

	g.Expect(os.Remove(filler)).To(Succeed())

	eventually(t, func() bool { return accept("after", 1000) == nil })
	eventually(t, func() bool { return gateway.CheckWrites() == nil })
	startDrain(t, gateway)
	g.Expect(gateway.WaitDrained(t.Context())).To(Succeed())
	got := ids(heads(t, gateway, orders).until(func(h Head) bool { return h.Synced }))
	g.Expect(got).To(ContainElements(accepted))
}

// readOnlyVolume starts a server on a volume that cannot be written: it waits,
// and says so, until it can.
func readOnlyVolume(t *testing.T, volume string) {
	g := NewWithT(t)
	m := savedMaterial(t, volume)
	g.Expect(syscall.Mount("", volume, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "")).To(Succeed())
	var log syncBuffer
	s, err := NewServer(ServerOptions{StoreDir: filepath.Join(volume, "store"), Material: m, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	g.Expect(err).NotTo(HaveOccurred())
	background(t, s.Start)
	eventually(t, func() bool { return strings.Contains(log.String(), "takes no writes") })
	g.Expect(log.String()).To(ContainSubstring("read-only file system"))
	g.Expect(s.Ready()).NotTo(BeClosed())
	g.Expect(s.CheckStore()).To(MatchError(MatchRegexp("^store takes no writes: [a-z]+: read-only file system$")),
		"the same each time, to be logged once")

	g.Expect(syscall.Mount("", volume, "", syscall.MS_REMOUNT, "")).To(Succeed())

	g.Eventually(s.Ready()).WithTimeout(patience).Should(BeClosed())
	g.Expect(s.CheckStore()).To(Succeed())
	g.Expect(log.String()).To(ContainSubstring("takes writes again"))
	files, err := filepath.Glob(filepath.Join(volume, "store", probeFile+"*"))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(files).To(BeEmpty())
}

func TestBadVolumes(t *testing.T) {
	t.Parallel()
	cmd := child(t.Context(), "TestChildSurvivesBadVolumes", t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	switch {
	case errors.Is(err, syscall.EPERM):
		t.Skip("needs root, for a mount namespace of its own")
	case strings.Contains(string(out), "operation not permitted"):
		t.Skipf("needs the right to mount:\n%s", out)
	case err != nil:
		t.Fatalf("%v\n%s", err, out)
	}
}
