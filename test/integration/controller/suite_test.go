// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/headgate-io/headgate/internal/controller"
)

const (
	systemNamespace = "headgate-system"
	// serviceAccount is whom config/rbac gives the controller's rights.
	serviceAccount = "system:serviceaccount:" + systemNamespace + ":headgate-controller"
)

var (
	// api talks to the API server as an administrator.
	api client.WithWatch
	// controllerConfig lets the controller in with the rights of config/rbac.
	controllerConfig *rest.Config
	// requests are those that the controller has made about Secrets and
	// ConfigMaps.
	requests requestLog
	// house is the installation that the stories share.
	house *installation
)

func TestMain(m *testing.M) {
	// testing itself ends the process with the code of m.Run.
	if err := run(m); err != nil {
		log.Fatalf("test/integration/controller: %v", err)
	}
}

func run(m *testing.M) (err error) {
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		return errors.New("KUBEBUILDER_ASSETS is not set: run \"make test-integration\", which builds kube-apiserver and etcd")
	}
	root := filepath.Join("..", "..", "..")
	env := &envtest.Environment{
		BinaryAssetsDirectory:    assets,
		CRDDirectoryPaths:        []string{filepath.Join(root, "config", "crd", "bases")},
		ErrorIfCRDPathMissing:    true,
		ControlPlaneStartTimeout: time.Minute,
	}
	ctrl.SetLogger(logr.Discard())
	admin, err := env.Start()
	if err != nil {
		return fmt.Errorf("start the API server: %w", err)
	}
	defer func() { err = errors.Join(err, env.Stop()) }()
	admin.QPS = -1
	if api, err = client.NewWithWatch(admin, client.Options{Scheme: controller.Scheme()}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := install(ctx, filepath.Join(root, "config", "rbac")); err != nil {
		return err
	}
	user, err := env.AddUser(envtest.User{
		Name:   serviceAccount,
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + systemNamespace, "system:authenticated"},
	}, nil)
	if err != nil {
		return err
	}
	controllerConfig = user.Config()
	controllerConfig.QPS = -1
	controllerConfig.Wrap(requests.wrap)

	folder, err := os.MkdirTemp("", "headgate-controller-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	if house, err = newInstallation(ctx, folder); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, house.close()) }()
	if err := house.open(ctx); err != nil {
		return err
	}
	eye, err := inspect(ctx)
	if err != nil {
		return err
	}
	m.Run()
	return errors.Join(eye.verdict(), onlyReferenced(requests.all()), house.leaked())
}

// onlyReferenced: Secrets and ConfigMaps are listed and watched by name, and
// none is read otherwise but the bus Secret.
func onlyReferenced(list []*http.Request) error {
	named := 0
	for _, r := range list {
		query := r.URL.Query()
		switch {
		case strings.HasPrefix(query.Get("fieldSelector"), "metadata.name="):
			named++
		case strings.HasPrefix(r.URL.Path, "/api/v1/namespaces/"+systemNamespace+"/secrets"):
		default:
			return fmt.Errorf("the controller asked for more than one object: %s %s", r.Method, r.URL)
		}
	}
	if named == 0 {
		return errors.New("the controller read no Secret")
	}
	return nil
}

// install makes the controller's namespace and rights.
func install(ctx context.Context, folder string) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: systemNamespace}}
	if err := api.Create(ctx, ns); err != nil {
		return err
	}
	for _, name := range []string{"role.yaml", "role_bindings.yaml"} {
		data, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			return err
		}
		objects, err := decode(string(data))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, obj := range objects {
			if err := api.Create(ctx, obj); err != nil {
				return err
			}
		}
	}
	return nil
}

// decode reads the documents of a YAML text.
func decode(text string) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	for document := range strings.SplitSeq(text, "\n---") {
		if strings.TrimSpace(strings.Trim(strings.TrimSpace(document), "-")) == "" {
			continue
		}
		obj := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict([]byte(strings.TrimPrefix(strings.TrimSpace(document), "---")), &obj.Object); err != nil {
			return nil, err
		}
		objects = append(objects, obj)
	}
	return objects, nil
}

// requestLog remembers requests about Secrets and ConfigMaps.
type requestLog struct {
	mu   sync.Mutex
	list []*http.Request
}

func (l *requestLog) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if strings.Contains(r.URL.Path, "/secrets") || strings.Contains(r.URL.Path, "/configmaps") {
			l.mu.Lock()
			l.list = append(l.list, r)
			l.mu.Unlock()
		}
		return next.RoundTrip(r)
	})
}

func (l *requestLog) all() []*http.Request {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*http.Request(nil), l.list...)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
