// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
)

// errNotPermitted is why a connection is not made.
var errNotPermitted = errors.New("address is not permitted")

// deniedNetworks are never dialed unless an operator says so. Of IPv6, only
// global unicast (2000::/3) is reachable at all.
var deniedNetworks = prefixes(
	"0.0.0.0/8",        // "this network", RFC 791; Linux takes 0.0.0.0 for itself
	"10.0.0.0/8",       // private, RFC 1918
	"100.64.0.0/10",    // shared, RFC 6598; cloud providers' and clusters' inside
	"127.0.0.0/8",      // loopback, RFC 1122
	"168.63.129.16/32", // the platform address of Azure
	"169.254.0.0/16",   // link-local, RFC 3927; metadata services
	"172.16.0.0/12",    // private, RFC 1918
	"192.0.0.0/24",     // protocol assignments, RFC 6890; one cloud's metadata service
	"192.0.2.0/24",     // documentation, RFC 5737
	"192.88.99.0/24",   // 6to4 relays, RFC 7526
	"192.168.0.0/16",   // private, RFC 1918
	"198.18.0.0/15",    // benchmarking, RFC 2544
	"198.51.100.0/24",  // documentation, RFC 5737
	"203.0.113.0/24",   // documentation, RFC 5737
	"224.0.0.0/4",      // multicast, RFC 5771
	"240.0.0.0/4",      // reserved, RFC 1112, and broadcast
	"::/3",             // unspecified, loopback, IPv4-compatible, NAT64, reserved
	"4000::/2",         // reserved, segment routing (5f00::/16)
	"8000::/1",         // reserved, ULA (RFC 4193), link-local, site-local, multicast
	"2001::/23",        // protocol assignments, RFC 2928: Teredo, ORCHID and others
	"2001:db8::/32",    // documentation, RFC 3849
	"2002::/16",        // 6to4, RFC 3056
	"3fff::/20",        // documentation, RFC 9637
)

func prefixes(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		out[i] = netip.MustParsePrefix(text)
	}
	return out
}

// guard decides which addresses may be dialed. The operator's denials win over
// the operator's exceptions, and these over the built-in list.
type guard struct {
	allow, deny []netip.Prefix
}

func newGuard(allow, deny []netip.Prefix) *guard {
	return &guard{allow: masked(allow), deny: masked(deny)}
}

// masked copies prefixes in the form that addresses are compared in: an
// IPv4-mapped IPv6 prefix as IPv4.
func masked(in []netip.Prefix) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(in))
	for _, p := range in {
		if p.Addr().Is4In6() && p.Bits() >= mappedBits {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mappedBits)
		}
		out = append(out, p.Masked())
	}
	return out
}

// mappedBits is the length of ::ffff:0:0/96.
const mappedBits = 96

// control is called with each resolved address that is about to be dialed: a
// name that resolves to something else on the next look-up gains nothing. It is
// read the way package net reads it: a zone that holds a bracket is no address to
// that package, and is one to netip.ParseAddrPort.
func (g *guard) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return errNotPermitted
	}
	addr, err := netip.ParseAddr(host)
	if err != nil || !g.permits(addr) {
		return errNotPermitted
	}
	return nil
}

// permits reports whether addr may be dialed. An address that carries an IPv4
// address must pass with that one, too: a permitted NAT64 prefix is no way to
// the metadata service.
func (g *guard) permits(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	if !g.permitsPlain(addr) {
		return false
	}
	inner, ok := embedded(addr)
	return !ok || g.permitsPlain(inner)
}

func (g *guard) permitsPlain(addr netip.Addr) bool {
	switch {
	case !addr.IsValid(), within(g.deny, addr):
		return false
	case within(g.allow, addr):
		return true
	default:
		return !within(deniedNetworks, addr)
	}
}

func within(networks []netip.Prefix, addr netip.Addr) bool {
	for _, network := range networks {
		if network.Contains(addr) {
			return true
		}
	}
	return false
}

// IPv6 networks whose addresses carry an IPv4 address.
var (
	compatible = netip.MustParsePrefix("::/96")          // RFC 4291 section 2.5.5.1
	nat64      = netip.MustParsePrefix("64:ff9b::/96")   // RFC 6052
	nat64Local = netip.MustParsePrefix("64:ff9b:1::/48") // RFC 8215
	sixToFour  = netip.MustParsePrefix("2002::/16")      // RFC 3056
)

// embedded returns the IPv4 address that an IPv6 address carries.
func embedded(addr netip.Addr) (netip.Addr, bool) {
	if !addr.Is6() {
		return netip.Addr{}, false
	}
	b := addr.As16()
	switch {
	case sixToFour.Contains(addr):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	case nat64.Contains(addr), nat64Local.Contains(addr):
		return netip.AddrFrom4([4]byte(b[12:16])), true
	case compatible.Contains(addr) && addr != netip.IPv6Loopback() && addr != netip.IPv6Unspecified():
		return netip.AddrFrom4([4]byte(b[12:16])), true
	default:
		return netip.Addr{}, false
	}
}
