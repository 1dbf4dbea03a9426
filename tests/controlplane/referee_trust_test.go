package main

import (
	"encoding/pem"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

func block(content string) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(content)}))
}

func bundles(texts ...string) []certificatesv1.ClusterTrustBundle {
	var all []certificatesv1.ClusterTrustBundle
	for _, text := range texts {
		all = append(all, certificatesv1.ClusterTrustBundle{Spec: certificatesv1.ClusterTrustBundleSpec{TrustBundle: text}})
	}
	return all
}

func TestTrustAnchors(t *testing.T) {
	for name, one := range map[string]struct{ bundles, anchors []string }{
		"none":                       {nil, nil},
		"one":                        {[]string{block("a")}, []string{"a"}},
		"several in a bundle":        {[]string{block("b") + block("a")}, []string{"a", "b"}},
		"the same in two bundles":    {[]string{block("a") + block("c"), block("c") + block("b")}, []string{"a", "b", "c"}},
		"text around and no newline": {[]string{"about a\n" + strings.TrimSpace(block("a"))}, []string{"a"}},
	} {
		var want strings.Builder
		for _, anchor := range one.anchors {
			want.WriteString(block(anchor))
		}
		if got := string(trustAnchors(bundles(one.bundles...))); got != want.String() {
			t.Errorf("%s: got %q, want %q", name, got, want.String())
		}
	}
}

func TestSelectedByLabels(t *testing.T) {
	all := func() []certificatesv1.ClusterTrustBundle {
		two := bundles("1", "2")
		two[0].Labels = map[string]string{"live": "yes"}
		return two
	}
	for name, one := range map[string]struct {
		selector *metav1.LabelSelector
		count    int
	}{
		"no selector selects nothing":       {nil, 0},
		"an empty one selects everything":   {&metav1.LabelSelector{}, 2},
		"a label selects those that had it": {&metav1.LabelSelector{MatchLabels: map[string]string{"live": "yes"}}, 1},
	} {
		var selector labels.Selector
		selector, err := metav1.LabelSelectorAsSelector(one.selector)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(selected(all(), selector)); got != one.count {
			t.Errorf("%s: got %d, want %d", name, got, one.count)
		}
	}
}
