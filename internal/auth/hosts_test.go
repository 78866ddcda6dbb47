// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
)

// dialed returns the address to which net/http would connect for u, or "" if it
// would not. It is the judge of what a URL means.
func dialed(ctx context.Context, u *url.URL) string {
	var address string
	refuse := errors.New("not dialed")
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
			address = addr
			return nil, refuse
		},
	}
	request := (&http.Request{Method: http.MethodGet, URL: u, Header: http.Header{}, Host: u.Host}).WithContext(ctx)
	response, err := transport.RoundTrip(request)
	if err == nil {
		_ = response.Body.Close()
	}
	return address
}

const petstore = "petstore.example.com"

func TestAllowedHosts(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		hosts auth.AllowedHosts
		yes   []string
		no    []string
	}{
		"empty list": {
			hosts: nil,
			yes:   []string{"https://anything.example", "http://127.0.0.1:8080/", "https://[::1]:1/"},
			no:    []string{"ftp://petstore.example.com/", "file:///etc/passwd", "https:///path", "/path", "mailto:a@petstore.example.com", "https://127.1/"},
		},
		"exact name": {
			hosts: auth.AllowedHosts{petstore},
			yes: []string{
				"https://petstore.example.com", "https://petstore.example.com/", "https://petstore.example.com/v2/pet?x=https://evil.example#f",
				"https://petstore.example.com:443/", "https://petstore.example.com:0443/", "http://petstore.example.com/", "http://petstore.example.com:80/",
				"HTTPS://PetStore.Example.COM/", "https://petstore.example.com./", "https://petstore.example.com.:443/",
				"https://user:password@petstore.example.com/", "https://evil.example@petstore.example.com/", "https://evil.example%2f@petstore.example.com/",
				"https://ｐｅｔstore.example.com/", "https://petstore。example．com/", "https://petstore%E3%80%82example.com/",
			},
			no: []string{
				"https://evil.example/", "https://example.com/", "https://a.petstore.example.com/",
				"https://evilpetstore.example.com/", "https://petstore.example.com.evil.example/", "https://petstore.example.comevil.example/",
				"https://petstore.example.co/", "https://petstore-example.com/", "https://petstore.example.com-evil.example/",
				"https://petstore.example.com@evil.example/", "https://petstore.example.com:443@evil.example/", "https://petstore.example.com%2f@evil.example/",
				"https://petstore.example.com%40@evil.example/", "https://user:petstore.example.com@evil.example/",
				"https://evil.example/petstore.example.com", "https://evil.example/@petstore.example.com", "https://evil.example?@petstore.example.com",
				"https://evil.example#@petstore.example.com", "https://evil.example/https://petstore.example.com/",
				"https://petstore.example.com:8443/", "https://petstore.example.com:80/", "http://petstore.example.com:443/", "https://petstore.example.com:/",
				"https://petstore.example.com../", "https://.petstore.example.com/", "https://petstore..example.com/",
				"https://pet\u0455tore.example.com/", "https://xn--pettore-3jf.example.com/",
				"ftp://petstore.example.com/", "gopher://petstore.example.com/", "//petstore.example.com/", "https:petstore.example.com", "https:/petstore.example.com/",
				"https://petstore.example.com%00.evil.example/", "https://192.0.2.7/", "https://[2001:db8::7]/",
			},
		},
		"name with port": {
			hosts: auth.AllowedHosts{"petstore.example.com:8443"},
			yes:   []string{"https://petstore.example.com:8443/", "http://petstore.example.com:8443/", "https://petstore.example.com.:08443/"},
			no:    []string{"https://petstore.example.com/", "https://petstore.example.com:443/", "https://petstore.example.com:84430/", "https://petstore.example.com:844/", "https://evil.example:8443/"},
		},
		"explicit default port": {
			hosts: auth.AllowedHosts{"petstore.example.com:443"},
			yes:   []string{"https://petstore.example.com/", "https://petstore.example.com:443/", "http://petstore.example.com:443/"},
			no:    []string{"http://petstore.example.com/", "https://petstore.example.com:80/"},
		},
		"suffix": {
			hosts: auth.AllowedHosts{"*.petstore.example.com"},
			yes:   []string{"https://a.petstore.example.com/", "https://b.a.petstore.example.com/", "https://A.PETSTORE.example.com./", "http://a.petstore.example.com/"},
			no: []string{
				"https://petstore.example.com/", "https://.petstore.example.com/", "https://evilpetstore.example.com/", "https://a.evilpetstore.example.com/",
				"https://a.petstore.example.com.evil.example/", "https://a.petstore.example.com@evil.example/", "https://a.petstore.example.com:8443/",
				"https://petstore.example.com.a/", "https://example.com/", "https://*.petstore.example.com/", "https://evil.example/.petstore.example.com",
				"https://evil.example\\.petstore.example.com/", "https://evil.example%23.petstore.example.com/", "https://evil.example%E2%84%80.petstore.example.com/",
			},
		},
		"suffix with port": {
			hosts: auth.AllowedHosts{"*.example.com:8443"},
			yes:   []string{"https://a.example.com:8443/"},
			no:    []string{"https://a.example.com/", "https://example.com:8443/"},
		},
		"entry spelled otherwise": {
			hosts: auth.AllowedHosts{"PetStore.Example.COM.", "*.B\u00dccher.example", "[2001:DB8:0::7]:08443"},
			yes:   []string{"https://petstore.example.com/", "https://a.xn--bcher-kva.example/", "https://a.b\u00fccher.example/", "https://[2001:db8::7]:8443/"},
			no:    []string{"https://xn--bcher-kva.example/", "https://bucher.example/", "https://[2001:db8::7]/"},
		},
		"IPv4": {
			hosts: auth.AllowedHosts{"192.0.2.7", "127.0.0.1:8080"},
			yes:   []string{"https://192.0.2.7/", "http://127.0.0.1:8080/", "https://[::ffff:192.0.2.7]/", "https://[::ffff:c000:207]/"},
			no: []string{
				"https://192.0.2.8/", "https://192.0.2.70/", "https://1192.0.2.7/", "https://192.0.2.7.evil.example/", "https://a.192.0.2.7/",
				"https://192.0.2.7./", "https://192.0.2.07/", "https://192.0.519/", "https://3221225991/", "https://0xc0000207/", "https://0xc0.0.2.7/", "https://0300.0.2.7/",
				"http://127.1:8080/", "http://localhost:8080/", "http://0:8080/", "http://127.0.0.1/", "https://[::192.0.2.7]/", "https://[192.0.2.7]/",
			},
		},
		"IPv6": {
			hosts: auth.AllowedHosts{"[2001:db8::7]", "[::1]:8080"},
			yes:   []string{"https://[2001:db8::7]/", "https://[2001:0DB8:0:0:0:0:0:7]:443/", "http://[::1]:8080/"},
			no:    []string{"https://[2001:db8::8]/", "https://[2001:db8::7%25eth0]/", "http://[::1]/", "http://[::1%25lo]:8080/", "http://127.0.0.1:8080/", "https://2001:db8::7/"},
		},
		"invalid entries allow nothing": {
			hosts: auth.AllowedHosts{"*", "", "https://petstore.example.com", "*.*.example.com", "petstore.example.com/", "pet*.example.com", "127.1"},
			no:    []string{"https://petstore.example.com/", "https://a.b.example.com/", "https://127.1/", "https://127.0.0.1/"},
		},
		"later entries count": {
			hosts: auth.AllowedHosts{"a.example", "*.b.example", petstore},
			yes:   []string{"https://petstore.example.com/", "https://x.b.example/", "https://a.example/"},
			no:    []string{"https://b.example/"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, raw := range tc.yes {
				u, err := url.Parse(raw)
				if err != nil || !tc.hosts.Allows(u) {
					t.Errorf("%v refuses %q (%v)", tc.hosts, raw, err)
				}
			}
			for _, raw := range tc.no {
				// What does not parse is not sent either.
				if u, err := url.Parse(raw); err == nil && tc.hosts.Allows(u) {
					t.Errorf("%v allows %q", tc.hosts, raw)
				}
			}
		})
	}
}

