// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
)

var namespaceKind = corev1.SchemeGroupVersion.WithKind("Namespace")

// The indexes of the cache. Their keys look like fields but are computed.
const (
	indexFlowRefs  = "headgate.refs"
	indexFlowRoute = "headgate.route"
)

// RegisterFlowIndexes adds the indexes that the functions below need.
// credentials names the Credentials that a Flow refers to, in any namespace;
// route is the path below /hook/<namespace>/, or empty.
func RegisterFlowIndexes(
	ctx context.Context,
	indexer client.FieldIndexer,
	credentials func(*flowv1alpha1.Flow) []types.NamespacedName,
	route func(*flowv1alpha1.Flow) string,
) error {
	byCredential, byRoute := flowIndexers(credentials, route)
	if err := indexer.IndexField(ctx, &flowv1alpha1.Flow{}, indexFlowRefs, byCredential); err != nil {
		return fmt.Errorf("index Flows by Credential: %w", err)
	}
	if err := indexer.IndexField(ctx, &flowv1alpha1.Flow{}, indexFlowRoute, byRoute); err != nil {
		return fmt.Errorf("index Flows by route: %w", err)
	}
	return nil
}

func flowIndexers(
	credentials func(*flowv1alpha1.Flow) []types.NamespacedName,
	route func(*flowv1alpha1.Flow) string,
) (byCredential, byRoute client.IndexerFunc) {
	byCredential = func(obj client.Object) []string {
		f, ok := obj.(*flowv1alpha1.Flow)
		if !ok {
			return nil
		}
		var keys []string
		for _, name := range credentials(f) {
			keys = append(keys, name.String())
		}
		return keys
	}
	byRoute = func(obj client.Object) []string {
		f, ok := obj.(*flowv1alpha1.Flow)
		if !ok || route(f) == "" {
			return nil
		}
		return []string{route(f)}
	}
	return byCredential, byRoute
}

// FlowsUsing lists the Flows of all namespaces that refer to a Credential,
// whether they may use it or not.
func FlowsUsing(ctx context.Context, r client.Reader, credential types.NamespacedName) ([]flowv1alpha1.Flow, error) {
	var list flowv1alpha1.FlowList
	if err := r.List(ctx, &list, client.MatchingFields{indexFlowRefs: credential.String()}); err != nil {
		return nil, fmt.Errorf("list Flows that use Credential %s: %w", credential, err)
	}
	return list.Items, nil
}

// FlowsAt lists the Flows of a namespace whose spec claims a route.
func FlowsAt(ctx context.Context, r client.Reader, namespace, route string) ([]flowv1alpha1.Flow, error) {
	var list flowv1alpha1.FlowList
	if err := r.List(ctx, &list, client.InNamespace(namespace), client.MatchingFields{indexFlowRoute: route}); err != nil {
		return nil, fmt.Errorf("list Flows at %s/%s: %w", namespace, route, err)
	}
	return list.Items, nil
}
