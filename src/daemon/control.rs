//! The control socket: each daemon answers whoever connects (its own user or root) with one JSON document that says
//! how its mount is. `secretfs status` asks all of them. Nothing secret is ever in it, and nothing can be changed by it.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;

use crate::source::Source;
use crate::source::freshness::{Freshness, Knowledge, State};
use crate::store::Store;
use crate::view::{PodProblem, PodsReport, View};

/// How long an answer may take, from connecting to the last byte.
const PATIENCE: Duration = Duration::from_secs(2);

/// One mount, as its daemon sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Of a name that is not UTF-8, what can be shown.
    pub mountpoint: String,
    /// SOURCE in the fstab form, `*` for a whole cluster.
    pub source: String,
    /// The cluster's context or the manifests' paths.
    pub from: String,
    pub pid: u32,
    pub uid: u32,
    pub version: String,
    /// Seconds since 1970.
    pub since: u64,
    /// How the mount was made.
    pub method: String,
    /// Whether updates are announced (inotify).
    pub announced: bool,
    pub namespaces: usize,
    /// Objects known by name, and of these the ones whose values are here.
    pub objects: usize,
    pub loaded: usize,
    pub bytes: usize,
    /// Why the API server cannot be asked, and since when (seconds since 1970); nothing while all is well.
    pub trouble: Option<String>,
    pub trouble_since: Option<u64>,
    /// Requests to the API server by kind, and the watches open now.
    pub api: BTreeMap<String, u64>,
    /// FUSE requests by kind.
    pub requests: BTreeMap<String, u64>,
    /// The sum of those that somebody waited for.
    pub requests_answered: u64,
    /// How fresh the lists of names are, by what they list.
    #[serde(default)]
    pub lists: Vec<Fresh>,
    /// How fresh the objects are whose values are kept or wanted, in the fstab form: those first that are not live, then
    /// those first that were confirmed longest ago.
    #[serde(default)]
    pub kept: Vec<Fresh>,
    /// How many objects `kept` leaves out, none of them less fresh than those in it.
    #[serde(default)]
    pub kept_more: usize,
    /// What of the shown pods cannot be shown as the pods ask for it.
    #[serde(default)]
    pub problems: Vec<PodProblem>,
    /// How many problems `problems` leaves out.
    #[serde(default)]
    pub problems_more: usize,
    /// How many volumes of pods are shown as empty directories because no API server has their files, by what they are.
    #[serde(default)]
    pub shown_empty: BTreeMap<String, usize>,
}

/// How fresh it is what is known of something.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fresh {
    pub what: String,
    pub state: State,
    /// How many seconds ago its source last confirmed it: by an answer, an event, or a sign of life of its watch. Nothing:
    /// never.
    pub age: Option<f64>,
}

/// How many objects or lists one answer names: what `status` asks for stays small whatever a mount keeps.
const NAMED: usize = 1000;

/// The same for problems of pods, and how many characters each of them may have: it may quote a path of a pod.
const PROBLEMS: usize = 200;
const REASON: usize = 1000;

/// What is read of an answer, in bytes: more than all of the above.
const ANSWER: u64 = 4 << 20;

impl Fresh {
    fn new(what: String, freshness: &Freshness, now: SystemTime) -> Self {
        let age = freshness.confirmed.map(|at| now.duration_since(at).unwrap_or_default());
        Fresh { what, state: freshness.state, age: age.map(|age| age.as_millis() as f64 / 1000.0) }
    }

    /// The worst come first. Gives how many were left out, too.
    fn all<T: Ord + ToString>(mut known: Vec<(T, Freshness)>, now: SystemTime) -> (Vec<Self>, usize) {
        let more = known.len().saturating_sub(NAMED);
        let order = |(what, fresh): &(T, Freshness), (other, than): &(T, Freshness)| {
            (fresh.state, fresh.confirmed, what).cmp(&(than.state, than.confirmed, other))
        };
        if more > 0 {
            known.select_nth_unstable_by(NAMED, order);
            known.truncate(NAMED);
        }
        known.sort_unstable_by(order);
        (known.iter().map(|(what, freshness)| Fresh::new(what.to_string(), freshness, now)).collect(), more)
    }
}

impl Status {
    /// Takes over how fresh everything is.
    pub fn know(&mut self, knowledge: Knowledge) {
        let now = SystemTime::now();
        self.lists = Fresh::all(knowledge.lists, now).0;
        (self.kept, self.kept_more) = Fresh::all(knowledge.objects, now);
    }

    /// Takes over what is wrong with pods, in as many words as an answer may have.
    pub fn tell(&mut self, report: PodsReport) {
        let PodsReport { mut problems, shown_empty } = report;
        self.problems_more = problems.len().saturating_sub(PROBLEMS);
        problems.truncate(PROBLEMS);
        for problem in &mut problems {
            if let Some((end, _)) = problem.reason.char_indices().nth(REASON) {
                problem.reason.truncate(end);
                problem.reason.push('…');
            }
        }
        self.problems = problems;
        self.shown_empty = shown_empty;
    }
}

/// What every daemon knows of what it keeps.
pub struct Kept<'a> {
    pub source: &'a dyn Source,
    pub store: &'a Store,
    pub view: &'a View,
    /// SOURCE in the fstab form.
    pub name: &'a str,
    pub since: SystemTime,
}

