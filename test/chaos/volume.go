// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"
)

const (
	// ioctlShutdown is EXT4_IOC_SHUTDOWN of linux/fs/ext4/ext4.h, and noLogFlush
	// its flag EXT4_GOING_FLAGS_NOLOGFLUSH: what was not synced is gone.
	ioctlShutdown = 0x8004587d
	noLogFlush    = 2
	// namespaceVariable tells the process that it runs in a mount namespace of
	// its own.
	namespaceVariable = "HEADGATE_CHAOS_NAMESPACE"
)

// volume is an ext4 file system in a file, mounted over a loop device.
type volume struct{ image, dir string }

// inNamespace runs this program again in a private mount namespace, where a
// volume is unmounted for good: a mount that leaks into another namespace would
// keep the file system as it was before the power cut. For a cluster the network
// is private, too.
func inNamespace(ctx context.Context, o *options) error {
	what, tools, packages := "power cuts and full disks need", []string{"losetup", "mkfs.ext4"}, "mount e2fsprogs"
	flags := uintptr(syscall.CLONE_NEWNS)
	if o.isCluster() {
		what, tools, packages = "a cluster in network namespaces needs", []string{"ip", "tc"}, "iproute2"
		flags |= syscall.CLONE_NEWNET
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("%s root", what)
	}
	for _, tool := range tools {
		if _, err := lookTool(tool); err != nil {
			return fmt.Errorf("%s %s (Debian: apt-get install %s): %w", what, tool, packages, err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, os.Args[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), namespaceVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: flags}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("in a namespace of its own: %w", err)
	}
	return nil
}

// lookTool finds a tool, also where Debian has those that only root looks for.
func lookTool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	return exec.LookPath("/usr/sbin/" + name)
}

// tool runs a tool and returns what it said.
func tool(ctx context.Context, name string, args ...string) (string, error) {
	path, err := lookTool(name)
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(context.WithoutCancel(ctx), path, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// newVolume makes a file system of so many bytes and mounts it.
func newVolume(ctx context.Context, dir string, size int64) (*volume, error) {
	v := &volume{image: filepath.Join(dir, "image"), dir: filepath.Join(dir, "volume")}
	if err := os.MkdirAll(v.dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.Create(v.image)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return nil, err
	}
	if _, err := tool(ctx, "mkfs.ext4", "-q", "-F", "-m", "0", v.image); err != nil {
		return nil, err
	}
	if err := v.mount(ctx); err != nil {
		return nil, err
	}
	return v, nil
}

// mount mounts the volume. The loop device goes when it is unmounted.
func (v *volume) mount(ctx context.Context) error {
	device, err := tool(ctx, "losetup", "--find", "--show", v.image)
	if err != nil {
		return err
	}
	err = syscall.Mount(device, v.dir, "ext4", 0, "")
	if err != nil {
		err = fmt.Errorf("mount %s: %w", v.image, err)
	}
	_, detached := tool(ctx, "losetup", "--detach", device)
	return errors.Join(err, detached)
}

// unmount unmounts the volume once nobody uses it.
func (v *volume) unmount(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	var err error
	waited := until(ctx, func() bool {
		err = syscall.Unmount(v.dir, 0)
		return !errors.Is(err, syscall.EBUSY)
	})
	return errors.Join(err, waited)
}

// cut takes the power from the volume: every write fails from now on, and what
// was not synced is gone when it is mounted again.
func (v *volume) cut() error {
	f, err := os.Open(v.dir)
	if err != nil {
		return err
	}
	flag := uint32(noLogFlush)
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), ioctlShutdown, uintptr(unsafe.Pointer(&flag)))
	if errno != 0 {
		err = fmt.Errorf("shut %s down: %w", v.dir, errno)
	}
	return errors.Join(err, f.Close())
}

// fill takes what room is left.
func (v *volume) fill() error {
	f, err := os.OpenFile(v.filler(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	for _, size := range []int{1 << 20, 4 << 10} {
		block := make([]byte, size)
		for err = nil; err == nil; {
			_, err = f.Write(block)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			return errors.Join(err, f.Close())
		}
	}
	if err := f.Sync(); err != nil && !errors.Is(err, syscall.ENOSPC) {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}

// free gives the room back.
func (v *volume) free() error { return os.Remove(v.filler()) }

func (v *volume) filler() string { return filepath.Join(v.dir, "filler") }
