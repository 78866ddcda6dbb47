// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// AssetsEnv names the folder that holds etcd, kube-apiserver and kubectl.
const AssetsEnv = "KUBEBUILDER_ASSETS"

// Namespace that Headgate is installed into.
const Namespace = "headgate-system"

// ControlPlane is a running etcd and kube-apiserver. Its authorisation is RBAC.
type ControlPlane struct {
	// Config is the administrator's.
	Config *rest.Config
	// Kubeconfig is a file with the administrator's credentials.
	Kubeconfig string

	env     *envtest.Environment
	kubectl string
	dir     string
}

// Start starts a control plane with the programs in $KUBEBUILDER_ASSETS and
// keeps its files in dir. The caller stops it.
func Start(dir string) (*ControlPlane, error) {
	assets := os.Getenv(AssetsEnv)
	if assets == "" {
		return nil, fmt.Errorf("%s is not set: run this through make, which builds the control plane and sets it", AssetsEnv)
	}
	assets, err := filepath.Abs(assets)
	if err != nil {
		return nil, err
	}
	env := &envtest.Environment{BinaryAssetsDirectory: assets}
	config, err := env.Start()
	if err != nil {
		return nil, fmt.Errorf("start control plane: %w", errors.Join(err, env.Stop()))
	}
	// The API server has limits of its own; a thousand objects need not wait for
	// the client's.
	config.QPS = -1
	c := &ControlPlane{Config: config, env: env, kubectl: filepath.Join(assets, "kubectl"), dir: dir}
	c.Kubeconfig, err = c.writeKubeconfig("admin", &clientcmdapi.AuthInfo{
		ClientCertificateData: config.CertData,
		ClientKeyData:         config.KeyData,
	})
	if err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// Stop stops the control plane.
func (c *ControlPlane) Stop() error { return c.env.Stop() }

// StopAPIServer stops only the API server: a cluster that cannot be asked.
func (c *ControlPlane) StopAPIServer() error { return c.env.ControlPlane.APIServer.Stop() }

// Kubectl returns a command that runs kubectl as the administrator.
func (c *ControlPlane) Kubectl(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.kubectl, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig)
	return cmd
}

// Run runs kubectl as the administrator and returns what it printed.
func (c *ControlPlane) Run(ctx context.Context, args ...string) (string, error) {
	out, err := c.Kubectl(ctx, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// Install applies the CRDs, the namespace and the RBAC rules below the
// repository's config folder: everything of an installation but its pods.
func (c *ControlPlane) Install(ctx context.Context, config string) error {
	for _, args := range [][]string{
		{"apply", "-k", filepath.Join(config, "crd")},
		{"apply", "-f", filepath.Join(config, "default", "namespace.yaml")},
		{"apply", "-k", filepath.Join(config, "rbac")},
		{"wait", "--for=condition=Established", "--timeout=60s", "crd/flows.headgate.dev", "crd/credentials.headgate.dev", "crd/subscriptions.headgate.dev"},
	} {
		if _, err := c.Run(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// ServiceAccountKubeconfig returns a file with a fresh token of a
// ServiceAccount of Namespace: what a pod that runs as it may do.
func (c *ControlPlane) ServiceAccountKubeconfig(ctx context.Context, name string) (string, error) {
	token, err := c.Kubectl(ctx, "create", "token", name, "-n", Namespace, "--duration=24h").Output()
	if err != nil {
		return "", fmt.Errorf("create a token for ServiceAccount %s: %w", name, err)
	}
	return c.writeKubeconfig(name, &clientcmdapi.AuthInfo{Token: strings.TrimSpace(string(token))})
}

func (c *ControlPlane) writeKubeconfig(user string, auth *clientcmdapi.AuthInfo) (string, error) {
	config := clientcmdapi.NewConfig()
	config.Clusters["test"] = &clientcmdapi.Cluster{
		Server:                   "https://" + c.env.ControlPlane.APIServer.SecureServing.Address + ":" + c.env.ControlPlane.APIServer.SecureServing.Port,
		CertificateAuthorityData: c.Config.CAData,
	}
	config.AuthInfos[user] = auth
	config.Contexts[user] = &clientcmdapi.Context{Cluster: "test", AuthInfo: user}
	config.CurrentContext = user
	path := filepath.Join(c.dir, user+".kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return "", fmt.Errorf("write kubeconfig of %s: %w", user, err)
	}
	return path, nil
}