impl Kept<'_> {
    /// The part of a status that has nothing to do with how the files come to the directory: as if they were real files.
    pub fn status(&self, dir: &Path) -> Status {
        let known = self.store.summary();
        let report = self.source.report();
        let mut status = Status {
            mountpoint: dir.to_string_lossy().into_owned(),
            source: self.name.to_owned(),
            from: self.source.describe(),
            pid: std::process::id(),
            uid: rustix::process::getuid().as_raw(),
            version: env!("CARGO_PKG_VERSION").into(),
            since: seconds(self.since),
            method: "files".into(),
            announced: true,
            namespaces: known.namespaces,
            objects: known.objects,
            loaded: known.loaded,
            bytes: known.bytes,
            trouble_since: report.trouble.as_ref().map(|(since, _)| seconds(*since)),
            trouble: report.trouble.map(|(_, why)| why),
            api: report.requests.into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
            requests: BTreeMap::new(),
            requests_answered: 0,
            lists: Vec::new(),
            kept: Vec::new(),
            kept_more: 0,
            problems: Vec::new(),
            problems_more: 0,
            shown_empty: BTreeMap::new(),
        };
        status.know(self.source.knowledge());
        status.tell(self.view.pods_report());
        status
    }
}

/// Seconds since 1970.
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The directory for sockets of this user, or of all for root.
///
/// Errors: it cannot be made, or belongs to somebody else.
fn runtime_dir() -> std::io::Result<PathBuf> {
    let uid = rustix::process::getuid().as_raw();
    let dir = match std::env::var_os("XDG_RUNTIME_DIR") {
        _ if uid == 0 => PathBuf::from("/run/secretfs"),
        Some(dir) if Path::new(&dir).is_absolute() => PathBuf::from(dir).join("secretfs"),
        _ => std::env::temp_dir().join(format!("secretfs-{uid}")),
    };
    match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = std::fs::symlink_metadata(&dir)?;
    if !found.is_dir() || found.uid() != uid || found.mode() & 0o077 != 0 {
        let message = format!("{} is not a directory of our own with mode 0700", dir.display());
        return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, message));
    }
    Ok(dir)
}

/// A socket that is there as long as its owner.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Makes this process's socket. Needs a tokio runtime.
    pub fn bind() -> std::io::Result<Self> {
        let path = runtime_dir()?.join(format!("{}.sock", std::process::id()));
        // Left by a process of the same number that was killed.
        let _ = std::fs::remove_file(&path);
        Ok(Socket { listener: UnixListener::bind(&path)?, path })
    }

    /// Answers everybody who connects until the future is dropped. The directory's mode keeps other users out.
    pub async fn answer(&self, status: impl Fn() -> Status) {
        loop {
            let Ok((mut stream, _)) = self.listener.accept().await else {
                // Out of descriptors: wait for some to come back rather than spin.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let answer = serde_json::to_vec(&status()).unwrap_or_default();
            let _ = tokio::time::timeout(PATIENCE, stream.write_all(&answer)).await;
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Asks all daemons of this user; root asks those of all users. Sockets that nobody answers are removed.
pub fn ask_all() -> std::io::Result<Vec<Status>> {
    let mut all = Vec::new();
    for dir in socket_dirs()? {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_none_or(|extension| extension != "sock") {
                continue;
            }
            match ask(&path) {
                Ok(status) => all.push(status),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    let _ = std::fs::remove_file(&path);
                }
                Err(error) => tracing::warn!("{}: no status: {error}", path.display()),
            }
        }
    }
    all.sort_by(|a, b| a.mountpoint.cmp(&b.mountpoint));
    Ok(all)
}

fn socket_dirs() -> std::io::Result<Vec<PathBuf>> {
    let mut dirs = vec![runtime_dir()?];
    if rustix::process::getuid().is_root() {
        let below = |parent: &Path, name: &str| {
            let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
            entries.map(|entry| entry.path().join(name)).filter(|dir| dir.is_dir()).collect::<Vec<_>>()
        };
        dirs.extend(below(Path::new("/run/user"), "secretfs"));
        let temporary = std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
        dirs.extend(temporary.map(|entry| entry.path()).filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.strip_prefix("secretfs-").is_some_and(|uid| uid.parse::<u32>().is_ok()) && path.is_dir()
        }));
    }
    Ok(dirs)
}

fn ask(path: &Path) -> std::io::Result<Status> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = Vec::new();
    (&mut stream).take(ANSWER).read_to_end(&mut answer)?;
    serde_json::from_slice(&answer).map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_very_many_objects_the_least_fresh_are_named_and_the_answer_stays_small() {
        let now = SystemTime::now();
        let long = "n".repeat(253);
        let object = |at: u64| {
            let state = if at == 7_777 { State::Stale } else { State::Live };
            let freshness = Freshness { state, confirmed: Some(now - Duration::from_secs(at)) };
            (format!("{long}/secret/{long}{at}"), freshness)
        };
        let (named, more) = Fresh::all((0..10_000).map(object).collect(), now);
        assert_eq!((named.len(), more), (NAMED, 10_000 - NAMED));
        let ages: Vec<_> = named.iter().map(|fresh| fresh.age.expect("an age") as u64).collect();
        assert_eq!(ages[..3], [7_777, 9_999, 9_998], "first what is not live, then the oldest");
        assert_eq!(ages.last(), Some(&9_001));
        assert!(serde_json::to_vec(&named).expect("JSON").len() < (1 << 20), "read to the end by whoever asks");
    }
}
