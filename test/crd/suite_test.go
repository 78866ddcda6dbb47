// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
)

// namespace holds one object for each document of testdata.
const namespace = "documents"

var (
	// bases is the folder of the generated CustomResourceDefinitions.
	bases = filepath.Join("..", "..", "config", "crd", "bases")
	// kubectlPath is the kubectl that belongs to the API server.
	kubectlPath string
	// kubeconfigPath lets kubectl in as an administrator.
	kubeconfigPath string
	// api talks to the API server, which refuses unknown and duplicate fields.
	api client.Client
)

func TestMain(m *testing.M) {
	// testing itself ends the process with the code of m.Run.
	if err := run(m); err != nil {
		log.Fatalf("test/crd: %v", err)
	}
}

// run starts the API server, creates the documents and runs the tests.
func run(m *testing.M) (err error) {
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		return errors.New("KUBEBUILDER_ASSETS is not set: run \"make test-crd\", which builds kube-apiserver, etcd and kubectl")
	}
	env := &envtest.Environment{
		BinaryAssetsDirectory:    assets,
		CRDDirectoryPaths:        []string{bases},
		ErrorIfCRDPathMissing:    true,
		ControlPlaneStartTimeout: time.Minute,
	}
	config, err := env.Start()
	if err != nil {
		return fmt.Errorf("start the API server: %w", err)
	}
	defer func() {
		if stopErr := env.Stop(); err == nil && stopErr != nil {
			err = fmt.Errorf("stop the API server: %w", stopErr)
		}
	}()

	folder, err := os.MkdirTemp("", "headgate-crd-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	kubectlPath = filepath.Join(assets, "kubectl")
	kubeconfigPath = filepath.Join(folder, "kubeconfig")
	if err := os.WriteFile(kubeconfigPath, env.KubeConfig, 0o600); err != nil {
		return err
	}

	config.QPS = -1 // The API server has its own limits; hundreds of dry runs need not wait for the client's.
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), flowv1alpha1.AddToScheme(scheme)); err != nil {
		return err
	}
	unchecked, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return err
	}
	api = client.WithFieldValidation(unchecked, metav1.FieldValidationStrict)
	if err := createDocuments(context.Background()); err != nil {
		return err
	}
	m.Run()
	return nil
}

// createDocuments stores each document of testdata in the namespace.
func createDocuments(ctx context.Context) error {
	if err := api.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		return err
	}
	docs, err := readDocuments("testdata")
	if err != nil {
		return err
	}
	for _, doc := range docs {
		if err := api.Create(ctx, doc.copy()); err != nil {
			return fmt.Errorf("create %s: %w", doc, err)
		}
	}
	return nil
}
