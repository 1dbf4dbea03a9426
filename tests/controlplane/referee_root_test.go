package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/fake"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
)

func TestOuterMountsComeFirst(t *testing.T) {
	for _, one := range []struct{ listed, made []string }{
		{nil, nil},
		{[]string{"/a", "/b"}, []string{"/a", "/b"}},
		// Deeper ones later; of one depth in the pod's order, not the alphabet's.
		{[]string{"/z/y", "/b", "/a"}, []string{"/b", "/a", "/z/y"}},
		{[]string{"/a/b/c", "/a/b", "/a"}, []string{"/a", "/a/b", "/a/b/c"}},
		// Slashes that mean nothing do not count.
		{[]string{"/x//y/", "/a/b/c", "/q/"}, []string{"/q/", "/x//y/", "/a/b/c"}},
		{[]string{"/v", "/v/"}, []string{"/v", "/v/"}},
		{[]string{"/v/", "/v"}, []string{"/v/", "/v"}},
		{[]string{"/a/../b/c", "/d"}, []string{"/d", "/a/../b/c"}},
		{[]string{"/a", "/"}, []string{"/a", "/"}},
	} {
		var mounts []kubecontainer.Mount
		for _, path := range one.listed {
			mounts = append(mounts, kubecontainer.Mount{ContainerPath: path})
		}
		var made []string
		for _, mount := range inMountOrder(mounts) {
			made = append(made, mount.ContainerPath)
		}
		if !slices.Equal(made, one.made) {
			t.Errorf("%q: made in the order %q, not %q", one.listed, made, one.made)
		}
	}
}

func TestFlagsOfMounts(t *testing.T) {
	const ro, private, slave, shared = unix.MOUNT_ATTR_RDONLY, unix.MS_PRIVATE, unix.MS_SLAVE, unix.MS_SHARED
	for _, one := range []struct {
		mount       kubecontainer.Mount
		attributes  uint64
		propagation uintptr
	}{
		{kubecontainer.Mount{}, 0, private},
		{kubecontainer.Mount{ReadOnly: true}, ro, private},
		{kubecontainer.Mount{Propagation: runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER}, 0, slave},
		{kubecontainer.Mount{Propagation: runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL}, 0, shared},
		{kubecontainer.Mount{BindMountOptions: []string{"noexec", "nosuid"}}, unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_NOSUID, private},
		{kubecontainer.Mount{ReadOnly: true, BindMountOptions: []string{"nodev"}}, ro | unix.MOUNT_ATTR_NODEV, private},
	} {
		if got := attributes(one.mount); got != one.attributes {
			t.Errorf("%+v: attributes %#x, not %#x", one.mount, got, one.attributes)
		}
		if got := propagation(one.mount); got != one.propagation {
			t.Errorf("%+v: propagation %#x, not %#x", one.mount, got, one.propagation)
		}
	}
}

// What a container sees, and what it does not: through the root, as the tests look.
func TestAContainersRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("needs root")
	}
	dir := t.TempDir()
	host := func(name string) string { return filepath.Join(dir, name) }
	for _, sub := range []string{"outer/nested", "inner/deep", "root"} {
		must(t, os.MkdirAll(host(sub), 0o755))
	}
	must(t, os.WriteFile(host("outer/key"), []byte("value"), 0o644))
	must(t, os.Symlink("/key", host("outer/link")))
	must(t, os.WriteFile(host("inner/deep/file"), []byte("inner"), 0o644))
	root, err := newContainerRoot(host("root"), []kubecontainer.Mount{
		{ContainerPath: "/v/nested", HostPath: host("inner")},
		{ContainerPath: "/v", HostPath: host("outer"), ReadOnly: true},
		{ContainerPath: "/etc/file", HostPath: host("outer/key"), ReadOnly: true},
	})
	must(t, err)
	defer root.close()
	seen := func(name string) string { return filepath.Join(root.path(), name) }
	for name, content := range map[string]string{"v/key": "value", "v/nested/deep/file": "inner", "etc/file": "value"} {
		got, err := os.ReadFile(seen(name))
		if err != nil || string(got) != content {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if err := os.WriteFile(seen("v/new"), nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("write to a read-only mount: %v", err)
	}
	must(t, os.WriteFile(seen("v/nested/new"), nil, 0o644))
	// The kubelet's namespace knows nothing of these mounts, so nothing keeps a directory there from being removed.
	mounted, err := mountsBelow(dir)
	must(t, err)
	if len(mounted) > 0 {
		t.Errorf("mounted outside: %q", mounted)
	}
	must(t, os.Remove(host("outer/nested")))
	if _, err := os.Stat(seen("v/nested")); !os.IsNotExist(err) {
		t.Errorf("a mount on a directory that is gone: %v", err)
	}
}

func TestMountPointsThatCannotBe(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("needs root")
	}
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "volume/dir"), 0o755))
	must(t, os.MkdirAll(filepath.Join(dir, "root"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "volume/file"), nil, 0o644))
	volume := kubecontainer.Mount{ContainerPath: "/v", HostPath: filepath.Join(dir, "volume"), ReadOnly: true}
	file := filepath.Join(dir, "volume/file")
	for _, one := range []struct {
		path, source string
		errno        unix.Errno
	}{
		{"/v/new", dir, unix.EROFS},
		{"/v/dir", file, unix.EISDIR},
		{"/v/file", dir, unix.ENOTDIR},
		{"/v/file/below", dir, unix.ENOTDIR},
		{"/w", filepath.Join(dir, "none"), unix.ENOENT},
	} {
		root, err := newContainerRoot(filepath.Join(dir, "root"), []kubecontainer.Mount{volume, {ContainerPath: one.path, HostPath: one.source}})
		root.close()
		if !errors.Is(err, one.errno) {
			t.Errorf("%s: %v, not %v", one.path, err, one.errno)
		}
	}
}

func TestMountsAreDescribedAsTheContainerHasThem(t *testing.T) {
	container := &v1.Container{VolumeMounts: []v1.VolumeMount{
		{Name: "v", MountPath: "data/"}, {Name: "v", MountPath: "/x", SubPathExpr: "$(A)"}, {Name: "w", MountPath: "/y", SubPath: "key"},
	}}
	got := describe(container, []kubecontainer.Mount{
		{Name: "v", ContainerPath: "/data/", ReadOnly: true}, {Name: "v", ContainerPath: "/x"}, {Name: "w", ContainerPath: "/y"},
	})
	want := []mountAnswer{{"/data", "v", false, true}, {"/x", "v", true, false}, {"/y", "w", true, false}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v, not %+v", got, want)
	}
}

func TestOnlyOptionsOfTmpfsItselfAreGivenToIt(t *testing.T) {
	for option, flag := range map[string]bool{"size=1024": false, "noswap": false, "ro": true, "nosuid": true, "remount": true} {
		if isFlag(option) != flag {
			t.Errorf("%s: %v", option, !flag)
		}
	}
}

// The kubelet's fields that we fill in are still there, and of the types that we give them.
func TestTheKubeletHasItsFields(t *testing.T) {
	h := &host{client: fake.NewClientset(), node: "n1"}
	pod := &v1.Pod{}
	enabled := false
	pod.Spec.EnableServiceLinks = &enabled
	container := &v1.Container{Env: []v1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "$(A)2"}}}
	variables, err := h.environment(t.Context(), pod, container, nil)
	must(t, err)
	got := map[string]string{}
	for _, one := range variables {
		got[one.Name] = one.Value
	}
	if len(got) != 2 || got["B"] != "12" {
		t.Errorf("%v", got)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
