// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// AllowedHosts limits the hosts to which a secret may be sent. An empty list
// allows every host. Each entry is one of
//
//	petstore.example.com         this name
//	petstore.example.com:8443    this name on this port
//	*.example.com                any name below, at any depth, not example.com itself
//	*.example.com:8443           the same on this port
//	192.0.2.7, [2001:db8::7]     this address; IPv6 in brackets
//
// An entry without a port allows only the default port of the URL's scheme: 443
// for https, 80 for http. Names are compared in lower case, without a final
// dot, and in their ASCII form (IDNA, RFC 5891). An address is never matched by
// a name, nor a name by an address.
type AllowedHosts []string

const (
	schemeHTTP  = "http"
	schemeHTTPS = "https"
	portHTTP    = "80"
	portHTTPS   = "443"

	maxHostName  = 253 // octets of a name without its final dot, RFC 1035 section 2.3.4
	maxHostLabel = 63  // octets of a label, RFC 1035 section 2.3.4
)

// Validate returns an error that names each entry which is not of a form that
// [AllowedHosts] describes, and why.
func (a AllowedHosts) Validate() error {
	var errs []error
	for i, entry := range a {
		if _, err := parseHostEntry(entry); err != nil {
			errs = append(errs, fmt.Errorf("allowedHosts[%d] %q: %w", i, entry, err))
		}
	}
	return errors.Join(errs...)
}

// Allows reports whether a secret may be sent to u. It judges the parsed host
// of u alone: user information, path and fragment have no say. It is false, also
// for an empty list, for a URL without a usable host or with a scheme other than
// http and https; an invalid entry allows nothing. Send the request to the host
// that [CanonicalHost] returns, so that what was judged is what is dialed.
func (a AllowedHosts) Allows(u *url.URL) bool {
	host, port, err := CanonicalHost(u)
	if err != nil {
		return false
	}
	if len(a) == 0 {
		return true
	}
	standard := port == defaultPort(u.Scheme)
	for _, text := range a {
		entry, err := parseHostEntry(text)
		if err != nil {
			continue
		}
		if entry.matches(host) && (entry.port == port || entry.port == "" && standard) {
			return true
		}
	}
	return false
}

// CanonicalHost returns the host and port that u addresses, in the one form in
// which hosts are compared: a lower-case ASCII name without a final dot, or an
// IP address without brackets, IPv4-mapped IPv6 as IPv4; the port in decimal,
// the scheme's default where u has none. It is an error when u is not an http or
// https URL or its host has more than one reading, as "127.1" has, which some
// resolvers take for an address.
func CanonicalHost(u *url.URL) (host, port string, err error) {
	if u == nil || u.Opaque != "" {
		return "", "", errors.New("URL has no host")
	}
	fallback := defaultPort(u.Scheme)
	if fallback == "" {
		return "", "", errors.New("URL scheme is neither http nor https")
	}
	host, port, err = splitHostPort(u.Host)
	if err != nil {
		return "", "", err
	}
	if host, err = canonicalName(host); err != nil {
		return "", "", err
	}
	if port == "" {
		port = fallback
	}
	return host, port, nil
}

// defaultPort returns "" for a scheme that is neither http nor https.
func defaultPort(scheme string) string {
	switch {
	case strings.EqualFold(scheme, schemeHTTPS):
		return portHTTPS
	case strings.EqualFold(scheme, schemeHTTP):
		return portHTTP
	default:
		return ""
	}
}

// hostEntry is one entry of AllowedHosts.
type hostEntry struct {
	host  string // canonical
	below bool   // any name below host, instead of host
	port  string // canonical; "" is the scheme's default port
}

func (e hostEntry) matches(host string) bool {
	if !e.below {
		return host == e.host
	}
	name, ok := strings.CutSuffix(host, e.host)
	return ok && strings.HasSuffix(name, ".")
}

