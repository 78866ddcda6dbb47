// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

func trusted(networks ...string) proxies {
	var out proxies
	for _, n := range networks {
		out = append(out, netip.MustParsePrefix(n))
	}
	return out
}

// What proxies say counts as far as trusted ones vouch for it, and no further.
func TestOrigin(t *testing.T) {
	t.Parallel()
	const us, them = "10.0.0.9:1234", "192.0.2.66:1234"
	fleet := trusted("10.0.0.0/8", "2001:db8:1::/48")
	for name, test := range map[string]struct {
		remote  string
		header  []string
		address string
		base    string
	}{
		"no proxy":                    {them, nil, "192.0.2.66", "http://hooks"},
		"spoofed by a caller":         {them, []string{forwardedFor, "198.51.100.1", forwardedProto, "https", forwardedHost, "evil"}, "192.0.2.66", "http://hooks"},
		"a proxy alone":               {us, nil, "10.0.0.9", "http://hooks"},
		"one proxy":                   {us, []string{forwardedFor, "198.51.100.1"}, "198.51.100.1", "http://hooks"},
		"spoofed before the proxy":    {us, []string{forwardedFor, "203.0.113.1, 198.51.100.1"}, "198.51.100.1", "http://hooks"},
		"two proxies":                 {us, []string{forwardedFor, "203.0.113.1, 198.51.100.1,10.1.2.3"}, "198.51.100.1", "http://hooks"},
		"two proxies, two lines":      {us, []string{forwardedFor, "203.0.113.1, 198.51.100.1", forwardedFor, "10.1.2.3"}, "198.51.100.1", "http://hooks"},
		"proxies all the way":         {us, []string{forwardedFor, "10.7.7.7, 10.1.2.3"}, "10.7.7.7", "http://hooks"},
		"spoofed as a proxy":          {us, []string{forwardedFor, "10.7.7.7, 198.51.100.1"}, "198.51.100.1", "http://hooks"},
		"IPv6":                        {"[2001:db8:1::9]:443", []string{forwardedFor, "2001:db8:2::1"}, "2001:db8:2::1", "http://hooks"},
		"IPv6 in brackets":            {us, []string{forwardedFor, "[2001:db8:2::1]"}, "2001:db8:2::1", "http://hooks"},
		"with ports":                  {us, []string{forwardedFor, "198.51.100.1:5555, [2001:db8:1::2]:80"}, "198.51.100.1", "http://hooks"},
		"IPv4 in IPv6":                {"[::ffff:10.0.0.9]:1", []string{forwardedFor, "::ffff:198.51.100.1"}, "198.51.100.1", "http://hooks"},
		"nonsense ends the walk":      {us, []string{forwardedFor, "198.51.100.1, unknown, 10.1.2.3"}, "10.1.2.3", "http://hooks"},
		"nonsense at the end":         {us, []string{forwardedFor, "198.51.100.1, 10.0.0.300"}, "10.0.0.9", "http://hooks"},
		"an obfuscated name":          {us, []string{forwardedFor, "198.51.100.1, _proxy"}, "10.0.0.9", "http://hooks"},
		"empty":                       {us, []string{forwardedFor, ""}, "10.0.0.9", "http://hooks"},
		"a gap":                       {us, []string{forwardedFor, "198.51.100.1,,10.1.2.3"}, "10.1.2.3", "http://hooks"},
		"a network":                   {us, []string{forwardedFor, "198.51.100.0/24"}, "10.0.0.9", "http://hooks"},
		"too many":                    {us, []string{forwardedFor, "198.51.100.1" + strings.Repeat(",10.0.0.1", maxForwarded)}, "10.0.0.1", "http://hooks"},
		"as many as are taken":        {us, []string{forwardedFor, "198.51.100.1" + strings.Repeat(",10.0.0.1", maxForwarded-1)}, "198.51.100.1", "http://hooks"},
		"underscores":                 {us, []string{"X_forwarded_for", "198.51.100.1", "X_Forwarded-Host", "evil"}, "10.0.0.9", "http://hooks"},
		"other names":                 {us, []string{"Forwarded", "for=198.51.100.1", "X-Real-Ip", "198.51.100.1"}, "10.0.0.9", "http://hooks"},
		"scheme and host":             {us, []string{forwardedProto, "https", forwardedHost, "hooks.example.com"}, "10.0.0.9", "https://hooks.example.com"},
		"scheme in capitals":          {us, []string{forwardedProto, "HTTPS"}, "10.0.0.9", "https://hooks"},
		"host and port":               {us, []string{forwardedHost, "hooks.example.com:8443"}, "10.0.0.9", "http://hooks.example.com:8443"},
		"IPv6 host":                   {us, []string{forwardedHost, "[2001:db8::1]:8443"}, "10.0.0.9", "http://[2001:db8::1]:8443"},
		"two schemes":                 {us, []string{forwardedProto, "https, http"}, "10.0.0.9", "http://hooks"},
		"scheme twice":                {us, []string{forwardedProto, "https", forwardedProto, "https"}, "10.0.0.9", "http://hooks"},
		"another scheme":              {us, []string{forwardedProto, "javascript"}, "10.0.0.9", "http://hooks"},
		"two hosts":                   {us, []string{forwardedHost, "a.example, b.example"}, "10.0.0.9", "http://hooks"},
		"no host":                     {us, []string{forwardedHost, ""}, "10.0.0.9", "http://hooks"},
		"a host with a path":          {us, []string{forwardedHost, "hooks.example.com/x"}, "10.0.0.9", "http://hooks"},
		"a host cut short":            {us, []string{forwardedHost, "["}, "10.0.0.9", "http://hooks"},
		"a port alone":                {us, []string{forwardedHost, ":80"}, "10.0.0.9", "http://hooks"},
		"a port that is none":         {us, []string{forwardedHost, "hooks.example.com:x"}, "10.0.0.9", "http://hooks"},
		"a host with a user":          {us, []string{forwardedHost, "user@hooks.example.com"}, "10.0.0.9", "http://hooks"},
		"a connection without an end": {"@", []string{forwardedFor, "198.51.100.1"}, "invalid IP", "http://hooks"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/hook/pets/x", http.NoBody)
			r.Host, r.RemoteAddr = "hooks", test.remote
			for i := 0; i < len(test.header); i += 2 {
				r.Header[test.header[i]] = append(r.Header[test.header[i]], test.header[i+1])
			}
			o := fleet.origin(r)
			g.Expect(o.address.String()).To(Equal(test.address))
			g.Expect(o.scheme + "://" + o.host).To(Equal(test.base))
		})
	}
	g := NewWithT(t)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/hook/pets/x", http.NoBody)
	r.TLS = new(tls.ConnectionState)
	g.Expect(proxies(nil).origin(r).scheme).To(Equal("https"))
}

