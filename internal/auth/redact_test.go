// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
)

// awkward has a different look in every encoding.
const awkward = `p&ä"s/w+r d<1>~\?=%`

func TestRedactorKnowsEncodings(t *testing.T) {
	t.Parallel()
	encode := func(value any, html bool) string {
		var b strings.Builder
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(html)
		if err := e.Encode(value); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	logLine := func(value string) string {
		var b strings.Builder
		slog.New(slog.NewTextHandler(&b, nil)).Info("m", "v", value)
		return b.String()
	}
	for _, value := range []string{awkward, canary, "four", "pass", "\x01<control>\u2028&", "\x00\xff\xfe\x01", strings.Repeat("long ", 50)} {
		r := auth.NewRedactor(secret(value))
		raw := []byte(value)
		for name, form := range map[string]string{
			"raw":             value,
			"base64":          base64.StdEncoding.EncodeToString(raw),
			"raw base64":      base64.RawStdEncoding.EncodeToString(raw),
			"URL base64":      base64.URLEncoding.EncodeToString(raw),
			"raw URL base64":  base64.RawURLEncoding.EncodeToString(raw),
			"hex":             hex.EncodeToString(raw),
			"upper hex":       strings.ToUpper(hex.EncodeToString(raw)),
			"query":           url.QueryEscape(value),
			"path":            url.PathEscape(value),
			"URL value":       strings.TrimPrefix(url.Values{"k": {value}}.Encode(), "k="),
			"quoted":          strings.Trim(fmt.Sprintf("%q", value), `"`),
			"bearer":          "Bearer " + value,
			"basic":           "Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+value)),
			"basic, shifted":  "Basic " + base64.StdEncoding.EncodeToString([]byte("users:"+value)),
			"basic, unpadded": "Basic " + base64.RawURLEncoding.EncodeToString([]byte("me:"+value+":")),
		} {
			got := r.String("before " + form + " after")
			if strings.Contains(got, form) || !strings.Contains(got, "[redacted]") {
				t.Errorf("%s of %q is left in %q", name, value, got)
			}
			if !strings.HasPrefix(got, "before ") || !strings.HasSuffix(got, " after") {
				t.Errorf("%s of %q: the rest of the text is gone: %q", name, value, got)
			}
		}
		g := NewWithT(t)
		g.Expect(r.String(logLine(value))).To(MatchRegexp(`v="?\[redacted\]"?\n$`))
		if utf8.ValidString(value) { // a JSON encoder replaces other bytes
			g.Expect(r.String(encode(map[string]string{"k": value}, true))).To(Equal(`{"k":"[redacted]"}` + "\n"))
			g.Expect(r.String(encode(map[string]string{"k": value}, false))).To(Equal(`{"k":"[redacted]"}` + "\n"))
		}
	}
	lower := strings.ToLower(url.QueryEscape("a/b+c=d"))
	NewWithT(t).Expect(auth.NewRedactor(secret("a/b+c=d")).String("?k=" + lower)).To(Equal("?k=[redacted]"))
}

func TestRedactorReplaces(t *testing.T) {
	t.Parallel()
	r := auth.NewRedactor(secret("alpha-secret"), secret("alpha-secret-long"), secret("long-tail"), secret("pha-sec"), secret(""), auth.Secret{}, secret("abc"))
	for in, want := range map[string]string{
		"":                                      "",
		"nothing here":                          "nothing here",
		"alpha-secret":                          "[redacted]",
		"x alpha-secret y alpha-secret z":       "x [redacted] y [redacted] z",
		"a longer one wins: alpha-secret-long!": "a longer one wins: [redacted]!",
		"overlapping: alpha-secret-long-tail.":  "overlapping: [redacted].",
		"touching: alpha-secretalpha-secret.":   "touching: [redacted].",
		"abc is too short to look for":          "abc is too short to look for",
		"ALPHA-SECRET is another value":         "ALPHA-SECRET is another value",
	} {
		NewWithT(t).Expect(r.String(in)).To(Equal(want))
	}
	var none *auth.Redactor
	NewWithT(t).Expect(none.String(canary)).To(Equal(canary))
	NewWithT(t).Expect(auth.NewRedactor().String(canary)).To(Equal(canary))
}
