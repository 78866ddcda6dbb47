// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth_test

import (
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/headgate-io/headgate/internal/auth"
)

// FuzzAllowedHosts: whatever a URL looks like, if it is allowed then net/http
// connects to a listed host and port, and to nothing else.
func FuzzAllowedHosts(f *testing.F) {
	for _, seed := range []string{
		"https://petstore.example.com/", "https://a.b.shop.example:443", "http://192.0.2.7/", "https://[2001:db8::7]:8443/x", "HTTPS://PETSTORE.EXAMPLE.COM.",
		"https://petstore.example.com@evil.example/", "https://evil.example/.shop.example", "https://petstore%E3%80%82example.com/",
		"https://b\u00fccher.shop.example/", "https://\u2100.shop.example", "https://[::ffff:192.0.2.7]/", "http://3221225991/", "https://petstore.example.com:00443",
	} {
		f.Add(seed, "petstore.example.com")
	}
	f.Add("https://any.example/", "*.example")
	f.Add("https://[::1%25eth0]/", "[::1]")
	f.Fuzz(func(t *testing.T, raw, entry string) {
		checkAllowed(t, auth.AllowedHosts{"petstore.example.com", "*.shop.example", "192.0.2.7", "[2001:db8::7]:8443"}, raw)
		checkEntry(t, raw, entry)
	})
}

func checkAllowed(t *testing.T, hosts auth.AllowedHosts, raw string) {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil || !hosts.Allows(u) {
		return
	}
	address := dialed(t.Context(), u)
	if address == "" {
		return // net/http refuses the URL by itself
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatalf("%q is dialed as %q: %v", raw, address, err)
	}
	standard := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	port = strings.TrimLeft(port, "0")
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	switch {
	case sameHost(host, "petstore.example.com") && port == standard:
	case strings.HasSuffix(name, ".shop.example") && name != ".shop.example" && port == standard:
	case sameHost(host, "192.0.2.7") && port == standard:
	case sameHost(host, "2001:db8::7") && port == "8443":
	default:
		t.Fatalf("%q is allowed and dialed as %q", raw, address)
	}
}

// checkEntry: a list allows something only if it is valid, and judges a URL as
// it judges the same URL with its host in canonical form.
func checkEntry(t *testing.T, raw, entry string) {
	t.Helper()
	hosts := auth.AllowedHosts{entry}
	valid := hosts.Validate() == nil
	u, err := url.Parse(raw)
	if err != nil {
		return
	}
	allowed := hosts.Allows(u)
	if allowed && !valid {
		t.Fatalf("the invalid entry %q allows %q", entry, raw)
	}
	host, port, err := auth.CanonicalHost(u)
	if err != nil {
		if allowed {
			t.Fatalf("%q allows %q, which has no canonical host", entry, raw)
		}
		return
	}
	u.Host = net.JoinHostPort(host, port)
	if hosts.Allows(u) != allowed {
		t.Fatalf("%q judges %q and %q differently", entry, raw, u.Host)
	}
}

// FuzzBasicHeader: what the verifier accepts, net/http reads as the same user
// and password; what a client of net/http sends is accepted.
func FuzzBasicHeader(f *testing.F) {
	const user, password = "Aladdin", "open:sesame"
	verifier := mustVerifier(f, basicSpec(), keyring("user", user, "password", password))
	good := "Basic " + basicValue(user+":"+password)
	for _, seed := range []string{
		good, "basic " + basicValue(user+":"+password), "Basic  " + basicValue(user+":"+password), good + "=", good[:len(good)-1], good + " ",
		"Basic", "Basic ", "Basic " + basicValue(user), "Basic " + basicValue(":"), "Bearer x", "", "Basic \x00", "Basic QQ==\r\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		identity, err := verifier.Verify(headers("Authorization", value))
		scheme, rest, _ := strings.Cut(value, " ")
		request := http.Request{Header: http.Header{"Authorization": {scheme + " " + strings.TrimLeft(rest, " ")}}}
		gotUser, gotPassword, ok := request.BasicAuth()
		matches := ok && gotUser == user && gotPassword == password
		if err == nil && (!matches || identity.Subject != user) {
			t.Fatalf("%q is accepted as %+v", value, identity)
		}
		request.SetBasicAuth(user, password)
		if matches && request.Header.Get("Authorization") == value && err != nil {
			t.Fatalf("%q is refused: %v", value, err)
		}
	})
}
