// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/controller"
	"github.com/headgate-io/headgate/internal/gateway"
	"github.com/headgate-io/headgate/test/cluster"
)

const (
	// configDir is the repository's config folder.
	configDir = "../../config"
	// patience bounds every wait; it is generous because a slow machine is no bug.
	patience = 60 * time.Second
	// busSecret is the Secret that the controller makes.
	busSecret = "headgate-bus"
)

// gatewayKeys are what config/gateway mounts of the bus Secret.
var gatewayKeys = []string{
	"ca.crt", "tls.crt", "tls.key", "controller.pub", "gateway.pub", "gateway.seed", "store.key", "sealing.key", "programs.pub",
}

// shared is the installation that most tests use.
var shared *installation

func TestMain(m *testing.M) {
	os.Exit(runTests(m)) //nolint:forbidigo // the main of a test
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "headgate-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	shared, err = install(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot start an installation:", err)
		return 1
	}
	code := m.Run()
	if leaks := shared.searchForSecrets(); leaks != nil {
		fmt.Fprintln(os.Stderr, "secrets have leaked:", leaks)
		code = 1
	}
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "cannot stop the installation:", err)
		code = 1
	}
	return code
}

// installation is Headgate on a control plane of its own.
type installation struct {
	plane *cluster.ControlPlane
	// admin may do everything, as a platform team's pipeline would.
	admin client.Client
	// hooks is the URL that status.url begins with.
	hooks string
	log   *logBuffer
	// secretReads is what the controller has asked about Secrets.
	secretReads secretReads

	dir, busAddress, hookAddress string
	// changeController changes the options of the controller, unless it is nil.
	changeController func(*controller.Options)
	controller       *process
	gateway          *replica
}

// install starts a control plane, the controller and one gateway, whose options
// may be changed.
func install(dir string, changes ...func(*gateway.Options)) (*installation, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	plane, err := cluster.Start(dir)
	if err != nil {
		return nil, err
	}
	i := &installation{plane: plane, dir: dir, log: &logBuffer{}}
	if err := i.begin(ctx, changes); err != nil {
		return nil, errors.Join(err, i.stop())
	}
	return i, nil
}

func (i *installation) begin(ctx context.Context, changes []func(*gateway.Options)) (err error) {
	if i.admin, err = client.New(i.plane.Config, client.Options{Scheme: controller.Scheme()}); err != nil {
		return err
	}
	if err := i.plane.Install(ctx, configDir); err != nil {
		return err
	}
	for _, address := range []*string{&i.busAddress, &i.hookAddress} {
		if *address, err = freeAddress(ctx); err != nil {
			return err
		}
	}
	i.hooks = "http://" + i.hookAddress
	if err := i.startController(ctx); err != nil {
		return err
	}
	if err := i.mountBusSecret(ctx); err != nil {
		return err
	}
	opts := gateway.Options{
		Replica:          "gateway-0",
		ListenAddress:    i.hookAddress,
		BusListenAddress: i.busAddress,
		StoreDir:         filepath.Join(i.dir, "store"),
	}
	for _, change := range changes {
		change(&opts)
	}
	i.gateway, err = i.startGateway(ctx, opts)
	return err
}

// stop ends what runs, in the reverse order.
func (i *installation) stop() error {
	var errs []error
	if i.gateway != nil {
		errs = append(errs, i.gateway.stop())
	}
	if i.controller != nil {
		errs = append(errs, i.controller.stop())
	}
	return errors.Join(append(errs, i.plane.Stop())...)
}

// startController runs the controller with the rights of its ServiceAccount.
func (i *installation) startController(ctx context.Context) error {
	kubeconfig, err := i.plane.ServiceAccountKubeconfig(ctx, "headgate-controller")
	if err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.Wrap(i.secretReads.wrap)
	log := logr.FromSlogHandler(slog.NewJSONHandler(i.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	config.QPS = -1 // as cmd/controller has it
	options := controller.Options{
		Namespace:    cluster.Namespace,
		PublicURL:    i.hooks,
		BusURL:       "tls://" + strings.Replace(i.busAddress, "127.0.0.1", "localhost", 1),
		BusSecret:    busSecret,
		BusHosts:     []string{"localhost", "127.0.0.1"},
		Identity:     "controller-0",
		Log:          log,
		Registerer:   prometheus.NewRegistry(),
		AllowSeveral: true,
	}
	if i.changeController != nil {
		i.changeController(&options)
	}
	i.controller = start(func(ctx context.Context) error { return controller.Run(ctx, config, options) })
	return nil
}

// mountBusSecret does what a kubelet does for the gateway's pod.
func (i *installation) mountBusSecret(ctx context.Context) error {
	if _, err := i.plane.Run(ctx, "wait", "--for=create", "--timeout=60s", "-n", cluster.Namespace, "secret/"+busSecret); err != nil {
		return err
	}
	out, err := i.plane.Kubectl(ctx, "get", "secret", busSecret, "-n", cluster.Namespace, "-o", "json").Output()
	if err != nil {
		return err
	}
	var secret struct{ Data map[string][]byte }
	if err := json.Unmarshal(out, &secret); err != nil {
		return err
	}
	if err := os.Mkdir(i.busDir(), 0o700); err != nil {
		return err
	}
	for _, key := range gatewayKeys {
		if err := os.WriteFile(filepath.Join(i.busDir(), key), secret.Data[key], 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (i *installation) busDir() string { return filepath.Join(i.dir, "bus") }

// replica is a running gateway.
type replica struct {
	*process
	gateway *gateway.Gateway
}

// startGateway starts a replica; what opts leaves out is filled in.
func (i *installation) startGateway(ctx context.Context, opts gateway.Options) (*replica, error) {
	opts.AdminAddress = "127.0.0.1:0"
	opts.BusDir = i.busDir()
	opts.AllowCIDRs = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	opts.DrainDelay = -1
	opts.Logger = slog.New(slog.NewJSONHandler(i.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	g, err := gateway.New(opts)
	if err != nil {
		return nil, err
	}
	r := &replica{process: start(g.Run), gateway: g}
	select {
	case <-g.Listening():
		return r, nil
	case err := <-r.done:
		return nil, fmt.Errorf("gateway %s: %w", opts.Replica, err)
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), r.stop())
	}
}

// metrics returns what the replica tells Prometheus.
func (r *replica) metrics() (string, error) {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+r.gateway.AdminAddr()+"/metrics", http.NoBody)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}

// process is something that runs until it is stopped.
type process struct {
	cancel context.CancelFunc
	done   chan error
}

func start(run func(context.Context) error) *process {
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{cancel: cancel, done: make(chan error, 1)}
	go func() { p.done <- run(ctx) }()
	return p
}

func (p *process) stop() error {
	p.cancel()
	return <-p.done
}

// logBuffer is what both programs log to.
type logBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

// Write implements io.Writer.
func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

// String returns everything that was logged.
func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// freeAddress returns a loopback address that nobody listens on.
func freeAddress(ctx context.Context) (string, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// condition returns a condition of the Flow, or the zero one.
func condition(f *flowv1alpha1.Flow, kind string) metav1.Condition {
	if c := meta.FindStatusCondition(f.Status.Conditions, kind); c != nil {
		return *c
	}
	return metav1.Condition{}
}

// flow returns the Flow as the API server has it.
func (i *installation) flow(t *testing.T, namespace, name string) func(g Gomega) *flowv1alpha1.Flow {
	t.Helper()
	return func(g Gomega) *flowv1alpha1.Flow {
		f := &flowv1alpha1.Flow{}
		g.Expect(i.admin.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, f)).To(Succeed())
		return f
	}
}
