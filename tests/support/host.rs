//! A host on which secretfs is installed under all of its names, for one test: a mount namespace in which /usr/sbin and
//! /etc have files of the test's.

use std::path::Path;
use std::process::Command;

use super::cluster::{self, Cluster};
use super::sandbox::Sandbox;
use super::user::User;

pub struct Host {
    pub sandbox: Sandbox,
}

const SECRETFS: &str = env!("CARGO_BIN_EXE_secretfs");

impl Host {
    pub fn new() -> Host {
        let sandbox = Sandbox::new();
        let links = |dir: &str, names: &[&str]| {
            let dir = sandbox.mkdir(dir);
            for name in names {
                std::os::unix::fs::symlink(SECRETFS, dir.join(name)).expect("symlink");
            }
        };
        links("bin", &["secretfs", "kubectl-secretfs", "kubectl_complete-secretfs"]);
        links("sbin", &["mount.secretfs", "mount.fuse.secretfs"]);
        sandbox.mkdir("etc");
        Host { sandbox }
    }

    /// Puts a program of the test's own on the PATH.
    pub fn program(&self, name: &str, script: &str) {
        let path = self.sandbox.write(&format!("bin/{name}"), format!("#!/bin/bash\n{script}\n"));
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    }

    /// The stock kubectl, for the admin of `cluster`.
    pub fn with_kubectl(&self, cluster: &Cluster) {
        let kubectl = cluster::binary().parent().expect("a directory").join("kubectl");
        std::os::unix::fs::symlink(kubectl, self.sandbox.path("bin/kubectl")).expect("symlink");
        self.sandbox.mkdir(".kube");
        std::fs::copy(cluster.kubeconfig(), self.sandbox.path(".kube/config")).expect("copy");
    }

    /// A bash script on this host.
    pub fn bash(&self, script: &str) -> Command {
        self.finds_its_programs(self.sandbox.bash(&format!("set -eu; {script}")))
    }

    /// A script on this host as root, with mount(8) and whatever runs it finding our helper, and this as /etc/fstab.
    pub fn with_fstab(&self, fstab: &str, script: &str) -> Command {
        self.sandbox.write("etc/fstab", fstab);
        let prepare = format!(
            "set -eu
             mount -t overlay overlay -o lowerdir={here}/sbin:/usr/sbin /usr/sbin
             mount -t overlay overlay -o lowerdir={here}/etc:/etc /etc
             {script}",
            here = self.sandbox.dir().display()
        );
        let bash = self.sandbox.bash(&prepare);
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "bash"]).args(bash.get_args());
        self.sandbox.runs(&mut command);
        command.env("HOME", self.sandbox.dir()).env("LC_ALL", "C").env_remove("KUBECONFIG");
        self.finds_its_programs(command)
    }

    /// The same by another user, after the preparations.
    pub fn as_user(&self, user: User, script: &str) -> String {
        self.sandbox.write("as-user", script);
        let User { uid, gid } = user;
        format!(
            "setpriv --reuid {uid} --regid {gid} --clear-groups bash -eu {}",
            self.sandbox.path("as-user").display()
        )
    }

    fn finds_its_programs(&self, mut command: Command) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.sandbox.path("bin").display()));
        command.env("HOME", self.sandbox.dir());
        command
    }

    pub fn path(&self, name: &str) -> String {
        self.sandbox.path(name).to_str().expect("UTF-8").to_owned()
    }
}

/// A line of fstab.
pub fn line(source: &str, dir: &Path, fs_type: &str, options: &str) -> String {
    format!("{source} {} {fs_type} {options} 0 0\n", dir.display())
}
