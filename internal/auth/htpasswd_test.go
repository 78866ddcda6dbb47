// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"golang.org/x/crypto/bcrypt"

	"github.com/headgate-io/headgate/internal/auth"
)

// apacheLine is what `htpasswd -nbB myName myPassword` prints in the manual of the
// Apache server (Password Formats).
const apacheLine = "myName:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC"

// aHash is well formed; nobody knows its password.
const aHash = "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"

func htpasswdSpec() auth.Spec { return auth.Spec{Basic: &auth.Basic{Htpasswd: "file"}} }

func hash(tb testing.TB, password string) string {
	tb.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		tb.Fatal(err)
	}
	return string(h)
}

// users returns a file and a verifier for it.
func users(tb testing.TB, lines ...string) auth.Verifier {
	tb.Helper()
	return mustVerifier(tb, htpasswdSpec(), keyring("file", strings.Join(lines, "\n")+"\n"))
}

func as(user, password string) *auth.Inbound {
	in := headers("Authorization", "Basic "+basicValue(user+":"+password))
	in.Time = time.Unix(1_700_000_000, 0)
	return in
}

func TestVerifyHtpasswd(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("p", auth.MaxPasswordBytes)
	v := users(t,
		"# partners", apacheLine, "", "Jürgen:"+hash(t, "größer:als"), "long:"+hash(t, long),
		"old:"+strings.Replace(hash(t, "a"), "$2a$", "$2b$", 1)+"\r")
	cases := byte(0)
	for name, tc := range map[string]struct {
		in   *auth.Inbound
		want outcome
	}{
		"Apache's manual":         {as("myName", "myPassword"), accepted("myName", "file")},
		"another user":            {as("Jürgen", "größer:als"), accepted("Jürgen", "file")},
		"another kind":            {as("old", "a"), accepted("old", "file")},
		"longest password":        {as("long", long), accepted("long", "file")},
		"wrong password":          {as("myName", "mypassword"), refused(auth.Mismatch)},
		"password of another":     {as("myName", "größer:als"), refused(auth.Mismatch)},
		"no password":             {as("myName", ""), refused(auth.Mismatch)},
		"unknown user":            {as("nobody", "myPassword"), refused(auth.Mismatch)},
		"no user":                 {as("", "myPassword"), refused(auth.Mismatch)},
		"user in other case":      {as("myname", "myPassword"), refused(auth.Mismatch)},
		"a comment":               {as("# partners", ""), refused(auth.Mismatch)},
		"the hash":                {as("myName", strings.TrimPrefix(apacheLine, "myName:")), refused(auth.Mismatch)},
		"what bcrypt cuts off":    {as("long", long+"q"), refused(auth.Malformed)},
		"no header":               {headers(), refused(auth.Missing)},
		"another scheme":          {headers("Authorization", "Bearer x"), refused(auth.Missing)},
		"not base64":              {headers("Authorization", "Basic x"), refused(auth.Malformed)},
		"two headers":             {headers("Authorization", "Basic x", "Authorization", "Basic x"), refused(auth.Ambiguous)},
		"NUL behind the password": {as("myName", "myPassword\x00"), refused(auth.Mismatch)},
	} {
		cases++
		// Each is somebody else: wrong passwords are counted.
		tc.in.Address = netip.AddrFrom4([4]byte{192, 0, 2, cases})
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expectOutcome(t, v, tc.in, tc.want)
			expectOutcome(t, v, tc.in, tc.want)
		})
	}
	NewWithT(t).Expect(v.NeedsBody()).To(BeFalse())
	NewWithT(t).Expect(auth.Challenge(htpasswdSpec())).To(HavePrefix("Basic "))
}

