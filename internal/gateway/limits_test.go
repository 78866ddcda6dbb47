// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/program"
)

// A client that is slow with its header is cut off; a run that takes longer than
// any client may take for its request is not.
func TestReadTimeouts(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	upstream, arrived, release := held(t)
	gw := startGateway(t, func(g *Gateway) {
		g.handler.limits.readHeader, g.handler.limits.read, g.handler.limits.write = 300*time.Millisecond, 300*time.Millisecond, patience
	})
	ctl := connectController(t, gw)
	ctl.put(petProgram("pet-intake", upstream.URL), gw)

	answer := gw.sendAsync("/hook/pets/pet-intake", gromit, asPartner()...)
	<-arrived
	// These begin later than the run did, so when they are cut its time for
	// reading is over, too.
	slowHeader, slowBody := dial(t, gw), dial(t, gw)
	_, err := io.WriteString(slowHeader, "POST /hook/pets/pet-intake HTTP/1.1\r\nHost: gateway\r\n")
	g.Expect(err).NotTo(HaveOccurred())
	_, err = fmt.Fprintf(slowBody, "POST /hook/pets/pet-intake HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nAuthorization: %s\r\nContent-Length: 100\r\n\r\n{",
		basic("partner", partnerPassword)[1])
	g.Expect(err).NotTo(HaveOccurred())
	_, err = io.Copy(io.Discard, slowHeader)
	g.Expect(err).NotTo(HaveOccurred())
	resp, err := http.ReadResponse(bufio.NewReader(slowBody), nil)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(resp.Body.Close()).To(Succeed())
	g.Expect(resp.StatusCode).To(Equal(408))

	release()
	g.Expect((<-answer).StatusCode).To(Equal(201))
}

func TestHeaderTooLarge(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	connectController(t, gw)
	conn := dial(t, gw)
	_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: gateway\r\nX-Large: "+strings.Repeat("x", maxHeaderBytes+4096))
	g.Expect(err).NotTo(HaveOccurred())
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(resp.Body.Close()).To(Succeed())
	g.Expect(resp.StatusCode).To(Equal(431))
}

// The bodies of all requests together are bounded; what does not fit has to come
// back later.
func TestBodiesInFlight(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	upstream, arrived, release := held(t)
	gw := startGateway(t, func(g *Gateway) { g.handler.bodies.limit = 1000 })
	ctl := connectController(t, gw)
	ctl.put(petProgram("pet-intake", upstream.URL), gw)
	ctl.put(echoProgram("echo", "hello"), gw)

	large := `{"petname": "` + strings.Repeat("x", 900) + `", "petstatus": ""}`
	answer := gw.sendAsync("/hook/pets/pet-intake", large, asPartner()...)
	<-arrived
	g.Expect(gatherText(t, gw.metrics)).To(ContainSubstring(fmt.Sprintf("headgate_request_body_bytes %d", len(large))))
	refused := gw.send("POST", "/hook/pets/echo", large, "Content-Type", jsonType)
	g.Expect(refused.problem(t).Type).To(HaveSuffix("/busy"))
	g.Expect(refused.Header.Get("Retry-After")).To(Equal("1"))
	g.Expect(gw.send("POST", "/hook/pets/echo", "").StatusCode).To(Equal(200))
	release()
	g.Expect((<-answer).StatusCode).To(Equal(201))
	g.Eventually(gw.handler.bodies.used.Load).WithTimeout(patience).Should(BeZero())
	g.Expect(gw.send("POST", "/hook/pets/echo", large, "Content-Type", jsonType).StatusCode).To(Equal(200))
}