// TestAllowedHostsJudgesHandMadeURLs: a URL that was put together need not be
// one that url.Parse returns.
func TestAllowedHostsJudgesHandMadeURLs(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	hosts := auth.AllowedHosts{petstore, "*.example.com"}
	g.Expect(hosts.Allows(nil)).To(BeFalse())
	g.Expect(hosts.Allows(&url.URL{})).To(BeFalse())
	g.Expect(hosts.Allows(&url.URL{Scheme: "https", Opaque: "//evil.example/", Host: petstore})).To(BeFalse())
	g.Expect(hosts.Allows(&url.URL{Scheme: "https", Host: petstore, User: url.User("evil.example")})).To(BeTrue())
	for _, host := range []string{
		"evil.example@petstore.example.com", "petstore.example.com@evil.example", "evil.example/.example.com", "evil.example#.example.com",
		"evil.example?.example.com", "evil.example\\.example.com", "evil.example:443.example.com", "evil.example:443@petstore.example.com",
		"evil.example\x00.example.com", "evil.example\r\n.example.com", "evil.example .example.com", "evil.example%2f.example.com",
		"[evil.example]", "[petstore.example.com]", "[::1", "::1]", "[::1]x", "[::1]:80:80", "petstore.example.com:443:443",
		"petstore.example.com:+443", "petstore.example.com:4_43", "petstore.example.com:0", "petstore.example.com:65979", "petstore.example.com:https",
		strings.Repeat("a", 64) + ".example.com", strings.Repeat("a.", 122) + "example.com",
	} {
		g.Expect(hosts.Allows(&url.URL{Scheme: "https", Host: host, Path: "/"})).To(BeFalse(), host)
	}
}

