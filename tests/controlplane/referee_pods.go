// Whole pods: their volumes, and a root directory for each container, kept up as a kubelet keeps them.

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/volume/util/hostutil"
	"k8s.io/kubernetes/pkg/volume/util/subpath"
)

// containerAnswer tells where a container's root is, or why there is none.
type containerAnswer struct {
	Root   string        `json:"root,omitempty"`
	Mounts []mountAnswer `json:"mounts,omitempty"` // in the order in which they were made
	Error  string        `json:"error,omitempty"`
}

type mountAnswer struct {
	Path     string `json:"path"`
	Volume   string `json:"volume"`
	SubPath  bool   `json:"subPath"`
	ReadOnly bool   `json:"readOnly"`
}

// podContainer is a container that has started, or has tried to.
type podContainer struct {
	root   *containerRoot // nil if it could not
	answer containerAnswer
}

// sync does one pass of the kubelet over a pod: its volumes are set up, or refreshed, and containers that have not
// started do so once all volumes were set up. What has started keeps its mounts, whatever becomes of the volumes. What
// could not start is tried again by restart only: a kubelet's own next try finds what the failed one has left behind,
// and goes one way or the other.
func (m *podMounts) sync(ctx context.Context, pod *v1.Pod) (map[string]volumeAnswer, map[string]containerAnswer) {
	volumes := m.setUp(pod)
	known := m.pods[pod.UID]
	missing := []string{}
	for name := range volumes {
		if !known.volumes[name].mounted {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)

	containers := map[string]containerAnswer{}
	podutil.VisitContainers(&pod.Spec, podutil.AllFeatureEnabledContainers(), func(c *v1.Container, _ podutil.ContainerType) bool {
		containers[c.Name] = m.start(ctx, pod, c, missing)
		return true
	})
	return volumes, containers
}

// restart lets a container end and start again, which resolves its subPaths anew.
func (m *podMounts) restart(ctx context.Context, pod *v1.Pod, container string) (map[string]volumeAnswer, map[string]containerAnswer) {
	if known := m.pods[pod.UID]; known != nil {
		known.stop(container)
	}
	return m.sync(ctx, pod)
}

func (p *podVolumes) stop(container string) {
	if tried := p.containers[container]; tried != nil {
		tried.root.close()
		delete(p.containers, container)
	}
}

func (m *podMounts) start(ctx context.Context, pod *v1.Pod, c *v1.Container, missing []string) containerAnswer {
	known := m.pods[pod.UID]
	if tried := known.containers[c.Name]; tried != nil {
		return tried.answer
	}
	if len(missing) > 0 {
		return containerAnswer{Error: "waits for the volumes " + strings.Join(missing, ", ")}
	}
	root, mounts, err := m.newRoot(ctx, pod, c)
	tried := &podContainer{root: root}
	if err != nil {
		tried.answer.Error = err.Error()
	} else {
		tried.answer.Root, tried.answer.Mounts = root.path(), mounts
	}
	known.containers[c.Name] = tried
	return tried.answer
}

func (m *podMounts) newRoot(ctx context.Context, pod *v1.Pod, c *v1.Container) (*containerRoot, []mountAnswer, error) {
	mounts, err := m.mountsOf(ctx, pod, c)
	if err != nil {
		return nil, nil, err
	}
	dir := filepath.Join(m.host.podDir(pod.UID), "containers", c.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	root, err := newContainerRoot(dir, mounts)
	return root, describe(c, mounts), err
}

// mountsOf has the kubelet say what a container's runtime is to mount. Without the file /etc/hosts, which is no volume.
func (m *podMounts) mountsOf(ctx context.Context, pod *v1.Pod, c *v1.Container) ([]kubecontainer.Mount, error) {
	volumes := kubecontainer.VolumeMap{}
	for name, one := range m.pods[pod.UID].volumes {
		volumes[name] = kubecontainer.VolumeInfo{Mounter: one.mounter, InnerVolumeSpecName: one.spec.Name()}
	}
	var variables []kubecontainer.EnvVar
	if slices.ContainsFunc(c.VolumeMounts, func(mount v1.VolumeMount) bool { return mount.SubPathExpr != "" }) {
		var err error
		if variables, err = m.host.environment(ctx, pod, c, volumes); err != nil {
			return nil, fmt.Errorf("environment: %w", err)
		}
	}
	alone := pod.DeepCopy()
	alone.Spec.HostNetwork = false
	mounts, _, err := makeMounts(klog.Background(), alone, m.host.podDir(pod.UID), c, "", "", nil, volumes,
		hostutil.NewHostUtil(), m.subpaths(), variables, true, nil)
	return mounts, err
}

func (m *podMounts) subpaths() subpath.Interface { return subpath.New(m.host.mounter) }

// describe pairs mounts, as yet in the order of the container's volumeMounts, with these.
func describe(c *v1.Container, mounts []kubecontainer.Mount) []mountAnswer {
	all := make([]mountAnswer, 0, len(mounts))
	for i, mount := range mounts {
		wanted := c.VolumeMounts[i]
		subPath := wanted.SubPath != "" || wanted.SubPathExpr != ""
		all = append(all, mountAnswer{filepath.Clean(mount.ContainerPath), mount.Name, subPath, mount.ReadOnly})
	}
	return all
}
