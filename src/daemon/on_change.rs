//! `--on-change` and `--reload`: what is run when something in the mount has changed.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::process::{Group, without_descriptors};

/// Changes that come together are told together: a rotation often touches several objects.
const GATHER: Duration = Duration::from_millis(100);
/// From one run's start to the next one's.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a run may take; then it is killed with all that it has started.
const DEADLINE: Duration = Duration::from_secs(60);
/// The longest list of names, in bytes: the environment is bounded (execve(2)). A longer one is told as ".".
const LONGEST: usize = 64 << 10;

/// Commands for changes, run one after the other.
#[derive(Clone, Debug, Default)]
pub struct OnChange {
    pub commands: Vec<Vec<OsString>>,
}

impl OnChange {
    /// Runs the commands for what comes from `updates` (paths below the mount point, "" for itself), one run at a
    /// time. Never resolves; dropped, it kills what runs.
    pub async fn follow(&self, mountpoint: PathBuf, mut updates: mpsc::UnboundedReceiver<String>) {
        let mut changed = BTreeSet::new();
        let mut earliest = Instant::now();
        loop {
            if changed.is_empty() {
                match updates.recv().await {
                    Some(path) => drop(changed.insert(path)),
                    None => return std::future::pending().await,
                }
            }
            sleep(GATHER).await;
            sleep_until(earliest).await;
            gather(&mut updates, &mut changed);
            earliest = Instant::now() + PAUSE;
            let names = names(&std::mem::take(&mut changed));
            for words in &self.commands {
                run(words, &mountpoint, &names).await;
            }
            gather(&mut updates, &mut changed);
        }
    }
}

fn gather(updates: &mut mpsc::UnboundedReceiver<String>, changed: &mut BTreeSet<String>) {
    while let Ok(path) = updates.try_recv() {
        changed.insert(path);
    }
}

/// One on a line.
fn names(changed: &BTreeSet<String>) -> String {
    let shown = |path: &String| if path.is_empty() { ".".to_owned() } else { path.clone() };
    let names = changed.iter().map(shown).collect::<Vec<_>>().join("\n");
    if names.len() > LONGEST { ".".to_owned() } else { names }
}

async fn run(words: &[OsString], mountpoint: &std::path::Path, names: &str) {
    let Some((program, arguments)) = words.split_first() else { return };
    // What it prints may be values: it goes where our own output goes, and into no log of ours.
    let mut command = Command::new(program);
    command.args(arguments).env("SECRETFS_MOUNTPOINT", mountpoint).env("SECRETFS_CHANGED", names);
    command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
    command.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
    let program = program.to_string_lossy();
    let mut child = match without_descriptors(&mut command).spawn() {
        Ok(child) => child,
        Err(error) => return tracing::warn!("{program} cannot be run after a change: {error}"),
    };
    let group = Group::of(&child);
    match timeout(DEADLINE, child.wait()).await {
        Ok(status) => {
            group.ended();
            if !status.as_ref().is_ok_and(ExitStatus::success) {
                let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                tracing::warn!("{program}, run after a change, failed ({how})");
            }
        }
        Err(_) => {
            drop(group);
            tracing::warn!("{program}, run after a change, did not end within {} s and was killed", DEADLINE.as_secs());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: String) -> OnChange {
        OnChange { commands: vec![vec!["sh".into(), "-c".into(), script.into()]] }
    }

    #[test]
    fn names_are_told_each_once_and_too_many_as_everything() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(names(&set(&["b/c", "", "b"])), ".\nb\nb/c");
        let many = (0..20_000).map(|number| format!("namespace/{number}")).collect();
        assert_eq!(names(&many), ".");
    }

    #[tokio::test]
    async fn changes_during_a_run_make_one_more_run() {
        let dir = tempfile::tempdir().unwrap();
        let (log, go) = (dir.path().join("log"), dir.path().join("go"));
        let script = format!(
            "echo \"$SECRETFS_MOUNTPOINT\" $SECRETFS_CHANGED >> {}; while [ ! -e {} ]; do sleep 0.01; done",
            log.display(),
            go.display()
        );
        let (send, updates) = mpsc::unbounded_channel();
        let on_change = shell(script);
        let lines = || std::fs::read_to_string(&log).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
        let drive = async {
            send.send("a".to_owned()).unwrap();
            send.send("b".to_owned()).unwrap();
            until(|| lines().len() == 1).await;
            for name in ["c", "d", "c"] {
                send.send(name.to_owned()).unwrap();
            }
            std::fs::write(&go, "").unwrap();
            until(|| lines().len() == 2).await;
            assert_eq!(lines(), ["/m a b", "/m c d"]);
        };
        tokio::select! {
            () = on_change.follow("/m".into(), updates) => unreachable!("it never resolves"),
            () = drive => {}
        }
    }

    #[tokio::test]
    async fn what_runs_is_killed_with_the_mount() {
        let dir = tempfile::tempdir().unwrap();
        let pids = dir.path().join("pids");
        let (send, updates) = mpsc::unbounded_channel();
        let on_change = shell(format!("sleep 1000 & echo $$ $! > {}; wait", pids.display()));
        let read = || std::fs::read_to_string(&pids).unwrap_or_default();
        send.send(String::new()).unwrap();
        tokio::select! {
            () = on_change.follow("/m".into(), updates) => unreachable!("it never resolves"),
            () = until(|| read().split_whitespace().count() == 2) => {}
        }
        let runs = |pid: &str| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
        };
        until(|| !read().split_whitespace().any(runs)).await;
    }

    async fn until(mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < deadline, "waited in vain");
            sleep(Duration::from_millis(5)).await;
        }
    }
}
