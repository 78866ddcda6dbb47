// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/program"
)

func TestStoreSurvivesRestartAndCannotBeReadOnDisk(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	const canary = "canary-secret-8c1f"
	s := startServer(t)
	controller := connect(t, RoleController, s)
	ensureBuckets(t, controller, BucketOptions{})
	put(t, controller, testProgram("canary-flow", canary))
	g.Expect(controller.Reports().PutFlow(t.Context(), program.Key{Namespace: "shop", Name: "canary-flow"}, "canary-replica", FlowReport{UID: "canary-uid"})).To(Succeed())

	s.stop()

	files := 0
	for _, word := range []string{canary, "canary-flow", "canary-replica", "canary-uid", string(installation().StoreKey)} {
		g.Expect(filepath.WalkDir(s.opts.StoreDir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			files++
			content, err := os.ReadFile(path)
			g.Expect(bytes.Contains(content, []byte(word))).To(BeFalse(), "%s holds %q", path, word)
			return err
		})).To(Succeed())
	}
	g.Expect(files).To(BeNumerically(">", 10))

	s = startServer(t, func(o *ServerOptions) { o.StoreDir = s.opts.StoreDir })
	gateway := connect(t, RoleGateway, s, inProcess(s))
	g.Expect(gateway.WaitBuckets(t.Context())).To(Succeed())
	got, _, err := gateway.Programs().Get(t.Context(), program.Key{Namespace: "shop", Name: "canary-flow"})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(got.Secrets["secret/shop/api/key"].Reveal()).To(Equal([]byte(canary)))
}

func TestServerRefusesAStoreOfAnotherKey(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := startServer(t)
	controller := connect(t, RoleController, s)
	ensureBuckets(t, controller, BucketOptions{})
	s.stop()

	err := startError(t, ServerOptions{StoreDir: s.opts.StoreDir, Material: newMaterial()})
	g.Expect(err).To(MatchError(ErrStoreKey))
	g.Expect(err).To(MatchError(ContainSubstring(KeyStore)))

	// The store is untouched: the right key still opens it.
	s = startServer(t, func(o *ServerOptions) { o.StoreDir = s.opts.StoreDir })
	gateway := connect(t, RoleGateway, s, inProcess(s))
	g.Expect(gateway.WaitBuckets(t.Context())).To(Succeed())

	s.stop()
	g.Expect(os.Remove(filepath.Join(s.opts.StoreDir, storeKeyFile))).To(Succeed())
	err = startError(t, ServerOptions{StoreDir: s.opts.StoreDir, Material: installation()})
	g.Expect(err).To(MatchError(ErrStoreKey), "data whose key is unknown")
}

func TestServerThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	var lc net.ListenConfig
	taken, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { g.Expect(taken.Close()).To(Succeed()) })

	err = startError(t, ServerOptions{StoreDir: t.TempDir(), Material: installation(), Listen: taken.Addr().String()})
	g.Expect(err).To(MatchError(ContainSubstring("address already in use")))

	file := filepath.Join(t.TempDir(), "file")
	g.Expect(os.WriteFile(file, nil, 0o600)).To(Succeed())
	err = startError(t, ServerOptions{StoreDir: file, Material: installation()})
	g.Expect(err).To(MatchError(ContainSubstring("store folder")))
}

func TestServerOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*ServerOptions)
		want   string
	}{
		"no folder":       {func(o *ServerOptions) { o.StoreDir = "" }, "no store folder"},
		"no material":     {func(o *ServerOptions) { o.Material = Material{} }, "ca.crt"},
		"store too small": {func(o *ServerOptions) { o.MaxStore = 1 << 20 }, "store limit"},
		"no port":         {func(o *ServerOptions) { o.Listen = "127.0.0.1" }, "listen address"},
		"port is a word":  {func(o *ServerOptions) { o.Listen = "127.0.0.1:nats" }, "is not a number"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := ServerOptions{StoreDir: "unused", Material: installation()}
			c.change(&o)
			_, err := NewServer(o)
			NewWithT(t).Expect(err).To(MatchError(ContainSubstring(c.want)))
		})
	}
}

func TestServerWithoutListenerServesInProcess(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := startServer(t, func(o *ServerOptions) { o.Listen = "" })
	controller := connect(t, RoleController, s, inProcess(s))

	ensureBuckets(t, controller, BucketOptions{})

	g.Expect(s.Addr()).To(BeEmpty())
	g.Expect(controller.Check(t.Context())).To(Succeed())
}

