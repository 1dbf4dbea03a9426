//! An API server of a test's own, for tests that stop it, kill it or give it an older memory.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use super::cluster::Cluster;
use super::mount::is_running;
use super::{succeed, tempdir, wait_until};

/// It is ended with the test, also while it is stopped.
pub struct Server {
    cluster: Cluster,
    _dir: tempfile::TempDir,
}

impl Deref for Server {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl Server {
    pub fn start() -> Server {
        Server::with(&[])
    }

    /// With these flags of kube-apiserver.
    pub fn with(flags: &[&str]) -> Server {
        let dir = tempdir();
        let cluster = Cluster::start(&dir.path().join("server"), &[&["--"], flags].concat());
        Server { cluster, _dir: dir }
    }

    /// It stays as it is and says nothing: the kernel still takes its connections.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
        // The signal is handled by one of its threads, when that gets a processor; until then the others go on.
        wait_until("all its threads to stop", || states(self.cluster.pid).iter().all(|state| *state == 'T'));
    }

    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends it; what it has stored stays.
    pub fn end(&self) {
        self.signal(Signal::TERM);
        wait_until("the API server's end", || !is_running(self.cluster.pid));
    }

    /// Starts it again on the same port, after [`Server::end`].
    pub fn start_again(&mut self) {
        let port = self.cluster.url.rsplit(':').next().expect("a port").to_owned();
        self.cluster = Cluster::start(&self.cluster.dir, &["--port", &port]);
    }

    /// A copy of all it has stored; it must not be running.
    pub fn backup(&self) -> PathBuf {
        let copy = self.cluster.dir.with_file_name("backup");
        copy_dir(&self.cluster.dir.join("etcd"), &copy);
        copy
    }

    /// Gives it the memory of that time back; it must not be running.
    pub fn restore(&self, copy: &Path) {
        let store = self.cluster.dir.join("etcd");
        std::fs::remove_dir_all(&store).expect("rm");
        copy_dir(copy, &store);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.cluster.pid as i32).expect("a process id");
        kill_process(pid, signal).expect("kill");
    }
}

/// The states of a process's threads: proc_pid_stat(5).
fn states(pid: u32) -> Vec<char> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads").flatten();
    // A thread that ends meanwhile has no state.
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
    stats.filter_map(|stat| stat.rsplit(") ").next()?.chars().next()).collect()
}

fn copy_dir(from: &Path, to: &Path) {
    succeed(Command::new("cp").arg("-a").arg(from).arg(to));
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.cluster.pid as i32)
            && is_running(self.cluster.pid)
        {
            // A stopped process dies of it too.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
