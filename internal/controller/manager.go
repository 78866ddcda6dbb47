// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/compile"
	"github.com/headgate-io/headgate/internal/controller/bussecret"
	"github.com/headgate-io/headgate/internal/controller/credential"
	"github.com/headgate-io/headgate/internal/controller/fleet"
	"github.com/headgate-io/headgate/internal/controller/flow"
	"github.com/headgate-io/headgate/internal/controller/subscription"
	"github.com/headgate-io/headgate/internal/kube"
)

const (
	// leaseName is the Lease by which replicas elect the leader.
	leaseName = "headgate-controller"
	// reporter is the reportingController of events.
	reporter = "headgate.dev/controller"
	// shutdownTimeout bounds how long reconciliations may end in peace.
	shutdownTimeout = 20 * time.Second
)

// Options configure Run.
type Options struct {
	// Namespace of the controller: the bus Secret and the Lease are there.
	// Required.
	Namespace string
	// PublicURL is where gateways are reached from outside: scheme, host and
	// perhaps a path. Required.
	PublicURL string
	// BusURL of the bus, see bus.ClientOptions. Required.
	BusURL string
	// BusCAFile has the certificates that the server of the bus is verified with,
	// in place of the CA in BusSecret.
	BusCAFile string
	// BusExternal: the bus is a NATS server of the operator's, and not inside of
	// the gateways.
	BusExternal bool
	// BusSecret is the name of the Secret with the keys of the bus. Required.
	BusSecret string
	// BusHosts are the DNS names and addresses by which the bus is reached, for
	// its certificate. At least one.
	BusHosts []string
	// StoreSize in bytes is what the streams and buckets of the bus share.
	// Default bus.DefaultStoreSize.
	StoreSize int64
	// BusReplicas is how many servers keep each stream and bucket: 1, 3 or 5, and
	// no more than the bus has. What exists follows when it changes. Default 1.
	BusReplicas int
	// Identity names this process on the bus, for example the pod's name.
	Identity string
	// LeaderElection lets one of several replicas work. Without it there must be
	// only one.
	LeaderElection bool
	// MetricsAddress and HealthAddress are host:port; empty serves nothing.
	MetricsAddress, HealthAddress string
	// Log is used by everything. Required.
	Log logr.Logger
	// Registerer takes the metrics of this package. Default: the registry of
	// controller-runtime, which MetricsAddress serves.
	Registerer prometheus.Registerer
	// AllowSeveral lets one process run several managers at once.
	AllowSeveral bool
}

// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=headgate-system,resources=leases,verbs=create
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=headgate-system,resources=leases,resourceNames=headgate-controller,verbs=get;update
// +kubebuilder:rbac:groups="",namespace=headgate-system,resources=events,verbs=create;patch

// Run runs the controllers until ctx is done, then stops them and returns nil.
// With leader election the process has to end when Run returns.
func Run(ctx context.Context, cfg *rest.Config, o Options) error {
	if err := o.complete(); err != nil {
		return err
	}
	mgr, err := newManager(cfg, o)
	if err != nil {
		return fmt.Errorf("make the manager: %w", err)
	}
	if err := setup(ctx, mgr, o); err != nil {
		return err
	}
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("run the manager: %w", err)
	}
	return nil
}

// complete checks the options and fills defaults.
func (o *Options) complete() error {
	switch {
	case o.Namespace == "":
		return errors.New("the controller's own namespace is not known")
	case o.BusURL == "" || o.BusSecret == "" || len(o.BusHosts) == 0:
		return errors.New("the bus needs a URL, the name of its Secret, and at least one host name")
	case bus.CheckURL(o.BusURL) != nil:
		return bus.CheckURL(o.BusURL)
	case o.StoreSize != 0 && bus.CheckStoreSize(o.StoreSize) != nil:
		return bus.CheckStoreSize(o.StoreSize)
	case o.BusReplicas != 0 && !bus.ValidReplicas(o.BusReplicas):
		return errors.New("the replicas of each stream of the bus must be 1, 3 or 5")
	case o.Log.GetSink() == nil:
		return errors.New("the controller needs a logger")
	}
	u, err := url.Parse(o.PublicURL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("the public URL %q is not an http or https URL without query", o.PublicURL)
	}
	o.PublicURL = strings.TrimRight(o.PublicURL, "/")
	if o.Registerer == nil {
		o.Registerer = metrics.Registry
	}
	return nil
}

// Scheme returns the scheme with all kinds that the controllers use.
func Scheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(flowv1alpha1.AddToScheme(scheme))
	return scheme
}

func newManager(cfg *rest.Config, o Options) (ctrl.Manager, error) {
	off := func(address string) string {
		if address == "" {
			return "0"
		}
		return address
	}
	return ctrl.NewManager(cfg, ctrl.Options{
		Scheme: Scheme(),
		Logger: o.Log,
		Client: client.Options{Cache: &client.CacheOptions{
			// Package kube watches the few that are referred to; the cache would
			// list all.
			DisableFor: []client.Object{&corev1.Secret{}, &corev1.ConfigMap{}},
		}},
		Cache:                         cache.Options{DefaultTransform: cache.TransformStripManagedFields()},
		LeaderElection:                o.LeaderElection,
		LeaderElectionID:              leaseName,
		LeaderElectionNamespace:       o.Namespace,
		LeaderElectionReleaseOnCancel: true,
		Metrics:                       metricsserver.Options{BindAddress: off(o.MetricsAddress)},
		HealthProbeBindAddress:        off(o.HealthAddress),
		GracefulShutdownTimeout:       new(shutdownTimeout),
		Controller:                    config.Controller{SkipNameValidation: new(o.AllowSeveral)},
	})
}