func TestRenewedCertificateIsServedWithoutRestart(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	dir := t.TempDir()
	m := installation()
	write := func(m Material) {
		g.Expect(os.WriteFile(filepath.Join(dir, KeyTLSCert), m.TLSCert, 0o600)).To(Succeed())
		g.Expect(os.WriteFile(filepath.Join(dir, KeyTLSKey), m.TLSKey, 0o600)).To(Succeed())
	}
	write(m)
	s := startServer(t, func(o *ServerOptions) { o.CertDir = dir })
	client := connect(t, RoleGateway, s)
	g.Expect(client.WaitConnected(t.Context())).To(Succeed())
	g.Expect(servedNames(t, s)).To(ConsistOf("localhost"))

	// A half-written pair must not take the listener down.
	g.Expect(os.WriteFile(filepath.Join(dir, KeyTLSCert), newMaterial().TLSCert, 0o600)).To(Succeed())
	g.Expect(servedNames(t, s)).To(ConsistOf("localhost"))

	renewed, changed, err := m.Renew(time.Now(), append([]string{"bus.example.com"}, testHosts...))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(changed).To(BeTrue())
	write(renewed)
	g.Expect(servedNames(t, s)).To(ConsistOf("bus.example.com", "localhost"))
	g.Expect(client.Connected()).To(BeTrue(), "connections stay")
}

// servedNames returns the names in the certificate that a new connection gets.
func servedNames(t *testing.T, s *runningServer) []string {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(installation().CACert)
	d := tls.Dialer{Config: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	conn, err := d.DialContext(t.Context(), "tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	names := conn.(*tls.Conn).ConnectionState().PeerCertificates[0].DNSNames
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	return names
}

func TestDamagedStreamIsReportedAndFilledAgain(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := startServer(t)
	controller := connect(t, RoleController, s)
	ensureBuckets(t, controller, BucketOptions{})
	put(t, controller, testProgram("a", "1"))
	before, err := controller.Programs().Incarnation(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	controller.Close()
	s.stop()
	metas, err := filepath.Glob(filepath.Join(s.opts.StoreDir, jetStreamDir, "*", "streams", streamName(bucketPrograms), "meta.inf"))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(metas).To(HaveLen(1))
	g.Expect(os.WriteFile(metas[0], []byte("damaged"), 0o600)).To(Succeed())

	var log syncBuffer
	s = startServer(t, func(o *ServerOptions) {
		o.StoreDir = s.opts.StoreDir
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})

	g.Expect(log.String()).To(MatchRegexp(`level=ERROR .*could not be recovered.*stream=KV_programs`))
	controller = connect(t, RoleController, s)
	ensureBuckets(t, controller, BucketOptions{})
	after, err := controller.Programs().Incarnation(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(after).NotTo(Equal(before))
	put(t, controller, testProgram("a", "1"))
	_, _, err = controller.Programs().Get(t.Context(), program.Key{Namespace: "shop", Name: "a"})
	g.Expect(err).NotTo(HaveOccurred())
}

// syncBuffer is a buffer that a server may write to while a test reads.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestServerLogHasNoSecrets(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	var log syncBuffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := startServer(t, func(o *ServerOptions) { o.Logger = logger })
	controller := connect(t, RoleController, s, func(o *ClientOptions) { o.Logger = logger })
	ensureBuckets(t, controller, BucketOptions{})
	put(t, controller, testProgram("a", "canary-secret-77d0"))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	g.Expect(controller.Check(ctx)).To(Succeed())
	s.stop()

	g.Expect(log.String()).To(ContainSubstring("component=nats-server"))
	for _, secret := range []string{
		"canary-secret-77d0", string(installation().StoreKey), string(installation().ControllerSeed),
		string(installation().GatewaySeed), string(installation().SealingKey),
	} {
		g.Expect(log.String()).NotTo(ContainSubstring(secret))
	}
}

// Two processes on one store would destroy it. The second says why it does not
// start, and does once the first is gone.
func TestStoreOfAnotherProcess(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	first := startServer(t)
	o := ServerOptions{StoreDir: first.opts.StoreDir, Material: installation()}
	err := startError(t, o)
	g.Expect(err).To(MatchError(ErrStoreInUse))
	g.Expect(err).To(MatchError(ContainSubstring(o.StoreDir)))
	first.stop()
	startServer(t, func(second *ServerOptions) { second.StoreDir = o.StoreDir })
}
