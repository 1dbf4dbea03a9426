// A container's root directory, with the mounts that a container runtime makes in it.

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
)

// containerRoot is the root directory of a container, alone in a mount namespace of its own. Both stay as long as they
// are held open. A path through /proc/PID/fd of this process leads into it.
type containerRoot struct {
	dir       *os.File
	namespace *os.File
}

func (r *containerRoot) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), r.dir.Fd()) }

func (r *containerRoot) close() {
	if r != nil {
		r.dir.Close()
		r.namespace.Close()
	}
}

// newContainerRoot makes a root of an empty image, on `dir`, with these mounts in the order of inMountOrder.
func newContainerRoot(dir string, mounts []kubecontainer.Mount) (*containerRoot, error) {
	type result struct {
		root *containerRoot
		err  error
	}
	done := make(chan result)
	go func() {
		// The thread is in the new namespace for good: never unlocked, it ends with this function.
		runtime.LockOSThread()
		root, err := enterContainerRoot(dir, mounts)
		done <- result{root, err}
	}()
	r := <-done
	return r.root, r.err
}

// enterContainerRoot does what runc does for the file system of a container (libcontainer/rootfs_linux.go,
// prepareRootfs and pivotRoot), to the calling thread.
func enterContainerRoot(dir string, mounts []kubecontainer.Mount) (*containerRoot, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return nil, os.NewSyscallError("unshare", err)
	}
	if err := mountFlags("/", unix.MS_REC|unix.MS_SLAVE); err != nil {
		return nil, err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
		return nil, &os.PathError{Op: "mount tmpfs", Path: dir, Err: err}
	}
	for _, mount := range inMountOrder(mounts) {
		if err := bindInto(dir, mount); err != nil {
			return nil, err
		}
	}
	root, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	namespace, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/mnt", unix.Gettid()))
	if err != nil {
		root.Close()
		return nil, err
	}
	made := &containerRoot{root, namespace}
	if err := pivotTo(root); err != nil {
		made.close()
		return nil, err
	}
	return made, nil
}

// pivotTo leaves nothing in the namespace but the new root and what is mounted in it.
func pivotTo(root *os.File) error {
	if err := unix.Fchdir(int(root.Fd())); err != nil {
		return os.NewSyscallError("fchdir", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return os.NewSyscallError("pivot_root", err)
	}
	return os.NewSyscallError("umount", unix.Unmount(".", unix.MNT_DETACH))
}

// inMountOrder sorts mounts as containerd and CRI-O do before they hand them to runc: by the number of slashes in the
// clean path, otherwise as the kubelet has them (containerd, orderedMounts in internal/cri/opts/spec_opts.go).
func inMountOrder(mounts []kubecontainer.Mount) []kubecontainer.Mount {
	sorted := slices.Clone(mounts)
	parts := func(m kubecontainer.Mount) int { return strings.Count(filepath.Clean(m.ContainerPath), "/") }
	slices.SortStableFunc(sorted, func(a, b kubecontainer.Mount) int { return parts(a) - parts(b) })
	return sorted
}

// bindInto mounts one thing where the container wants it. As runc, it makes what is missing of the path and follows
// links inside the root only.
func bindInto(root string, m kubecontainer.Mount) error {
	target, err := securejoin.SecureJoin(root, m.ContainerPath)
	if err != nil {
		return fmt.Errorf("mount point %s: %w", m.ContainerPath, err)
	}
	if err := makeMountPoint(m.HostPath, target); err != nil {
		return fmt.Errorf("mount point %s: %w", m.ContainerPath, withoutPath(err))
	}
	if err := unix.Mount(m.HostPath, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount point %s: bind: %w", m.ContainerPath, err)
	}
	if err := mountFlags(target, unix.MS_REC|propagation(m)); err != nil {
		return err
	}
	attributes := unix.MountAttr{Attr_set: attributes(m)}
	if attributes.Attr_set == 0 {
		return nil
	}
	var flags uint
	if m.RecursiveReadOnly {
		flags = unix.AT_RECURSIVE
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, target, flags, &attributes); err != nil {
		return fmt.Errorf("mount point %s: mount_setattr: %w", m.ContainerPath, err)
	}
	return nil
}

// withoutPath leaves out a path on the node, which says nothing to who reads of a container.
func withoutPath(err error) error {
	var at *os.PathError
	if errors.As(err, &at) {
		return fmt.Errorf("%s: %w", at.Op, at.Err)
	}
	return err
}

func makeMountPoint(source, target string) error {
	what, err := os.Stat(source)
	if err != nil {
		return err
	}
	if what.IsDir() {
		return os.MkdirAll(target, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(target, unix.O_CREAT|unix.O_CLOEXEC, 0o755)
	if err != nil {
		return err
	}
	return file.Close()
}

func propagation(m kubecontainer.Mount) uintptr {
	switch m.Propagation {
	case runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL:
		return unix.MS_SHARED
	case runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER:
		return unix.MS_SLAVE
	default:
		return unix.MS_PRIVATE
	}
}

func attributes(m kubecontainer.Mount) (set uint64) {
	if m.ReadOnly {
		set |= unix.MOUNT_ATTR_RDONLY
	}
	for _, option := range m.BindMountOptions {
		switch option {
		case "noexec":
			set |= unix.MOUNT_ATTR_NOEXEC
		case "nodev":
			set |= unix.MOUNT_ATTR_NODEV
		case "nosuid":
			set |= unix.MOUNT_ATTR_NOSUID
		}
	}
	return set
}

func mountFlags(target string, flags uintptr) error {
	if err := unix.Mount("", target, "", flags, ""); err != nil {
		return &os.PathError{Op: "mount propagation", Path: target, Err: err}
	}
	return nil
}