// A header that claims an origin is shown if a trusted proxy is behind it.
func TestDropForwarded(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	claims := []string{"X-Forwarded-For", "X-Forwarded-Anything", "X-Real-Ip", "Forwarded", "True-Client-Ip"}
	spelled := []string{"X_forwarded_for", "X-Forwarded_proto", "X_real-Ip", "True_client_ip"}
	others := []string{"X-Request-Id", "Content-Type", "X_tenant", "From", "X-Forward"}
	for _, trust := range []bool{false, true} {
		header := http.Header{}
		for _, names := range [][]string{claims, spelled, others} {
			for _, name := range names {
				header[name] = []string{"1"}
			}
		}
		dropForwarded(header, trust)
		want := others
		if trust {
			want = append(append([]string{}, others...), claims...)
		}
		g.Expect(header).To(HaveLen(len(want)))
		for _, name := range want {
			g.Expect(header).To(HaveKey(name))
		}
	}
}

// Address ranges, rate limits and expressions go by the caller whom a trusted
// proxy names; without one, by the connection.
func TestTrustedProxies(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	behind := startGateway(t, func(o *Options) { o.TrustedProxies = trusted("127.0.0.0/8") })
	direct := startGateway(t, func(o *Options) { o.TrustedProxies = trusted("10.0.0.0/8") })
	for _, gw := range []*replica{behind, direct} {
		ctl := connectController(t, gw)
		g.Expect(ctl.put(echoProgram("origin", "", func(p *program.Program) {
			p.Response.JSON = json.RawMessage(`{"ip": "${request.ip}", "url": "${request.url}", "seen": "${request.headers.exists(n, n.startsWith('x-forwarded'))}"}`)
		}), gw)).To(Equal(bus.AckServed))
		g.Expect(ctl.put(echoProgram("near", "near", func(p *program.Program) {
			p.Webhook.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
		}), gw)).To(Equal(bus.AckServed))
		g.Expect(ctl.put(echoProgram("limited", "limited", func(p *program.Program) {
			p.Webhook.RateLimit = &program.RateLimit{Requests: 1, Per: program.Duration(patience) * 100, Burst: 1, Key: "${request.ip}"}
		}), gw)).To(Equal(bus.AckServed))
	}
	from := func(address string) []string {
		return []string{forwardedFor, address, forwardedProto, "https", forwardedHost, "hooks.example.com"}
	}
	g.Expect(behind.send("GET", "/hook/pets/origin?a=1", "", from("203.0.113.9, 198.51.100.7")...).body).To(MatchJSON(
		`{"ip": "198.51.100.7", "url": "https://hooks.example.com/hook/pets/origin?a=1", "seen": true}`))
	g.Expect(direct.send("GET", "/hook/pets/origin?a=1", "", from("203.0.113.9, 198.51.100.7")...).body).To(MatchJSON(
		`{"ip": "127.0.0.1", "url": "http://` + direct.Addr() + `/hook/pets/origin?a=1", "seen": false}`))
	g.Expect(behind.send("GET", "/hook/pets/near", "", from("198.51.100.7")...).StatusCode).To(Equal(200))
	g.Expect(behind.send("GET", "/hook/pets/near", "", from("198.51.100.7, 192.0.2.1")...).StatusCode).To(Equal(403))
	g.Expect(direct.send("GET", "/hook/pets/near", "", from("198.51.100.7")...).StatusCode).To(Equal(403))
	for _, address := range []string{"192.0.2.1", "192.0.2.2"} {
		g.Expect(behind.send("GET", "/hook/pets/limited", "", from(address)...).StatusCode).To(Equal(200), address)
		g.Expect(behind.send("GET", "/hook/pets/limited", "", from(address)...).StatusCode).To(Equal(429), address)
	}
	g.Expect(direct.send("GET", "/hook/pets/limited", "", from("192.0.2.1")...).StatusCode).To(Equal(200))
	g.Expect(direct.send("GET", "/hook/pets/limited", "", from("192.0.2.2")...).StatusCode).To(Equal(429))
}

