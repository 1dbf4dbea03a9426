// What the kubelet does for a container's mounts, by its own functions. It exports none of them, so the linker is told
// to take them from its package: with a version that changes their parameters, this file has to change too.

package main

import (
	"context"
	"fmt"
	"reflect"
	"unsafe"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/kubelet"
	"k8s.io/kubernetes/pkg/kubelet/configmap"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/secret"
	"k8s.io/kubernetes/pkg/volume/util/hostutil"
	"k8s.io/kubernetes/pkg/volume/util/subpath"
)

// makeMounts resolves a container's volumeMounts: subPath and subPathExpr, read-only rules, propagation.
//
//go:linkname makeMounts k8s.io/kubernetes/pkg/kubelet.makeMounts
func makeMounts(logger klog.Logger, pod *v1.Pod, podDir string, container *v1.Container, hostName, hostDomain string,
	podIPs []string, podVolumes kubecontainer.VolumeMap, hu hostutil.HostUtils, subpather subpath.Interface,
	expandEnvs []kubecontainer.EnvVar, supportsRRO bool, imageVolumes kubecontainer.ImageVolumes,
) ([]kubecontainer.Mount, func(), error)

//go:linkname makeEnvironmentVariables k8s.io/kubernetes/pkg/kubelet.(*Kubelet).makeEnvironmentVariables
func makeEnvironmentVariables(kl *kubelet.Kubelet, ctx context.Context, pod *v1.Pod, container *v1.Container,
	podIP string, podIPs []string, podVolumes kubecontainer.VolumeMap) ([]kubecontainer.EnvVar, error)

// environment gives the variables that a container's subPathExpr may use.
func (h *host) environment(ctx context.Context, pod *v1.Pod, container *v1.Container, volumes kubecontainer.VolumeMap) ([]kubecontainer.EnvVar, error) {
	kl := &kubelet.Kubelet{}
	for field, value := range map[string]any{
		"kubeClient":       h.client,
		"secretManager":    secret.NewSimpleSecretManager(h.client),
		"configMapManager": configmap.NewSimpleConfigMapManager(h.client),
		"serviceLister":    serviceLister{h.client, pod.Namespace},
		"serviceHasSynced": cache.InformerSynced(func() bool { return true }),
		"nodeLister":       nodeLister{host: h, pod: pod},
	} {
		if err := setField(kl, field, value); err != nil {
			return nil, err
		}
	}
	var podIPs []string
	for _, ip := range pod.Status.PodIPs {
		podIPs = append(podIPs, ip.IP)
	}
	return makeEnvironmentVariables(kl, ctx, pod, container, pod.Status.PodIP, podIPs, volumes)
}

// setField sets a field that another package keeps to itself.
func setField(kl *kubelet.Kubelet, name string, value any) error {
	field := reflect.ValueOf(kl).Elem().FieldByName(name)
	if !field.IsValid() {
		return fmt.Errorf("the kubelet no longer has a field %s", name)
	}
	reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem().Set(reflect.ValueOf(value))
	return nil
}

// serviceLister lists the services that the kubelet makes variables of: those of the pod's namespace and "kubernetes".
type serviceLister struct {
	client    kubernetes.Interface
	namespace string
}

func (l serviceLister) List(labels.Selector) ([]*v1.Service, error) {
	var all []*v1.Service
	for _, namespace := range []string{metav1.NamespaceDefault, l.namespace} {
		services, err := l.client.CoreV1().Services(namespace).List(context.TODO(), metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		for i := range services.Items {
			all = append(all, &services.Items[i])
		}
	}
	return all, nil
}

// nodeLister knows the one node. Without a Node object it is made up: what it has, and the addresses that the pod has
// from it.
type nodeLister struct {
	corelisters.NodeLister
	host *host
	pod  *v1.Pod
}

func (l nodeLister) Get(name string) (*v1.Node, error) {
	node, err := l.host.client.CoreV1().Nodes().Get(context.TODO(), l.host.node, metav1.GetOptions{})
	if err == nil {
		return node, nil
	}
	node = &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: l.host.node}}
	node.Status.Allocatable = l.host.allocatable
	for _, ip := range l.pod.Status.HostIPs {
		node.Status.Addresses = append(node.Status.Addresses, v1.NodeAddress{Type: v1.NodeInternalIP, Address: ip.IP})
	}
	return node, nil
}