// setup adds everything that runs to the manager.
func setup(ctx context.Context, mgr ctrl.Manager, o Options) error {
	err := kube.RegisterFlowIndexes(ctx, mgr.GetFieldIndexer(),
		func(f *flowv1alpha1.Flow) []types.NamespacedName { return compile.FlowReferences(f).Credentials },
		func(f *flowv1alpha1.Flow) []types.NamespacedName { return compile.FlowReferences(f).Flows },
		compile.RoutePath)
	if err != nil {
		return err
	}
	watching, err := client.NewWithWatch(mgr.GetConfig(), client.Options{
		HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(),
	})
	if err != nil {
		return fmt.Errorf("make the client that watches: %w", err)
	}
	objects := kube.NewObjects(watching, o.Log.WithName("objects"))
	gateways, err := newFleet(mgr, o)
	if err != nil {
		return err
	}
	for _, runnable := range []manager.Runnable{objects, gateways} {
		if err := mgr.Add(runnable); err != nil {
			return fmt.Errorf("add to the manager: %w", err)
		}
	}
	if err := setupControllers(mgr, o, objects, gateways); err != nil {
		return err
	}
	if err := registerMetrics(o.Registerer, gateways); err != nil {
		return err
	}
	return addChecks(mgr, gateways)
}

func newFleet(mgr ctrl.Manager, o Options) (*fleet.Fleet, error) {
	log := o.Log.WithName("bus")
	keeper := &bussecret.Keeper{
		Client: mgr.GetClient(),
		Name:   types.NamespacedName{Namespace: o.Namespace, Name: o.BusSecret},
		Hosts:  o.BusHosts,
		Log:    log,
	}
	return fleet.New(fleet.Options{
		Reader:        mgr.GetClient(),
		Material:      keeper.Material,
		RequireSigned: keeper.RequireSigned,
		Connect: func(ctx context.Context, m bus.Material) (*bus.Client, error) {
			return bus.Connect(ctx, bus.ClientOptions{
				URL:      o.BusURL,
				CAFile:   o.BusCAFile,
				Role:     bus.RoleController,
				Material: m,
				Name:     o.Identity,
				Logger:   slog.New(logr.ToSlogHandler(log)),
			})
		},
		StoreSize:      o.StoreSize,
		StreamReplicas: o.BusReplicas,
		External:       o.BusExternal,
		Log:            log,
	})
}

func setupControllers(mgr ctrl.Manager, o Options, objects *kube.Objects, gateways *fleet.Fleet) error {
	recorder := mgr.GetEventRecorder(reporter)
	flows, err := flow.New(flow.Options{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Objects: objects, Fleet: gateways,
		Recorder: recorder, PublicURL: o.PublicURL,
	})
	if err != nil {
		return err
	}
	credentials, err := credential.New(credential.Options{
		Client: mgr.GetClient(), Objects: objects, Fleet: gateways, Recorder: recorder,
	})
	if err != nil {
		return err
	}
	subscriptions, err := subscription.New(subscription.Options{Client: mgr.GetClient(), Recorder: recorder})
	if err != nil {
		return err
	}
	for _, r := range []interface{ SetupWithManager(ctrl.Manager) error }{flows, credentials, subscriptions} {
		if err := r.SetupWithManager(mgr); err != nil {
			return err
		}
	}
	return nil
}

// registerMetrics says what an operator's alerts need beside the metrics of
// controller-runtime.
func registerMetrics(r prometheus.Registerer, gateways *fleet.Fleet) error {
	connected := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "headgate_controller_bus_connected",
		Help: "1 while this replica leads and follows the bus, else 0.",
	}, func() float64 {
		if gateways.Link() == fleet.LinkUp {
			return 1
		}
		return 0
	})
	live := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "headgate_controller_gateways",
		Help: "Gateway replicas that are alive, as the leader sees them.",
	}, func() float64 { return float64(gateways.Replicas()) })
	findings := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "headgate_controller_bus_findings",
		Help: "Ways to make the external NATS server safer; the log of the controller says which.",
	}, func() float64 { return float64(gateways.Findings()) })
	for _, c := range []prometheus.Collector{connected, live, findings} {
		if err := r.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

// addChecks makes the process alive while it serves, and ready once its cache
// has what it needs. That the bus is away is no part of either: there is nothing
// that a restart would help. One that can never be used is for a person to see.
func addChecks(mgr ctrl.Manager, gateways *fleet.Fleet) error {
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("add the liveness check: %w", err)
	}
	synced := &cacheSync{cache: mgr.GetCache()}
	if err := mgr.Add(synced); err != nil {
		return fmt.Errorf("add to the manager: %w", err)
	}
	if err := mgr.AddReadyzCheck("cache", synced.check); err != nil {
		return fmt.Errorf("add the readiness check: %w", err)
	}
	if err := mgr.AddReadyzCheck("bus", func(*http.Request) error { return gateways.Fit() }); err != nil {
		return fmt.Errorf("add the readiness check: %w", err)
	}
	return nil
}

// cacheSync waits for the cache on every replica, leader or not.
type cacheSync struct {
	cache cache.Cache
	done  atomic.Bool
}

// Start implements manager.Runnable.
func (c *cacheSync) Start(ctx context.Context) error {
	c.done.Store(c.cache.WaitForCacheSync(ctx))
	return nil
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (*cacheSync) NeedLeaderElection() bool { return false }

func (c *cacheSync) check(*http.Request) error {
	if !c.done.Load() {
		return errors.New("the cache is not synchronized")
	}
	return nil
}
