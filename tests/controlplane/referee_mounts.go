// Which pods have volumes below the referee's root, and how they come and go.

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	defaults "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/volume"
	"k8s.io/kubernetes/pkg/volume/configmap"
	"k8s.io/kubernetes/pkg/volume/downwardapi"
	"k8s.io/kubernetes/pkg/volume/emptydir"
	"k8s.io/kubernetes/pkg/volume/projected"
	"k8s.io/kubernetes/pkg/volume/secret"
	"k8s.io/kubernetes/pkg/volume/util"
	"k8s.io/mount-utils"
)

// podMounts is the part of a kubelet that sets up volumes.
type podMounts struct {
	host *host
	pods map[types.UID]*podVolumes
}

// podVolumes is one pod that was ever set up.
type podVolumes struct {
	namespace, name string
	volumes         map[string]*podVolume
	containers      map[string]*podContainer
}

// podVolume is one of its volumes; mounted as soon as one SetUp went well.
type podVolume struct {
	spec    *volume.Spec
	plugin  volume.VolumePlugin
	mounter volume.Mounter // of the latest SetUp
	mounted bool
}

func newPodMounts(client kubernetes.Interface, root, node string) (*podMounts, error) {
	host := newHost(client, root, node)
	plugins := slices.Concat(secret.ProbeVolumePlugins(), configmap.ProbeVolumePlugins(), projected.ProbeVolumePlugins(),
		downwardapi.ProbeVolumePlugins(), emptydir.ProbeVolumePlugins())
	if err := host.plugins.InitPlugins(plugins, nil, host); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(host.GetPodsDir(), 0o755); err != nil {
		return nil, err
	}
	return &podMounts{host, map[types.UID]*podVolumes{}}, nil
}

// setUp does for a pod what the kubelet's volume manager does when it syncs the pod: SetUp of each volume that some
// container mounts and that is not there yet or is of a kind that wants to be set up at each sync.
func (m *podMounts) setUp(pod *v1.Pod) map[string]volumeAnswer {
	m.host.nodeSeen = false
	known := m.pods[pod.UID]
	if known == nil {
		known = &podVolumes{pod.Namespace, pod.Name, map[string]*podVolume{}, map[string]*podContainer{}}
		m.pods[pod.UID] = known
	}
	answers := map[string]volumeAnswer{}
	mounted, _, _ := util.GetPodVolumeNames(pod, false)
	for i := range pod.Spec.Volumes {
		spec := volume.NewSpecFromVolume(&pod.Spec.Volumes[i])
		if !mounted.Has(spec.Name()) {
			continue
		}
		plugin, err := m.host.plugins.FindPluginBySpec(spec)
		if err != nil {
			// Of a kind that brings what is elsewhere, of which nothing is here: an empty directory.
			spec = emptyDir(spec.Name())
			plugin, err = m.host.plugins.FindPluginBySpec(spec)
		}
		if err != nil {
			answers[spec.Name()] = volumeAnswer{Error: err.Error()}
			continue
		}
		one := known.volumes[spec.Name()]
		if one == nil {
			one = &podVolume{}
			known.volumes[spec.Name()] = one
		}
		one.spec, one.plugin = spec, plugin
		answers[spec.Name()] = one.setUp(pod)
	}
	return answers
}

func emptyDir(name string) *volume.Spec {
	source := v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}
	return volume.NewSpecFromVolume(&v1.Volume{Name: name, VolumeSource: source})
}

func (one *podVolume) setUp(pod *v1.Pod) volumeAnswer {
	mounter, err := one.plugin.NewMounter(one.spec, pod)
	if err != nil {
		return volumeAnswer{Error: err.Error()}
	}
	one.mounter = mounter
	done := volumeAnswer{Path: mounter.GetPath()}
	if one.mounted && !one.plugin.RequiresRemount(one.spec) {
		return done
	}
	args := volume.MounterArgs{FsUser: util.FsUserFrom(pod), IsRemount: one.mounted}
	if context := pod.Spec.SecurityContext; context != nil {
		args.FsGroup, args.FSGroupChangePolicy = context.FSGroup, context.FSGroupChangePolicy
	}
	if err := mounter.SetUp(args); err != nil {
		done.Error = err.Error()
		return done
	}
	one.mounted = true
	return done
}

// takeAway removes what was set up for all pods of that name, whatever their uids. There may be none.
func (m *podMounts) takeAway(namespace, name string) error {
	var failed []error
	for uid, pod := range m.pods {
		if pod.namespace == namespace && pod.name == name {
			failed = append(failed, m.takeAwayPod(uid, pod))
		}
	}
	return errors.Join(failed...)
}

// takeAwayPod lets the plugins tear down, and makes sure of it: what a plugin could not take away (a busy mount) is
// only told on standard error.
func (m *podMounts) takeAwayPod(uid types.UID, pod *podVolumes) error {
	for name := range pod.containers {
		pod.stop(name)
	}
	for name, one := range pod.volumes {
		err := m.subpaths().CleanSubPaths(m.host.podDir(uid), name)
		unmounter, unknown := one.plugin.NewUnmounter(name, uid)
		if unknown == nil {
			unknown = unmounter.TearDown()
		}
		err = errors.Join(err, unknown)
		if err != nil {
			fmt.Fprintf(os.Stderr, "volume %s: %v\n", name, err)
		}
	}
	delete(m.pods, uid)
	return remove(m.host.podDir(uid))
}

// takeAllAway leaves nothing mounted below the root, nor what a killed referee has left there.
func (m *podMounts) takeAllAway() error {
	var failed []error
	for uid, pod := range m.pods {
		failed = append(failed, m.takeAwayPod(uid, pod))
	}
	return errors.Join(append(failed, remove(m.host.GetPodsDir()), remove(m.host.pluginsDir()))...)
}

// remove unmounts all that is mounted at or below a folder, and then deletes the folder; not if a mount is left,
// as that would delete what is mounted.
func remove(dir string) error {
	mounted, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	for _, path := range mounted {
		if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return &os.PathError{Op: "umount", Path: path, Err: err}
		}
	}
	return os.RemoveAll(dir)
}

// mountsBelow lists mount points at or below a folder, the last mounted first.
func mountsBelow(dir string) ([]string, error) {
	all, err := mount.ParseMountInfo("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	// The kernel knows no symbolic links in the names of mount points.
	real, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var below []string
	for _, one := range all {
		if one.MountPoint == real || strings.HasPrefix(one.MountPoint, real+"/") {
			below = append(below, one.MountPoint)
		}
	}
	slices.Reverse(below)
	return below, nil
}

// fillIn does for a pod from outside what the API server does for its pods: defaults and a uid. The uid is the same
// each time, so that the same pod given once more is a refresh.
func fillIn(pod *v1.Pod) {
	if pod.Namespace == "" {
		pod.Namespace = v1.NamespaceDefault
	}
	if pod.UID == "" {
		pod.UID = types.UID(uuid.NewSHA1(uuid.Nil, []byte(pod.Namespace+"/"+pod.Name)).String())
	}
	defaults.SetObjectDefaults_Pod(pod)
}
