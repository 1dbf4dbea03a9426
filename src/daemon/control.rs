//! The control socket: each daemon answers whoever connects (its own user or root) with one JSON document that says
//! how its mount is. `secretfs status` asks all of them. Nothing secret is ever in it, and nothing can be changed by it.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;

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
    (&mut stream).take(1 << 20).read_to_end(&mut answer)?;
    serde_json::from_slice(&answer).map_err(std::io::Error::other)
}
