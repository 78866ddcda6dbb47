// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

const (
	forwardedPrefix = "X-Forwarded-"
	forwardedFor    = "X-Forwarded-For"
	forwardedProto  = "X-Forwarded-Proto"
	forwardedHost   = "X-Forwarded-Host"

	// maxForwarded bounds how many addresses of a request are looked at, which
	// is more than there are proxies on any way.
	maxForwarded = 32
)

// origin is where a request comes from and how its sender addressed it.
type origin struct {
	// address of the caller; invalid if the connection has none.
	address netip.Addr
	scheme  string
	host    string
}

// proxies are the networks whose word about a request is believed.
type proxies []netip.Prefix

func (p proxies) trust(address netip.Addr) bool {
	return slices.ContainsFunc(p, func(prefix netip.Prefix) bool { return prefix.Contains(address) })
}

// origin tells where a request comes from. What a header says about that counts
// only when the other end of the connection is a trusted proxy; otherwise the
// header is taken out of the request, so that nobody takes it for a fact.
func (p proxies) origin(r *http.Request) origin {
	o := origin{scheme: "http", host: r.Host}
	if r.TLS != nil {
		o.scheme = "https"
	}
	peer, ok := callerAddress(r.RemoteAddr)
	if ok {
		o.address = peer
	}
	trusted := ok && p.trust(peer)
	dropForwarded(r.Header, trusted)
	if !trusted {
		return o
	}
	o.address = p.caller(peer, r.Header[forwardedFor])
	if scheme, ok := only(r.Header[forwardedProto]); ok {
		if scheme = strings.ToLower(scheme); scheme == "http" || scheme == "https" {
			o.scheme = scheme
		}
	}
	if host, ok := only(r.Header[forwardedHost]); ok && isHost(host) {
		o.host = host
	}
	return o
}

// caller walks from the proxy that is connected to the one before it, as long as
// each is trusted. What cannot be read ends the walk: the last address that a
// trusted proxy has vouched for is the caller's.
func (p proxies) caller(peer netip.Addr, header []string) netip.Addr {
	left := maxForwarded
	for _, line := range slices.Backward(header) {
		for rest, more := line, true; more; left-- {
			var entry string
			if at := strings.LastIndexByte(rest, ','); at >= 0 {
				rest, entry = rest[:at], rest[at+1:]
			} else {
				entry, more = rest, false
			}
			address, ok := forwardedAddress(strings.Trim(entry, " \t"))
			if !ok || left == 0 {
				return peer
			}
			if peer = address; !p.trust(peer) {
				return peer
			}
		}
	}
	return peer
}

// forwardedAddress reads an address, which some proxies write with the port.
func forwardedAddress(text string) (netip.Addr, bool) {
	address, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	if err != nil {
		endpoint, err := netip.ParseAddrPort(text)
		if err != nil {
			return netip.Addr{}, false
		}
		address = endpoint.Addr()
	}
	return address.Unmap().WithZone(""), true
}

// only returns the value of a header that has exactly one.
func only(values []string) (string, bool) {
	if len(values) != 1 || strings.Contains(values[0], ",") {
		return "", false
	}
	return strings.Trim(values[0], " \t"), true
}

// isHost tells whether a text is a host, or host:port, and nothing beside it.
func isHost(text string) bool {
	if text == "" || !httpguts.ValidHostHeader(text) || strings.ContainsAny(text, "/\\?#@%;, ") {
		return false
	}
	u, err := url.Parse("//" + text)
	return err == nil && u.Host == text && u.Hostname() != ""
}

// dropForwarded removes what claims to know where a request comes from. Of a
// trusted proxy the well-known names stay; spelled with underscores they are
// another way to say what the proxy has not checked.
func dropForwarded(header http.Header, trusted bool) {
	for name := range header {
		if claimsOrigin(name) && (!trusted || strings.Contains(name, "_")) {
			delete(header, name)
		}
	}
}

// originClaims are the headers beside X-Forwarded-* in which proxies tell where a
// request comes from.
var originClaims = map[string]bool{
	"Cf-Connecting-Ip":    true,
	"Forwarded":           true,
	"True-Client-Ip":      true,
	"X-Client-Ip":         true,
	"X-Cluster-Client-Ip": true,
	"X-Original-Host":     true,
	"X-Original-Url":      true,
	"X-Real-Ip":           true,
}

func claimsOrigin(name string) bool {
	if strings.Contains(name, "_") {
		name = http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
	}
	return strings.HasPrefix(name, forwardedPrefix) || originClaims[name]
}
