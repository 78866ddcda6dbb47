// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/blang/semver/v4"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	. "github.com/onsi/gomega"
)

// externalServer is a NATS server that an operator runs.
type externalServer struct {
	t      *testing.T
	config string
	ns     *server.Server
}

// start runs the server from its configuration file, as nats-server does.
func (s *externalServer) start() {
	s.t.Helper()
	opts, err := server.ProcessConfigFile(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	opts.NoSigs = true
	if s.ns, err = server.NewServer(opts); err != nil {
		s.t.Fatal(err)
	}
	go s.ns.Start()
	if !s.ns.ReadyForConnections(patience) {
		s.t.Fatal("the server is not ready")
	}
}

func (s *externalServer) stop() {
	s.ns.Shutdown()
	s.ns.WaitForShutdown()
}

// startExternal runs servers with what NATSConfig printed in their configuration,
// and returns them and their URL.
func startExternal(t *testing.T, n int, o NATSConfigOptions, settings string) ([]*externalServer, string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	printed, err := NATSConfig(installation(), o)
	if err != nil {
		t.Fatal(err)
	}
	write("headgate.conf", printed)
	include := `include "headgate.conf"`
	if o.Account != "" {
		include = `accounts {
  SYS { users: [{user: admin, password: "not used"}], exports: [{service: "$SYS.REQ.SERVER.PING.VARZ", response_type: stream, accounts: [HEADGATE]}] }
  include "headgate.conf"
}
system_account: SYS`
	}
	cert, key := write("tls.crt", string(installation().TLSCert)), write("tls.key", string(installation().TLSKey))
	addresses := freeAddresses(t, 2*n)
	var routes []string
	for _, a := range addresses[n:] {
		routes = append(routes, "nats-route://"+a)
	}
	servers := make([]*externalServer, n)
	var urls []string
	for i := range servers {
		config := fmt.Sprintf("server_name: n%d\nlisten: %s\njetstream { store_dir: %q, max_file_store: 4GB, sync_interval: always }\ntls { cert_file: %q, key_file: %q }\n%s\n%s\n",
			i, addresses[i], filepath.Join(dir, fmt.Sprintf("store%d", i)), cert, key, settings, include)
		if n > 1 {
			config += fmt.Sprintf("cluster { name: nats, listen: %s, routes: [%s] }\n", addresses[n+i], strings.Join(routes, ", "))
		}
		servers[i] = &externalServer{t: t, config: write(fmt.Sprintf("n%d.conf", i), config)}
		urls = append(urls, "nats://"+addresses[i])
	}
	for _, s := range servers {
		s.start()
		t.Cleanup(func() { s.stop() })
	}
	return servers, strings.Join(urls, ",")
}

// connectTo is connect for a URL.
func connectTo(t testing.TB, role Role, url string, change ...func(*ClientOptions)) *Client {
	t.Helper()
	o := ClientOptions{URL: url, Role: role, Material: installation(), Name: t.Name(), Logger: testLogger(t)}
	for _, c := range change {
		c(&o)
	}
	c, err := Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// A NATS server of one's own does what the embedded one does, with the users that
// NATSConfig prints.
func TestExternalServers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		servers  int
		config   NATSConfigOptions
		findings []string
	}{
		"one":   {1, NATSConfigOptions{}, []string{"one disk", "not verified"}},
		"three": {3, NATSConfigOptions{Account: "HEADGATE", Settings: true}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			servers, url := startExternal(t, c.servers, c.config, "max_payload: 5MB")
			controller, gateway := connectTo(t, RoleController, url), connectTo(t, RoleGateway, url)
			found := make(chan []string, 1)
			background(t, func(ctx context.Context) error {
				return controller.MaintainBuckets(ctx, BucketOptions{
					Replicas: c.servers, OnServer: func(findings []string) { found <- findings },
				}, func(string) {})
			})
			findings := <-found
			g.Expect(findings).To(HaveLen(len(c.findings)), "%v", findings)
			for i, f := range c.findings {
				g.Expect(findings[i]).To(ContainSubstring(f))
			}

			eventually(t, func() bool {
				_, err := controller.Programs().Put(t.Context(), testProgram("orders", "1"))
				return err == nil
			})
			g.Expect(gateway.WaitRunStreams(t.Context())).To(Succeed())
			programs, err := gateway.Programs().List(t.Context())
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(programs[orders].Program).NotTo(BeNil())
			err = denied(t, gateway, func(ctx context.Context) error {
				_, err := gateway.js.Publish(ctx, programSubject("orders"), []byte("forged"))
				return err
			})
			g.Expect(err).To(MatchError(nats.ErrPermissionViolation))

			intake := gateway.NewIntake(IntakeOptions{Replica: "gateway-0"})
			background(t, intake.Run)
			background(t, func(ctx context.Context) error {
				return gateway.DrainIntake(ctx, DrainOptions{Replica: "gateway-0"})
			})
			accept := func(id string) bool { return intake.Accept(t.Context(), testEntry("orders", id)) == nil }
			eventually(t, func() bool { return accept("before") })
			servers[0].stop()
			servers[0].start()
			n := 0
			eventually(t, func() bool { n++; return accept(fmt.Sprintf("after%d", n)) })
			for _, id := range []string{"before", fmt.Sprintf("after%d", n)} {
				eventually(t, func() bool {
					_, _, err := gateway.Queue().Get(t.Context(), Run{Flow: orders, ID: id})
					return err == nil
				})
			}
		})
	}
}

