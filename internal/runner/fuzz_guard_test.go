// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"testing"
)

// FuzzGuard: an address that is dialed is a public one, whichever way it is
// written and whatever it carries.
func FuzzGuard(f *testing.F) {
	for _, seed := range []string{
		"127.0.0.1:80", "[::1]:80", "[::ffff:127.0.0.1]:80", "[::ffff:7f00:1%lo]:80", "169.254.169.254:80", "[64:ff9b::a9fe:a9fe]:80", "[2002:a9fe:a9fe::]:80",
		"[::7f00:1]:80", "0.0.0.0:80", "[fe80::1%eth0]:80", "8.8.8.8:53", "[2606:4700::1111]:443", "0177.0.0.1:80", "127.1:80", "localhost:80", "1.1.1.1", "", "[::]:0", "[::%]]:0",
	} {
		f.Add(seed)
	}
	builtIn := newGuard(nil, nil)
	// An operator who lets IPv6 pass has not let its carried IPv4 addresses pass.
	lenient := newGuard([]netip.Prefix{netip.MustParsePrefix("::/0")}, nil)
	f.Fuzz(func(t *testing.T, address string) {
		permitted := builtIn.control(t.Context(), "tcp", address, nil) == nil
		lenientlyPermitted := lenient.control(t.Context(), "tcp", address, nil) == nil
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			if permitted || lenientlyPermitted {
				t.Fatalf("%q is no address and is dialed", address)
			}
			return
		}
		ip, err := netip.ParseAddr(host)
		if err != nil {
			if permitted || lenientlyPermitted {
				t.Fatalf("%q is no address and is dialed", address)
			}
			return
		}
		// Package net judges by rules of its own.
		std := net.IP(ip.Unmap().WithZone("").AsSlice())
		if permitted && (!std.IsGlobalUnicast() || std.IsPrivate() || std.IsLoopback() || std.IsLinkLocalUnicast()) {
			t.Fatalf("%q is dialed", address)
		}
		if v4 := ip.Unmap(); v4.Is4() && !builtIn.permits(v4) {
			b := v4.As4()
			for _, carrier := range []netip.Addr{
				netip.AddrFrom16(v4.As16()),
				netip.AddrFrom16([16]byte{0x20, 0x02, b[0], b[1], b[2], b[3]}),
				netip.AddrFrom16([16]byte{0, 0x64, 0xff, 0x9b, 12: b[0], 13: b[1], 14: b[2], 15: b[3]}),
				netip.AddrFrom16([16]byte{0, 0x64, 0xff, 0x9b, 0, 1, 12: b[0], 13: b[1], 14: b[2], 15: b[3]}),
			} {
				if builtIn.permits(carrier) || lenient.permits(carrier) {
					t.Fatalf("%s is dialed, which carries %s", carrier, v4)
				}
			}
		}
	})
}

// FuzzBuildURL: whatever a caller sends, as a segment or as a parameter, changes
// neither the host that is called nor what else the URL says.
func FuzzBuildURL(f *testing.F) {
	for _, seed := range []string{"1", "", "a b", "../x", "@evil.example", "?x=1", "#y", "%2f", "a&b=c", "ä", "\r\n", "\x00", "//evil.example", "a;b", "\xff"} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, segment, value string) {
		u, err := parseURL("https://pets.example/v2/pet/" + url.PathEscape(segment) + "/photo?kind=small")
		if err != nil {
			return // too long, or nothing that a URL may hold
		}
		out := &outgoing{url: *u}
		if out.SetQuery("owner", value) != nil {
			return
		}
		again, err := url.Parse(out.url.String())
		if err != nil || again.Host != "pets.example" || again.Scheme != "https" || again.User != nil || again.Fragment != "" {
			t.Fatalf("%q, %q: %s, %v", segment, value, &out.url, err)
		}
		query, err := url.ParseQuery(again.RawQuery)
		if err != nil || len(query) != 2 || query.Get("kind") != "small" || query.Get("owner") != value || len(query["owner"]) != 1 {
			t.Fatalf("%q: %s: %v", value, &out.url, err)
		}
		if again.Path != "/v2/pet/"+segment+"/photo" {
			t.Fatalf("%q became %s", segment, strconv.Quote(again.Path))
		}
	})
}
