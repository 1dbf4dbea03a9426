// What the kubelet's volume plugins want from their kubelet: paths, objects, tokens, and each other.

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/kubernetes/pkg/kubelet/token"
	"k8s.io/kubernetes/pkg/volume"
	"k8s.io/mount-utils"

	authenticationv1 "k8s.io/api/authentication/v1"
)

// host has the methods of the two interfaces that our five plugins call. Any other is nil and would panic: then a
// new version of a plugin wants something that has to be given to it here.
type host struct {
	volume.VolumeHost
	volume.KubeletVolumeHost

	client  kubernetes.Interface
	root    string
	node    string
	mounter mount.Interface
	tokens  *token.Manager // the kubelet's own: a token is kept until it is due for renewal
	plugins volume.VolumePluginMgr

	// allocatable is what the node had when last seen; a test need not make a Node.
	allocatable v1.ResourceList
	// nodeSeen says that it was looked for in this pass, which is often enough.
	nodeSeen bool
}

var (
	_ volume.VolumeHost        = &host{}
	_ volume.KubeletVolumeHost = &host{}
)

func newHost(client kubernetes.Interface, root, node string) *host {
	return &host{
		client:  client,
		root:    root,
		node:    node,
		mounter: directMounter{mount.New("")},
		tokens:  token.NewManager(client),
		allocatable: v1.ResourceList{
			v1.ResourceCPU:              resource.MustParse("2"),
			v1.ResourceMemory:           resource.MustParse("4Gi"),
			v1.ResourceEphemeralStorage: resource.MustParse("100Gi"),
		},
	}
}

func (h *host) GetPodsDir() string                  { return filepath.Join(h.root, "pods") }
func (h *host) podDir(uid types.UID) string         { return filepath.Join(h.GetPodsDir(), string(uid)) }
func (h *host) pluginsDir() string                  { return filepath.Join(h.root, "plugins") }
func (h *host) GetPluginDir(plugin string) string   { return filepath.Join(h.pluginsDir(), plugin) }
func (h *host) GetKubeClient() kubernetes.Interface { return h.client }
func (h *host) GetMounter() mount.Interface         { return h.mounter }
func (h *host) GetNodeName() types.NodeName         { return types.NodeName(h.node) }
func (h *host) GetPodPluginDir(uid types.UID, plugin string) string {
	return filepath.Join(h.podDir(uid), "plugins", plugin)
}

func (h *host) GetPodVolumeDir(uid types.UID, plugin, name string) string {
	return filepath.Join(h.podDir(uid), "volumes", plugin, name)
}

// wrapped is the volume that a plugin sets its own on: an emptyDir under a name that no other volume has.
func (h *host) wrapped(name string, spec volume.Spec) (volume.VolumePlugin, *volume.Spec, error) {
	spec.Volume.Name = "wrapped_" + name
	plugin, err := h.plugins.FindPluginBySpec(&spec)
	return plugin, &spec, err
}

func (h *host) NewWrapperMounter(name string, spec volume.Spec, pod *v1.Pod) (volume.Mounter, error) {
	plugin, inner, err := h.wrapped(name, spec)
	if err != nil {
		return nil, err
	}
	return plugin.NewMounter(inner, pod)
}

func (h *host) NewWrapperUnmounter(name string, spec volume.Spec, uid types.UID) (volume.Unmounter, error) {
	plugin, inner, err := h.wrapped(name, spec)
	if err != nil {
		return nil, err
	}
	return plugin.NewUnmounter(inner.Name(), uid)
}

func (h *host) GetNodeAllocatable() (v1.ResourceList, error) {
	if h.nodeSeen {
		return h.allocatable, nil
	}
	h.nodeSeen = true
	node, err := h.client.CoreV1().Nodes().Get(context.TODO(), h.node, metav1.GetOptions{})
	if err == nil && len(node.Status.Allocatable) > 0 {
		h.allocatable = node.Status.Allocatable
	}
	return h.allocatable, nil
}

func (h *host) GetSecretFunc() func(namespace, name string) (*v1.Secret, error) {
	return func(namespace, name string) (*v1.Secret, error) {
		return h.client.CoreV1().Secrets(namespace).Get(context.TODO(), name, metav1.GetOptions{})
	}
}

func (h *host) GetConfigMapFunc() func(namespace, name string) (*v1.ConfigMap, error) {
	return func(namespace, name string) (*v1.ConfigMap, error) {
		return h.client.CoreV1().ConfigMaps(namespace).Get(context.TODO(), name, metav1.GetOptions{})
	}
}

func (h *host) GetServiceAccountTokenFunc() func(string, string, *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	return h.tokens.GetServiceAccountToken
}

func (h *host) DeleteServiceAccountTokenFunc() func(types.UID) {
	return h.tokens.DeleteServiceAccountToken
}

func (h *host) GetTrustAnchorsByName(ctx context.Context, name string, allowMissing bool) ([]byte, error) {
	bundles, err := h.trustBundles(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		return nil, err
	}
	if len(bundles) == 0 && !allowMissing {
		return nil, fmt.Errorf("there is no ClusterTrustBundle %q", name)
	}
	return trustAnchors(bundles), nil
}

func (h *host) GetTrustAnchorsBySigner(ctx context.Context, signer string, labels *metav1.LabelSelector, allowMissing bool) ([]byte, error) {
	// No selector selects nothing, an empty one everything.
	selector, err := metav1.LabelSelectorAsSelector(labels)
	if err != nil {
		return nil, err
	}
	bundles, err := h.trustBundles(ctx, metav1.ListOptions{FieldSelector: "spec.signerName=" + signer})
	if err != nil {
		return nil, err
	}
	bundles = selected(bundles, selector)
	if len(bundles) == 0 && !allowMissing {
		return nil, fmt.Errorf("no ClusterTrustBundle of signer %q has the labels %s", signer, selector)
	}
	return trustAnchors(bundles), nil
}

func (h *host) GetPodCertificateCredentialBundle(context.Context, string, string, string, string, int) ([]byte, []byte, error) {
	return nil, nil, errors.New("the referee has no pod certificates")
}