func TestServerThatTakesTooLittleIsNotUsed(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, url := startExternal(t, 1, NATSConfigOptions{}, "")
	for _, role := range []Role{RoleController, RoleGateway} {
		c := connectTo(t, role, url)
		eventually(t, func() bool { return c.Fit() != nil })
		g.Expect(c.Fit()).To(And(MatchError(ErrUnfit), MatchError(ContainSubstring("max_payload is 1048576"))))
		g.Expect(c.Connected()).To(BeFalse())
		g.Expect(c.Check(t.Context())).To(MatchError(ErrUnfit))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		g.Expect(c.WaitConnected(ctx)).To(MatchError(ErrUnfit), "it says why")
	}
}

// Who speaks first is the one thing that URL and server have to agree on.
func TestURLDecidesWhoSpeaksFirst(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, url := startExternal(t, 1, NATSConfigOptions{}, "max_payload: 5MB")
	c := connectTo(t, RoleGateway, strings.Replace(url, "nats://", "tls://", 1))
	eventually(t, func() bool { return c.link.state().err != nil })
	g.Expect(c.link.state().err).To(MatchError(ContainSubstring("nats://")))

	ca := filepath.Join(t.TempDir(), "ca.crt")
	g.Expect(os.WriteFile(ca, installation().CACert, 0o600)).To(Succeed())
	stranger := newMaterial()
	own := func(o *ClientOptions) { o.Material.CACert, o.CAFile = stranger.CACert, ca }
	trusting := connectTo(t, RoleGateway, url, own)
	g.Expect(trusting.WaitConnected(t.Context())).To(Succeed())
	for _, bad := range []string{"", "http://a:1", "tls://a", "nats://a:1,tls://b:1", "tls://user@a:1", "tls://a:1/x"} {
		g.Expect(CheckURL(bad)).NotTo(Succeed(), bad)
	}
	g.Expect(CheckURL("nats://a:1,nats://b:2")).To(Succeed())
}

func TestServersAreJudged(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	g.Expect(unfit("2.12.0", maxPayload)).To(MatchError(And(ContainSubstring("2.12.0"), ContainSubstring("2.12.1"))))
	g.Expect(unfit("", maxPayload)).To(MatchError(ErrUnfit))
	g.Expect(unfit("2.12.1", maxPayload-1)).To(MatchError(ContainSubstring("max_payload")))
	g.Expect(unfit("2.12.1", maxPayload)).To(Succeed())

	g.Expect(judgeServer(semver.MustParse("2.12.1"), 1)).To(ConsistOf(ContainSubstring("2.14.0"), ContainSubstring("one disk")))
	g.Expect(judgeServer(semver.MustParse("2.14.0"), 1)).To(ConsistOf(ContainSubstring("2.15.0"), ContainSubstring("one disk")))
	g.Expect(judgeServer(semver.MustParse("2.14.0"), 3)).To(BeEmpty())

	_, _, gateway := startBus(t)
	findings, err := gateway.CheckServer(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(findings).To(ConsistOf(ContainSubstring("one disk"), ContainSubstring("not verified")))
}

func TestNATSConfigRefuses(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, err := NATSConfig(installation(), NATSConfigOptions{Settings: true})
	g.Expect(err).To(MatchError(ContainSubstring("account")))
	_, err = NATSConfig(installation(), NATSConfigOptions{Account: "a { }"})
	g.Expect(err).To(MatchError(ContainSubstring("letters and digits")))
	printed, err := NATSConfig(installation(), NATSConfigOptions{Account: "HEADGATE", Settings: true})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(printed).NotTo(ContainSubstring(string(installation().GatewaySeed)))
}
