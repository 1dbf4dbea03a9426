// Mounting without a process for each mount.

package main

import (
	"errors"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/mount-utils"
)

// directMounter makes the mounts that the kubelet makes for our volumes, tmpfs and bind, by the system call that
// mount(8) would make: a test runs hundreds of pods, and each mount(8) takes longer than the mount. Anything else the
// kubelet's own mounter does.
type directMounter struct{ mount.Interface }

func (m directMounter) MountSensitiveWithoutSystemd(source, target, fstype string, options, sensitive []string) error {
	return m.MountSensitiveWithoutSystemdWithMountFlags(source, target, fstype, options, sensitive, nil)
}

func (m directMounter) MountSensitiveWithoutSystemdWithMountFlags(source, target, fstype string, options, sensitive, mountFlags []string) error {
	switch {
	case fstype == "tmpfs" && len(sensitive) == 0 && !slices.ContainsFunc(options, isFlag):
		return mountError(target, unix.Mount(source, target, fstype, 0, strings.Join(options, ",")))
	case fstype == "" && len(options) == 1 && options[0] == "bind" && len(sensitive) == 0:
		return mountError(target, unix.Mount(source, target, "", unix.MS_BIND, ""))
	}
	return m.Interface.MountSensitiveWithoutSystemdWithMountFlags(source, target, fstype, options, sensitive, mountFlags)
}

// Unmount is content, as the kubelet's is, with what is no mount.
func (m directMounter) Unmount(target string) error {
	err := unix.Unmount(target, 0)
	if errors.Is(err, unix.EINVAL) {
		return nil
	}
	return mountError(target, err)
}

// isFlag holds for options that mount(8) turns into flags of the system call; those of tmpfs itself have a value, but
// for noswap.
func isFlag(option string) bool {
	return !strings.Contains(option, "=") && option != "noswap"
}

func mountError(target string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: "mount", Path: target, Err: err}
}