func TestHtpasswdFiles(t *testing.T) {
	t.Parallel()
	const hint = "has a hash that is not bcrypt: make it with htpasswd -B, which writes $2y$"
	for name, tc := range map[string]struct{ file, want string }{
		"Apache's manual":     {apacheLine, ""},
		"comments and blanks": {"\n# a:b\n" + apacheLine + "\r\n\n", ""},
		"highest cost":        {"a:" + strings.Replace(aHash, "$10$", "$14$", 1), ""},

		"nobody":             {"# nobody\n", "secret has no users"},
		"no colon":           {apacheLine + "\ncanary\n", "secret line 2 must be a user name, a colon and a hash"},
		"no name":            {":" + aHash, "secret line 1 must be a user name, a colon and a hash"},
		"no hash":            {"canary:", hint},
		"plain text":         {"canary:canary", hint},
		"crypt":              {"canary:rqXexS6ZhobKA", hint},
		"MD5":                {"canary:$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/", hint},
		"SHA-1":              {"canary:{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=", hint},
		"SHA-512":            {"canary:$6$salt$hash", hint},
		"Argon2":             {"canary:$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA", hint},
		"the broken variant": {"canary:" + strings.Replace(aHash, "$2b$", "$2x$", 1), hint},
		"cut short":          {"canary:" + aHash[:59], "has a bcrypt hash that is malformed or cut short"},
		"too long":           {"canary:" + aHash + "x", "has a bcrypt hash that is malformed or cut short"},
		"trailing space":     {"canary:" + aHash + " ", "has a bcrypt hash that is malformed or cut short"},
		"another alphabet":   {"canary:" + aHash[:59] + "+", "has a bcrypt hash that is malformed or cut short"},
		"no cost":            {"canary:" + strings.Replace(aHash, "$10$", "$xx$", 1), "has a bcrypt hash that is malformed or cut short"},
		"cost too low":       {"canary:" + strings.Replace(aHash, "$10$", "$03$", 1), "has a bcrypt hash that is malformed or cut short"},
		"cost too high":      {"canary:" + strings.Replace(aHash, "$10$", "$15$", 1), "has a bcrypt hash of cost 15: at most 14 is taken"},
		"twice":              {"canary:" + aHash + "\ncanary:" + aHash, "secret line 2 has the user of a line before it"},
		"control character":  {"can\tary:" + aHash, "secret line 1 has a control character, which RFC 7617 forbids"},
		"too many users":     {manyUsers(auth.MaxUsers + 1), "secret line 4097 is one user too many: at most 4096 are taken"},
		"too long a file":    {strings.Repeat("#", auth.MaxUsers*128+1), "secret is longer than 524288 bytes"},
		"empty":              {"", "secret is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			v, err := auth.NewVerifier(htpasswdSpec(), keyring("file", tc.file))
			if tc.want == "" {
				g.Expect(err).NotTo(HaveOccurred())
				return
			}
			g.Expect(v).To(BeNil())
			g.Expect(err).To(MatchError(And(ContainSubstring(`basic.htpasswd: "file": `), ContainSubstring(tc.want), Not(ContainSubstring("canary")))))
		})
	}
}

func manyUsers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "user%d:%s\n", i, aHash)
	}
	return b.String()
}

func TestHtpasswdShape(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	g.Expect(htpasswdSpec().CanVerify()).To(Succeed())
	g.Expect(htpasswdSpec().CanSign()).To(MatchError(ContainSubstring("hashes of passwords are for inbound use only")))
	_, err := auth.NewSigner(htpasswdSpec(), keyring("file", apacheLine))
	g.Expect(err).To(HaveOccurred())
	g.Expect(htpasswdSpec().SecretIDs()).To(Equal([]auth.SecretID{"file"}))
	g.Expect(htpasswdSpec().Basic.PasswordID()).To(Equal(auth.SecretID("file")))
	g.Expect(basicSpec().Basic.PasswordID()).To(Equal(auth.SecretID("password")))
	both := auth.Spec{Basic: &auth.Basic{Username: "user", Password: "password", Htpasswd: "file"}}
	g.Expect(both.CanVerify()).To(MatchError(ContainSubstring("excludes username and password")))
}

// Every hash of a file is removed from text, alone and with its neighbors.
func TestRedactorKnowsHashes(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	hash := strings.TrimPrefix(apacheLine, "myName:")
	for _, file := range []string{apacheLine + "\nother:" + aHash + "\n", manyUsers(auth.MaxUsers)} {
		r := auth.NewRedactor(secret(file))
		g.Expect(r.String("the hash " + hash + " and " + aHash + ", too")).To(Equal("the hash [redacted] and [redacted], too"))
		g.Expect(r.String("$2y$ is $2 a piece")).To(Equal("$2y$ is $2 a piece"))
		g.Expect(r.String(aHash[:59])).To(Equal(aHash[:59]))
	}
	g.Expect(auth.NewRedactor(secret("another")).String(aHash)).To(Equal(aHash))
}

func TestHtpasswdIsNotPrinted(t *testing.T) {
	t.Parallel()
	v := users(t, canary+":"+hash(t, canary), apacheLine)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		text := fmt.Sprintf(verb, v)
		NewWithT(t).Expect(text).NotTo(ContainSubstring("c4WoMPo3"))
	}
}

// FuzzHtpasswd: whatever a file holds, it makes a verifier that admits nobody
// without a password, or an error that shows nothing of it.
func FuzzHtpasswd(f *testing.F) {
	f.Add(apacheLine)
	f.Add("a:" + aHash + "\n\n#\r\nb:x")
	f.Add("a:$2y$99$")
	f.Fuzz(func(t *testing.T, file string) {
		// Checks at a high cost would be all that is fuzzed.
		file = strings.NewReplacer("$14$", "$04$", "$13$", "$04$", "$12$", "$04$", "$11$", "$04$").Replace(file)
		v, err := auth.NewVerifier(htpasswdSpec(), keyring("file", file))
		if err != nil {
			if len(file) > 40 && strings.Contains(err.Error(), file) {
				t.Fatal("the error shows the file")
			}
			return
		}
		for line := range strings.Lines(file) {
			name, _, _ := strings.Cut(line, ":")
			if _, err := v.Verify(as(name, "")); err == nil {
				t.Fatalf("%q is in without a password", name)
			}
			break
		}
	})
}
