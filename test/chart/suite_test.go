// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/headgate-io/headgate/internal/controller"
	"github.com/headgate-io/headgate/test/cluster"
)

const (
	// helmEnv names the Helm to test with.
	helmEnv = "HELM"
	// root is the repository's.
	root = "../.."
	// chartDir is the chart.
	chartDir = root + "/charts/headgate"
	// patience bounds every wait; it is generous because a slow machine is no bug.
	patience = 60 * time.Second
)

// variants are the values that the chart is looked at with.
var variants = map[string][]string{
	"default": nil,
	"full":    {"--values=testdata/full.yaml"},
	"bare":    {"--values=testdata/bare.yaml"},
	"claim":   {"--set=gateway.persistence.existingClaim=ours"},
	"external": {
		"--set=bus.external.url=nats://a.nats:4222\\,nats://b.nats:5222", "--set=bus.external.caSecretName=nats-ca", "--set=gateway.replicas=4",
	},
	"tls":     {"--set=gateway.tls.secretName=hooks-tls"},
	"cluster": {"--set=gateway.replicas=3"},
}

var (
	plane *cluster.ControlPlane
	// admin may do everything.
	admin client.Client
	// helmDir is the home of Helm, in place of the developer's own.
	helmDir string
)

func TestMain(m *testing.M) {
	os.Exit(runTests(m)) //nolint:forbidigo // the main of a test
}

func runTests(m *testing.M) int {
	code, err := runOnControlPlane(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot test the chart:", err)
		return 1
	}
	return code
}

func runOnControlPlane(m *testing.M) (code int, err error) {
	if os.Getenv(helmEnv) == "" {
		return 0, fmt.Errorf("%s is not set: run this through make, which builds Helm and sets it", helmEnv)
	}
	ctrl.SetLogger(logr.Discard())
	dir, err := os.MkdirTemp("", "headgate-chart-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	helmDir = filepath.Join(dir, "helm")
	if plane, err = cluster.Start(dir); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, plane.Stop()) }()
	if admin, err = client.New(plane.Config, client.Options{Scheme: controller.Scheme()}); err != nil {
		return 0, err
	}
	if _, err = plane.Run(context.Background(), "apply", "-f", filepath.Join(root, "config", "default", "namespace.yaml")); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// helm runs Helm as the administrator and returns what it printed.
func helm(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, os.Getenv(helmEnv), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+plane.Kubeconfig, "HELM_CACHE_HOME="+helmDir,
		"HELM_CONFIG_HOME="+helmDir, "HELM_DATA_HOME="+helmDir, "HELM_NAMESPACE="+cluster.Namespace)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("helm %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String(), nil
}

// mustHelm is helm where it has to succeed.
func mustHelm(t *testing.T, args ...string) string {
	t.Helper()
	out, err := helm(t.Context(), args...)
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	return out
}

// manifest is a list of objects.
type manifest []*unstructured.Unstructured

// render renders the chart for a release of that name.
func render(t *testing.T, release string, args ...string) manifest {
	t.Helper()
	return parse(t, mustHelm(t, append([]string{"template", release, chartDir}, args...)...))
}

// parse reads YAML documents.
func parse(t *testing.T, text string) manifest {
	t.Helper()
	var objects manifest
	for document := range strings.SplitSeq("\n"+text, "\n---\n") {
		object := &unstructured.Unstructured{}
		NewWithT(t).Expect(yaml.UnmarshalStrict([]byte(document), &object.Object)).To(Succeed(), document)
		if object.Object != nil {
			objects = append(objects, object)
		}
	}
	return objects
}

// ids returns "Kind/name" of every object.
func (m manifest) ids() []string {
	ids := make([]string, len(m))
	for i, object := range m {
		ids[i] = object.GetKind() + "/" + object.GetName()
	}
	return ids
}

// only returns the objects of the kinds.
func (m manifest) only(kinds ...string) manifest {
	var found manifest
	for _, object := range m {
		for _, kind := range kinds {
			if object.GetKind() == kind {
				found = append(found, object)
			}
		}
	}
	return found
}

// find returns the object "Kind/name", read strictly into its type.
func find[T any](t *testing.T, m manifest, id string) *T {
	t.Helper()
	g := NewWithT(t)
	g.Expect(m.ids()).To(ContainElement(id))
	var typed T
	for i, other := range m.ids() {
		if other == id {
			err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(m[i].Object, &typed, true)
			g.Expect(err).NotTo(HaveOccurred(), id)
		}
	}
	return &typed
}