func TestAllowedHostsValidate(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	g.Expect(auth.AllowedHosts(nil).Validate()).To(Succeed())
	g.Expect(auth.AllowedHosts{
		petstore, "*.petstore.example.com", "PetStore.example.com.:8443", "localhost:8080", "pets", "pet_store.svc", "a--b.example", "bücher.example",
		"127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:65535", "1.2.3.4.example", strings.Repeat("a", 63) + ".example",
	}.Validate()).To(Succeed())

	for entry, want := range map[string]string{
		"":                                "is empty",
		"https://petstore.example.com":    "must be host[:port], without scheme",
		"petstore.example.com/v2":         "must be host[:port], without scheme",
		"user@petstore.example.com":       "must be host[:port], without scheme",
		"petstore.example.com?x":          "must be host[:port], without scheme",
		"*":                               "a wildcard must be the whole first label",
		"*petstore.example.com":           "a wildcard must be the whole first label",
		"a.*.example.com":                 "a wildcard must be the whole first label",
		"*.*.example.com":                 "a wildcard must be the whole first label",
		"*.":                              "host is empty",
		"*.127.0.0.1":                     "a wildcard needs a name, not an address",
		"*.[::1]":                         "a wildcard needs a name, not an address",
		".":                               "host is empty",
		".example.com":                    "host has an empty label",
		"a..example.com":                  "host has an empty label",
		"example.com..":                   "host has an empty label",
		"\tpetstore.example.com":          "host has the character '\\t'",
		"pet%73tore.example.com":          "host has the character '%'",
		"a,b":                             "host has the character ','",
		"petstore.example.com:":           "port is not a number",
		"petstore.example.com:0":          "port is not a number",
		"petstore.example.com:65536":      "port is not a number",
		"petstore.example.com:https":      "port is not a number",
		"petstore.example.com:-1":         "port is not a number",
		"::1":                             "an IPv6 address stands in brackets",
		"2001:db8::7":                     "an IPv6 address stands in brackets",
		"[::1":                            "an IPv6 address stands in brackets",
		"[::1]8080":                       "an IPv6 address stands in brackets",
		"[fe80::1%eth0]":                  "brackets must hold an IPv6 address without a zone",
		"[127.0.0.1]":                     "brackets must hold an IPv6 address without a zone",
		"127.1":                           "is not an IPv4 address in four decimal parts",
		"2130706433":                      "is not an IPv4 address in four decimal parts",
		"0x7f000001":                      "is not an IPv4 address in four decimal parts",
		"127.0.0.1.":                      "is not an IPv4 address in four decimal parts",
		"256.0.0.1":                       "is not an IPv4 address in four decimal parts",
		"b\u00fc\u200dcher.example":       "is not a valid internationalized host name",
		strings.Repeat("a", 64) + ".com":  "host has a label longer than 63 characters",
		strings.Repeat("a.", 126) + "com": "host is longer than 253 characters",
	} {
		err := auth.AllowedHosts{petstore, entry}.Validate()
		g.Expect(err).To(MatchError(ContainSubstring(want)), entry)
		g.Expect(err).To(MatchError(HavePrefix("allowedHosts[1] ")), entry)
	}
	g.Expect(auth.AllowedHosts{"*", petstore, "a b"}.Validate()).To(MatchError(And(
		ContainSubstring(`allowedHosts[0] "*"`), ContainSubstring(`allowedHosts[2] "a b"`), Not(ContainSubstring(petstore)))))
}

func TestCanonicalHost(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"https://PetStore.Example.com./v2": "petstore.example.com 443",
		"http://petstore.example.com":      "petstore.example.com 80",
		"HTTP://petstore.example.com:0081": "petstore.example.com 81",
		"https://b\u00fccher.example":      "xn--bcher-kva.example 443",
		"https://[2001:DB8:0::7]:8443":     "2001:db8::7 8443",
		"https://[::ffff:192.0.2.7]":       "192.0.2.7 443",
	} {
		g := NewWithT(t)
		u, err := url.Parse(raw)
		g.Expect(err).NotTo(HaveOccurred())
		host, port, err := auth.CanonicalHost(u)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(host + " " + port).To(Equal(want))

		// net/http agrees about where this goes.
		dialHost, dialPort, err := net.SplitHostPort(dialed(t.Context(), u))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(sameHost(dialHost, host)).To(BeTrue(), "%s is dialed as %s", raw, dialHost)
		g.Expect(strings.TrimLeft(dialPort, "0")).To(Equal(port))
	}
}

// sameHost compares a host that net/http dials with a canonical one, by means
// that have nothing in common with the code under test.
func sameHost(dialHost, canonical string) bool {
	if a, b := net.ParseIP(dialHost), net.ParseIP(canonical); a != nil || b != nil {
		return a.Equal(b)
	}
	return strings.EqualFold(strings.TrimSuffix(dialHost, "."), canonical)
}