// A sender that announces much and sends little holds little.
func TestAnnouncedBodyHoldsLittle(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	ctl.put(echoProgram("echo", "hello", func(p *program.Program) { p.Webhook.MaxBodySize = 8 << 20 }), gw)
	conn := dial(t, gw)
	_, err := fmt.Fprintf(conn, "POST /hook/pets/echo HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n[", 8<<20)
	g.Expect(err).NotTo(HaveOccurred())
	g.Eventually(gw.handler.bodies.used.Load).WithTimeout(patience).ShouldNot(BeZero())
	g.Expect(gw.handler.bodies.used.Load()).To(BeNumerically("<=", firstReadBytes))
	// It ends the body before its time, and is forgotten.
	g.Expect(conn.Close()).To(Succeed())
	g.Eventually(gw.handler.bodies.used.Load).WithTimeout(patience).Should(BeZero())
}

// More connections than the limit wait for their turn instead of failing.
func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t, func(g *Gateway) { g.handler.limits.connections = 1 })
	connectController(t, gw)
	first, second := dial(t, gw), dial(t, gw)
	const request = "GET /hook/pets/nobody HTTP/1.1\r\nHost: gateway\r\n\r\n"
	ask := func(conn net.Conn) int {
		_, err := io.WriteString(conn, request)
		g.Expect(err).NotTo(HaveOccurred())
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(resp.Body.Close()).To(Succeed())
		return resp.StatusCode
	}
	eventually(t, func() bool { return gw.handler.snapshot.Load() != nil })
	g.Expect(ask(first)).To(Equal(404))
	_, err := io.WriteString(second, request)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(ask(first)).To(Equal(404))
	g.Expect(first.Close()).To(Succeed())
	resp, err := http.ReadResponse(bufio.NewReader(second), nil)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(resp.Body.Close()).To(Succeed())
	g.Expect(resp.StatusCode).To(Equal(404))
}

// A bug that panics costs one request.
func TestPanic(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	calls := 0
	gw := startGateway(t, func(o *Options) {
		o.NewRunID = func() string {
			if calls++; calls == 1 {
				panic("canary")
			}
			return "run"
		}
	})
	ctl := connectController(t, gw)
	ctl.put(echoProgram("echo", "hello"), gw)
	first := gw.send("POST", "/hook/pets/echo", "")
	g.Expect(first.StatusCode).To(Equal(500))
	g.Expect(first.problem(t).Type).To(HaveSuffix("/internal"))
	g.Expect(first.body).NotTo(ContainSubstring("canary"))
	g.Expect(gw.send("POST", "/hook/pets/echo", "").StatusCode).To(Equal(200))
	g.Expect(gatherText(t, gw.metrics)).To(ContainSubstring("headgate_panics_total 1"))
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"no folder of the bus": {func(o *Options) { o.BusDir = "" }, "bus-dir"},
		"no store":             {func(o *Options) { o.StoreDir = "" }, "store-dir"},
		"no replica":           {func(o *Options) { o.Replica = "" }, "replica"},
		"no bus":               {func(o *Options) { o.BusURL = "http://bus:4222" }, "bus-url"},
		"address":              {func(o *Options) { o.ListenAddress = "8080" }, "listen-address"},
		"half a certificate":   {func(o *Options) { o.TLSCertFile = "tls.crt" }, "tls-cert and tls-key"},
		"no connections":       {func(o *Options) { o.ConnectionsPerAddress = -1 }, "connections-per-address"},
		"drain timeout":        {func(o *Options) { o.DrainTimeout = -1 }, "drain-timeout"},
	} {
		o := Options{BusDir: "bus", StoreDir: "store", Replica: "gateway-0"}
		test.change(&o)
		_, err := New(o)
		NewWithT(t).Expect(err).To(MatchError(ContainSubstring(test.want)), name)
	}
}

// A folder that is not readable as the Secret is waited for, and named.
func TestIncompleteSecret(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeMaterial(t, dir)
	sealing := filepath.Join(dir, "sealing.key")
	if err := os.WriteFile(sealing, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	gw := startGateway(t, func(o *Options) { o.BusDir = dir })
	eventually(t, func() bool { return strings.Contains(gw.get("/readyz").body, "sealing.key") })
}
