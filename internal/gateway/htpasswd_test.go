// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

// partners is an htpasswd file: the user of the manual of the Apache server, and
// one whose password nobody knows.
const partners = "myName:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC\n" +
	"canary:$2b$05$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy\n"

func byHtpasswd(file string) func(*program.Program) {
	return func(p *program.Program) {
		p.Credentials = map[string]program.Credential{"pets/partners": {Spec: auth.Spec{Basic: &auth.Basic{Htpasswd: "pets/partners/auth"}}}}
		p.Webhook.Credentials = []string{"pets/partners"}
		p.Secrets = auth.Keyring{"pets/partners/auth": auth.NewSecret([]byte(file))}
		p.Response.JSON = json.RawMessage(`{"says": "${request.auth.subject}"}`)
	}
}

// Users of a file are told apart; those who guess are slowed down, and others at
// the same address are not.
func TestHtpasswd(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	g.Expect(ctl.put(echoProgram("many", "", byHtpasswd(partners)), gw)).To(Equal(bus.AckServed))
	g.Expect(ctl.put(echoProgram("other", "", byHtpasswd(partners)), gw)).To(Equal(bus.AckServed))
	send := func(path, user, password string) reply {
		return gw.send("POST", "/hook/pets/"+path, "", basic(user, password)...)
	}
	g.Expect(says(t, send("many", "myName", "myPassword"))).To(Equal("myName"))
	refused := send("many", "canary", "myPassword")
	g.Expect(refused.StatusCode).To(Equal(http.StatusUnauthorized))
	g.Expect(refused.Header.Get("Www-Authenticate")).To(HavePrefix("Basic "))
	unknown := send("many", "nobody", "canary-password")
	g.Expect(unknown.StatusCode).To(Equal(http.StatusUnauthorized))
	g.Expect(unknown.body).To(Equal(refused.body))

	var guesses sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	for i := range 50 {
		guesses.Go(func() {
			got, err := gw.try(t.Context(), "POST", "/hook/pets/many", "", basic("myName", fmt.Sprint("canary-", i))...)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				statuses[got.StatusCode]++
			}
		})
	}
	guesses.Wait()
	g.Expect(statuses[http.StatusUnauthorized]).To(BeNumerically("<=", 10))
	g.Expect(statuses[http.StatusTooManyRequests]).To(BeNumerically(">=", 40))
	throttled := send("many", "myName", "canary-once-more")
	g.Expect(throttled.StatusCode).To(Equal(http.StatusTooManyRequests))
	g.Expect(throttled.Header.Get("Retry-After")).To(MatchRegexp(`^([1-9]|10)$`))
	g.Expect(says(t, send("many", "myName", "myPassword"))).To(Equal("myName"), "who was right once is in")
	g.Expect(says(t, send("other", "myName", "myPassword"))).To(Equal("myName"), "nothing is held against the address elsewhere")

	// What is in the file now counts, and not what is remembered of another one.
	rotated := "myName:$2b$05$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy\n"
	g.Expect(ctl.put(echoProgram("other", "", byHtpasswd(rotated)), gw)).To(Equal(bus.AckServed))
	g.Expect(send("other", "myName", "myPassword").StatusCode).To(Equal(http.StatusUnauthorized))
	gone := "nobody:$2b$05$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy\n"
	g.Expect(ctl.put(echoProgram("other", "", byHtpasswd(gone)), gw)).To(Equal(bus.AckServed))
	g.Expect(send("other", "myName", "myPassword").StatusCode).To(Equal(http.StatusUnauthorized))
	g.Expect(ctl.put(echoProgram("other", "", byHtpasswd("myName:{SHA}canary")), gw)).To(Equal(bus.AckRefused))

	text := gatherText(t, gw.metrics)
	g.Expect(text).To(ContainSubstring(`headgate_auth_failures_total{reason="Throttled"}`))
	gw.stop()
	g.Expect(gw.logs.String()).NotTo(ContainSubstring("canary"))
}
