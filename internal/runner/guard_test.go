// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"net/netip"
	"testing"

	. "github.com/onsi/gomega"
)

func TestGuardAddresses(t *testing.T) {
	t.Parallel()
	builtIn := newGuard(nil, nil)
	for _, c := range []struct {
		addr    string
		permits bool
	}{
		// Reachable by anyone.
		{"8.8.8.8", true},
		{"1.1.1.1", true},
		{"93.184.215.14", true},
		{"9.255.255.255", true},
		{"11.0.0.0", true},
		{"100.63.255.255", true},
		{"100.128.0.0", true},
		{"126.255.255.255", true},
		{"128.0.0.0", true},
		{"169.253.255.255", true},
		{"169.255.0.0", true},
		{"172.15.255.255", true},
		{"172.32.0.0", true},
		{"192.167.255.255", true},
		{"192.169.0.0", true},
		{"198.17.255.255", true},
		{"198.20.0.0", true},
		{"223.255.255.255", true},
		{"2606:4700::1111", true},
		{"2a00:1450:4001:82f::200e", true},
		{"2001:4860:4860::8888", true},
		{"::ffff:8.8.8.8", true},
		// This host and network.
		{"0.0.0.0", false},
		{"0.1.2.3", false},
		{"127.0.0.1", false},
		{"127.255.255.254", false},
		{"::", false},
		{"::1", false},
		{"::ffff:127.0.0.1", false},
		{"::ffff:0.0.0.0", false},
		{"::127.0.0.1", false},
		{"::7f00:1", false},
		// Private networks, Pods and Services.
		{"10.0.0.1", false},
		{"10.255.255.255", false},
		{"172.16.0.1", false},
		{"172.31.255.255", false},
		{"192.168.0.1", false},
		{"100.64.0.1", false},
		{"100.127.255.255", false},
		{"::ffff:10.0.0.1", false},
		{"fc00::1", false},
		{"fd00:ec2::254", false},
		{"fdff::1", false},
		// Metadata services.
		{"169.254.169.254", false},
		{"169.254.170.2", false},
		{"168.63.129.16", false},
		{"100.100.100.200", false},
		{"192.0.0.192", false},
		{"::ffff:169.254.169.254", false},
		{"fe80::1", false},
		{"fe80::1%eth0", false},
		{"fec0::1", false},
		// IPv4 inside IPv6.
		{"64:ff9b::7f00:1", false},
		{"64:ff9b::a9fe:a9fe", false},
		{"64:ff9b::808:808", false},
		{"64:ff9b:1::a00:1", false},
		{"2002:7f00:1::", false},
		{"2002:a9fe:a9fe::1", false},
		{"2002:808:808::1", false},
		{"2001:0:7f00:1::", false},
		{"2001::1", false},
		// Reserved, documentation, benchmarking, multicast, broadcast.
		{"192.0.2.1", false},
		{"198.51.100.1", false},
		{"203.0.113.1", false},
		{"198.18.0.1", false},
		{"198.19.255.255", false},
		{"192.88.99.1", false},
		{"224.0.0.1", false},
		{"239.255.255.255", false},
		{"240.0.0.1", false},
		{"255.255.255.255", false},
		{"2001:db8::1", false},
		{"3fff::1", false},
		{"5f00::1", false},
		{"100::1", false},
		{"4000::1", false},
		{"ff02::1", false},
		{"ff0e::1", false},
	} {
		NewWithT(t).Expect(builtIn.permits(netip.MustParseAddr(c.addr))).To(Equal(c.permits), c.addr)
	}
	NewWithT(t).Expect(builtIn.permits(netip.Addr{})).To(BeFalse())
}

func TestGuardExceptions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		allow, deny []netip.Prefix
		addr        string
		permits     bool
	}{
		{name: "exception", allow: prefixes("10.1.0.0/16"), addr: "10.1.2.3", permits: true},
		{name: "beside the exception", allow: prefixes("10.1.0.0/16"), addr: "10.2.2.3"},
		{name: "exception that is not masked", allow: prefixes("10.1.2.3/16"), addr: "10.1.9.9", permits: true},
		{name: "exception, address mapped", allow: prefixes("10.1.0.0/16"), addr: "::ffff:10.1.2.3", permits: true},
		{name: "exception mapped", allow: prefixes("::ffff:10.1.0.0/112"), addr: "10.1.2.3", permits: true},
		{name: "denial", deny: prefixes("8.8.0.0/16"), addr: "8.8.8.8"},
		{name: "denial, address mapped", deny: prefixes("8.8.0.0/16"), addr: "::ffff:8.8.8.8"},
		{name: "denial wins", allow: prefixes("10.0.0.0/8"), deny: prefixes("10.1.0.0/16"), addr: "10.1.2.3"},
		{name: "denial leaves the rest of the exception", allow: prefixes("10.0.0.0/8"), deny: prefixes("10.1.0.0/16"), addr: "10.2.2.3", permits: true},
		{name: "everything", allow: prefixes("0.0.0.0/0", "::/0"), addr: "127.0.0.1", permits: true},
		{name: "IPv6 loopback", allow: prefixes("::1/128"), addr: "::1", permits: true},
		{name: "ULA", allow: prefixes("fd00::/8"), addr: "fd12::1", permits: true},
		{name: "NAT64 to the public", allow: prefixes("64:ff9b::/96"), addr: "64:ff9b::808:808", permits: true},
		{name: "NAT64 to metadata", allow: prefixes("64:ff9b::/96"), addr: "64:ff9b::a9fe:a9fe"},
		{name: "NAT64 to what is denied", allow: prefixes("64:ff9b::/96"), deny: prefixes("8.8.8.8/32"), addr: "64:ff9b::808:808"},
		{name: "6to4 to loopback", allow: prefixes("2002::/16"), addr: "2002:7f00:1::1"},
		{name: "compatible to loopback", allow: prefixes("::/96"), addr: "::127.0.0.1"},
		{name: "local NAT64 to private", allow: prefixes("64:ff9b:1::/48"), addr: "64:ff9b:1::a00:1"},
	} {
		got := newGuard(c.allow, c.deny).permits(netip.MustParseAddr(c.addr))
		NewWithT(t).Expect(got).To(Equal(c.permits), c.name)
	}
}
