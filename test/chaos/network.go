// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"
)

const (
	// upstreamHost is the observer's address that every member reaches.
	upstreamHost = "10.77.255.1"
	// memberNetworks has the addresses of the members and of the observer.
	memberNetworks = "10.77.0.0/16"
	// firstRule is the preference of the first rule that drops packets.
	firstRule = 1000
)

// network joins the members of a cluster. Each has a network namespace of its
// own, whose only link leads to the namespace of the observer. That is the
// router between them, so what members say to each other can be dropped or
// slowed down there, one direction or both, while the observer and the upstream
// reach all of them.
type network struct {
	members int

	mu sync.Mutex
	// dropped has the directions, from and to, that are cut.
	dropped map[[2]int]bool
	// slowed has the members whose link is slow.
	slowed map[int]bool
}

func namespaceOf(member int) string { return fmt.Sprintf("gateway-%d", member) }

// addressOf returns a member's address, and routerOf the observer's on its link.
func addressOf(member int) string { return fmt.Sprintf("10.77.%d.2", member) }

func routerOf(member int) string { return fmt.Sprintf("10.77.%d.1", member) }

func linkOf(member int) string { return fmt.Sprintf("member%d", member) }

// newNetwork lays the links. The process must be in a network and a mount
// namespace of its own: nothing of this is seen outside, and it ends with them.
func newNetwork(ctx context.Context, members int) (*network, error) {
	// Where ip keeps the namespaces that it has made.
	if err := syscall.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return nil, fmt.Errorf("mount a private /run: %w", err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o600); err != nil {
		return nil, err
	}
	n := &network{members: members, dropped: make(map[[2]int]bool), slowed: make(map[int]bool)}
	commands := [][]string{
		{"link", "set", "lo", "up"},
		{"address", "add", upstreamHost + "/32", "dev", "lo"},
	}
	for m := range members {
		ns, link := namespaceOf(m), linkOf(m)
		commands = append(commands, [][]string{
			{"netns", "add", ns},
			{"link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", ns},
			{"address", "add", routerOf(m) + "/24", "dev", link},
			{"link", "set", link, "up"},
			{"-netns", ns, "link", "set", "lo", "up"},
			{"-netns", ns, "address", "add", addressOf(m) + "/24", "dev", "eth0"},
			{"-netns", ns, "link", "set", "eth0", "up"},
			{"-netns", ns, "route", "add", "default", "via", routerOf(m)},
		}...)
	}
	for _, args := range commands {
		if _, err := tool(ctx, "ip", args...); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// rule are the arguments of the rule that drops what one member sends another.
// The sender is told nothing.
func rule(from, to int) []string {
	return []string{
		"preference", strconv.Itoa(firstRule + 16*from + to),
		"from", addressOf(from), "to", addressOf(to), "type", "blackhole",
	}
}

// drop loses from now on what one member sends another.
func (n *network) drop(ctx context.Context, from, to int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if from == to || n.dropped[[2]int{from, to}] {
		return nil
	}
	if _, err := tool(ctx, "ip", append([]string{"rule", "add"}, rule(from, to)...)...); err != nil {
		return err
	}
	n.dropped[[2]int{from, to}] = true
	return nil
}

// isolate drops what a member sends the others, and what they send it, or only
// one of both.
func (n *network) isolate(ctx context.Context, member int, out, in bool) error {
	var failed error
	for other := range n.members {
		if out {
			failed = errors.Join(failed, n.drop(ctx, member, other))
		}
		if in {
			failed = errors.Join(failed, n.drop(ctx, other, member))
		}
	}
	return failed
}

// part drops what two members send each other.
func (n *network) part(ctx context.Context, a, b int) error {
	return errors.Join(n.drop(ctx, a, b), n.drop(ctx, b, a))
}

// slow gives what the others send a member a narrow link, in kbit/s, with a long
// queue before it.
func (n *network) slow(ctx context.Context, member, kbit int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.slowed[member] {
		return nil
	}
	n.slowed[member] = true
	link := linkOf(member)
	commands := [][]string{
		{"qdisc", "add", "dev", link, "root", "handle", "1:", "htb"},
		{"class", "add", "dev", link, "parent", "1:", "classid", "1:1", "htb", "rate", fmt.Sprintf("%dkbit", kbit), "quantum", "1514"},
	}
	for other := range n.members {
		if other != member {
			commands = append(commands, []string{
				"filter", "add", "dev", link, "parent", "1:", "protocol", "ip",
				"u32", "match", "ip", "src", addressOf(other) + "/32", "flowid", "1:1",
			})
		}
	}
	for _, args := range commands {
		if _, err := tool(ctx, "tc", args...); err != nil {
			return err
		}
	}
	return nil
}

// heal makes the network whole and fast.
func (n *network) heal(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var failed error
	for direction := range n.dropped {
		_, err := tool(ctx, "ip", append([]string{"rule", "delete"}, rule(direction[0], direction[1])...)...)
		failed = errors.Join(failed, err)
	}
	for member := range n.slowed {
		_, err := tool(ctx, "tc", "qdisc", "delete", "dev", linkOf(member), "root")
		failed = errors.Join(failed, err)
	}
	clear(n.dropped)
	clear(n.slowed)
	return failed
}