func FuzzOrigin(f *testing.F) {
	f.Add("198.51.100.1, 10.1.2.3", "https", "hooks.example.com")
	f.Add("[2001:db8::1]:80,unknown", "http,https", "a@b/c")
	f.Add(",,;", "", "[::1%25eth0]")
	f.Add("0", "https", "[")
	fleet := trusted("10.0.0.0/8")
	f.Fuzz(func(t *testing.T, chain, scheme, host string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/hook/pets/x", http.NoBody)
		r.Host, r.RemoteAddr = "hooks", "10.0.0.9:1"
		r.Header[forwardedFor], r.Header[forwardedProto], r.Header[forwardedHost] = []string{chain}, []string{scheme}, []string{host}
		o := fleet.origin(r)
		if !o.address.IsValid() || o.address.Is4In6() || o.address.Zone() != "" {
			t.Fatalf("the address %v of %q", o.address, chain)
		}
		u, err := http.NewRequestWithContext(t.Context(), http.MethodGet, o.scheme+"://"+o.host+"/x", http.NoBody)
		if err != nil || u.URL.Host != o.host || u.URL.Path != "/x" || u.URL.User != nil {
			t.Fatalf("the host %q makes another URL: %v", o.host, err)
		}
		// What was not vouched for does not count: the entry last in the chain is
		// the only one that an untrusted sender before the proxy cannot choose.
		r.Header[forwardedFor] = []string{chain + ", 198.51.100.1"}
		if o := fleet.origin(r); o.address != netip.MustParseAddr("198.51.100.1") {
			t.Fatalf("%q became %v", chain, o.address)
		}
	})
}
