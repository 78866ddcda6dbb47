// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth_test

import (
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

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

// FuzzSignatureHeader: whatever a header says, a request is accepted only if
// the header holds the signature that is expected, and its time exactly once.
func FuzzSignatureHeader(f *testing.F) {
	const id = "msg_1"
	keys := keyring("k", hookKey)
	at := time.Unix(hookTime, 0)
	stamp := strconv.Itoa(hookTime)
	type scheme struct {
		spec      auth.Spec
		verifier  auth.Verifier
		header    string
		signature string // without what stands in front of it
	}
	var schemes []scheme
	for name, prefix := range map[auth.PresetName]string{
		auth.PresetGitHub: "sha256=", auth.PresetStripe: "v1=", auth.PresetSlack: "v0=", auth.PresetShopify: "", auth.PresetStandardWebhooks: "v1,",
	} {
		spec := preset(name, "", "k")
		_, header := spec.Carrier()
		value := sign(f, spec, keys, auth.Message{Body: []byte(hookBody), Time: at, ID: id}).Header.Get(header)
		schemes = append(schemes, scheme{spec, mustVerifier(f, spec, keys), header, value[strings.LastIndex(value, prefix)+len(prefix):]})
		for _, seed := range []string{
			value, value + "," + value, value + " " + value, value + ",v1=" + unsigned, "t=1," + value, " " + value, strings.ToUpper(value),
			strings.ReplaceAll(value, ",", ";"), value[:len(value)-1], value + "=", "v0=" + unsigned + "," + value, "v1," + unsignedB + " " + value,
		} {
			f.Add(seed, stamp, id)
		}
	}
	f.Add("", "", "")
	f.Add("t=1712345678,t=1712345678,v1=", "+1712345678", "msg_1.1712345678")
	f.Fuzz(func(t *testing.T, value, timestamp, delivery string) {
		for _, s := range schemes {
			in := headers(s.header, value, "X-Slack-Request-Timestamp", timestamp, "Webhook-Timestamp", timestamp, "Webhook-Id", delivery)
			in.Body, in.Time = []byte(hookBody), at
			if _, err := s.verifier.Verify(in); err != nil {
				continue
			}
			h := s.spec.HMAC
			switch {
			case !strings.Contains(value, s.signature) && !strings.Contains(value, strings.ToUpper(s.signature)):
				t.Fatalf("%s: %q is accepted without the signature", s.header, value)
			case h.Timestamp != nil && h.Timestamp.Header != "" && timestamp != stamp:
				t.Fatalf("%s: the time %q is accepted", s.header, timestamp)
			case h.Timestamp != nil && h.Timestamp.ListKey != "" && listed(value, "t") != 1:
				t.Fatalf("%s: %q is accepted", s.header, value)
			case h.ID != nil && delivery != id:
				t.Fatalf("%s: the id %q is accepted", s.header, delivery)
			}
		}
	})
}

// listed counts the pairs of a key in a list.
func listed(value, key string) int {
	count := 0
	for pair := range strings.SplitSeq(value, ",") {
		if name, _, _ := strings.Cut(strings.Trim(pair, " \t"), "="); name == key {
			count++
		}
	}
	return count
}
