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
	indexFlowFlows = "headgate.flows"
)

// RegisterFlowIndexes adds the indexes that the functions below need.
// credentials names the Credentials that a Flow refers to, in any namespace, and
// flows the Flows; route is the path below /hook/<namespace>/, or empty.
func RegisterFlowIndexes(
	ctx context.Context,
	indexer client.FieldIndexer,
	credentials, flows func(*flowv1alpha1.Flow) []types.NamespacedName,
	route func(*flowv1alpha1.Flow) string,
) error {
	byCredential, byFlow, byRoute := byNames(credentials), byNames(flows), byText(route)
	if err := indexer.IndexField(ctx, &flowv1alpha1.Flow{}, indexFlowFlows, byFlow); err != nil {
		return fmt.Errorf("index Flows by Flow: %w", err)
	}
	if err := indexer.IndexField(ctx, &flowv1alpha1.Flow{}, indexFlowRefs, byCredential); err != nil {
		return fmt.Errorf("index Flows by Credential: %w", err)
	}
	if err := indexer.IndexField(ctx, &flowv1alpha1.Flow{}, indexFlowRoute, byRoute); err != nil {
		return fmt.Errorf("index Flows by route: %w", err)
	}
	return nil
}

func byNames(names func(*flowv1alpha1.Flow) []types.NamespacedName) client.IndexerFunc {
	return func(obj client.Object) []string {
		f, ok := obj.(*flowv1alpha1.Flow)
		if !ok {
			return nil
		}
		var keys []string
		for _, name := range names(f) {
			keys = append(keys, name.String())
		}
		return keys
	}
}

func byText(text func(*flowv1alpha1.Flow) string) client.IndexerFunc {
	return func(obj client.Object) []string {
		f, ok := obj.(*flowv1alpha1.Flow)
		if !ok || text(f) == "" {
			return nil
		}
		return []string{text(f)}
	}
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

// FlowsReferringTo lists the Flows that name a Flow, which need not exist.
func FlowsReferringTo(ctx context.Context, r client.Reader, flow types.NamespacedName) ([]flowv1alpha1.Flow, error) {
	var list flowv1alpha1.FlowList
	if err := r.List(ctx, &list, client.MatchingFields{indexFlowFlows: flow.String()}); err != nil {
		return nil, fmt.Errorf("list Flows that refer to Flow %s: %w", flow, err)
	}
	return list.Items, nil
}
