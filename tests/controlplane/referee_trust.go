// ClusterTrustBundles as files. The kubelet's own code for this works on a cache that lags behind the API server;
// this does the same on what the API server has now.

package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

func (h *host) trustBundles(ctx context.Context, options metav1.ListOptions) ([]certificatesv1.ClusterTrustBundle, error) {
	list, err := h.client.CertificatesV1().ClusterTrustBundles().List(ctx, options)
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

func selected(bundles []certificatesv1.ClusterTrustBundle, selector labels.Selector) []certificatesv1.ClusterTrustBundle {
	return slices.DeleteFunc(bundles, func(one certificatesv1.ClusterTrustBundle) bool {
		return !selector.Matches(labels.Set(one.Labels))
	})
}

// trustAnchors gives each certificate of the bundles once, without what may stand around it. The kubelet writes them
// in an order that it shuffles once; here it is the order of their bytes, so compare them as a set.
func trustAnchors(bundles []certificatesv1.ClusterTrustBundle) []byte {
	var anchors [][]byte
	for _, one := range bundles {
		for block, rest := pem.Decode([]byte(one.Spec.TrustBundle)); block != nil; block, rest = pem.Decode(rest) {
			anchors = append(anchors, block.Bytes)
		}
	}
	slices.SortFunc(anchors, bytes.Compare)
	anchors = slices.CompactFunc(anchors, bytes.Equal)
	text := []byte{}
	for _, anchor := range anchors {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: anchor})...)
	}
	return text
}