func parseHostEntry(text string) (hostEntry, error) {
	switch {
	case text == "":
		return hostEntry{}, errors.New("is empty")
	case strings.ContainsAny(text, "/@?#\\"):
		return hostEntry{}, errors.New("must be host[:port], without scheme, user, path or query")
	}
	rest, below := strings.CutPrefix(text, "*.")
	if strings.Contains(rest, "*") {
		return hostEntry{}, errors.New(`a wildcard must be the whole first label, as in "*.example.com"`)
	}
	host, port, err := splitHostPort(rest)
	if err != nil {
		return hostEntry{}, err
	}
	host, err = canonicalName(host)
	if err != nil {
		return hostEntry{}, err
	}
	if below && isAddress(host) {
		return hostEntry{}, errors.New("a wildcard needs a name, not an address")
	}
	return hostEntry{host: host, below: below, port: port}, nil
}

// splitHostPort splits host[:port], where an IPv6 address stands in brackets
// and the host keeps them. The port comes without leading zeros.
func splitHostPort(text string) (host, port string, err error) {
	host = text
	if end := strings.LastIndexByte(text, ']'); end >= 0 {
		host, port = text[:end+1], text[end+1:]
	} else if colon := strings.IndexByte(text, ':'); colon >= 0 {
		host, port = text[:colon], text[colon:]
	}
	if port == "" {
		return host, "", nil
	}
	if port[0] != ':' || strings.Count(port, ":") > 1 {
		return "", "", errors.New("is not host[:port]; an IPv6 address stands in brackets")
	}
	number, err := strconv.ParseUint(port[1:], 10, 16)
	if err != nil || number == 0 {
		return "", "", errors.New("port is not a number from 1 to 65535")
	}
	if port[1] == '0' {
		return host, strconv.FormatUint(number, 10), nil
	}
	return host, port[1:], nil
}

// canonicalName returns the form in which hosts are compared. It does not
// allocate for a name that is in that form.
func canonicalName(host string) (string, error) {
	if literal, ok := strings.CutPrefix(host, "["); ok {
		literal, ok = strings.CutSuffix(literal, "]")
		addr, err := netip.ParseAddr(literal)
		if !ok || err != nil || !addr.Is6() || addr.Zone() != "" {
			return "", errors.New("brackets must hold an IPv6 address without a zone")
		}
		return addr.Unmap().String(), nil
	}
	// net/http dials what this profile makes of a name that is not ASCII.
	if !isASCII(host) {
		ascii, err := idna.Lookup.ToASCII(host)
		if err != nil {
			return "", errors.New("is not a valid internationalized host name")
		}
		host = ascii
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if err := checkName(name); err != nil {
		return "", err
	}
	if !endsInNumber(name) {
		return name, nil
	}
	addr, err := netip.ParseAddr(name)
	if err != nil || name != host {
		return "", errors.New("ends in a number but is not an IPv4 address in four decimal parts")
	}
	return addr.String(), nil
}

func checkName(name string) error {
	if name == "" {
		return errors.New("host is empty")
	}
	if len(name) > maxHostName {
		return fmt.Errorf("host is longer than %d characters", maxHostName)
	}
	label := 0
	for i := range len(name) {
		c := name[i]
		switch {
		case c == '.' && label == 0:
			return errors.New("host has an empty label")
		case c == '.':
			label = 0
			continue
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return fmt.Errorf("host has the character %q", rune(c))
		}
		if label++; label > maxHostLabel {
			return fmt.Errorf("host has a label longer than %d characters", maxHostLabel)
		}
	}
	if label == 0 {
		return errors.New("host has an empty label")
	}
	return nil
}

// endsInNumber reports whether the last label is decimal or hexadecimal, as in
// "127.1" or "0x7f000001": resolvers differ on whether that is an address, so a
// host of this kind is one only in its plain form.
func endsInNumber(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	digits, set := last, "0123456789"
	if hex, ok := strings.CutPrefix(last, "0x"); ok {
		digits, set = hex, "0123456789abcdef"
	}
	return strings.Trim(digits, set) == ""
}

// isAddress judges a canonical host.
func isAddress(host string) bool {
	return strings.Contains(host, ":") || endsInNumber(host)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
