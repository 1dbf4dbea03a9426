//! Watches a [`Plan`] with inotify and says when something in it may have changed.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use super::plan::{Plan, Watch};

/// A burst of changes is over when nothing has happened for this long,
const QUIET: Duration = Duration::from_millis(30);
/// or after this long.
const LONGEST: Duration = Duration::from_millis(300);

/// Watches that can be renewed on a thread that may block.
pub(super) struct Watches {
    fd: Arc<OwnedFd>,
    by_descriptor: HashMap<i32, Watch>,
}

impl Watches {
    pub fn new() -> Result<Self, Errno> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Watches { fd: Arc::new(fd), by_descriptor: HashMap::new() })
    }

    /// Watches what `plan` makes of the file system now. When this returns, whatever changes later is noticed. An error
    /// says that the plan is not watched as a whole.
    pub fn renew(&mut self, plan: impl Fn() -> Plan) -> Result<Plan, Errno> {
        let mut wanted = plan();
        // What changes between planning and watching is seen by planning again.
        for _ in 0..8 {
            self.watch(&wanted)?;
            let now = plan();
            if now == wanted {
                break;
            }
            wanted = now;
        }
        Ok(wanted)
    }

    fn watch(&mut self, plan: &Plan) -> Result<(), Errno> {
        let mut kept: HashMap<i32, Watch> = HashMap::new();
        for (path, watch) in &plan.0 {
            match add(&self.fd, path, watch, WatchFlags::empty()) {
                Ok(descriptor) => match kept.get_mut(&descriptor) {
                    None => drop(kept.insert(descriptor, watch.clone())),
                    // The same directory under two names: watch for what either needs.
                    Some(other) => {
                        other.add(watch.clone());
                        add(&self.fd, path, other, WatchFlags::MASK_ADD)?;
                    }
                },
                // Gone again, or replaced by a link: the next plan sees it.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                // A directory that may be passed but not read: its own removal is no more than a comfort.
                Err(Errno::ACCESS) if watch.is_own_only() => {}
                Err(error) => return Err(error),
            }
        }
        for stale in self.by_descriptor.keys().filter(|descriptor| !kept.contains_key(descriptor)) {
            // It is gone already if its directory is.
            let _ = inotify::remove_watch(&self.fd, *stale);
        }
        self.by_descriptor = kept;
        Ok(())
    }

    fn concerns(&self, descriptor: i32, name: Option<&OsStr>) -> bool {
        match (self.by_descriptor.get(&descriptor), name) {
            (Some(watch), Some(name)) => watch.concerns(name),
            (Some(_), None) => true,
            // An overflow has no watch; what comes late for a removed one does not matter.
            (None, _) => descriptor == -1,
        }
    }
}

fn add(fd: &OwnedFd, path: &Path, watch: &Watch, more: WatchFlags) -> Result<i32, Errno> {
    let own = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::DONT_FOLLOW;
    let content = WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE | WatchFlags::ATTRIB;
    let entries = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE;
    let flags = match watch {
        Watch { file: true, .. } => own | content,
        watch if watch.is_own_only() => own | WatchFlags::ONLYDIR,
        _ => own | content | entries | WatchFlags::ONLYDIR,
    };
    inotify::add_watch(fd, path, flags | more)
}

/// Waits for events of the watches.
pub(super) struct Events(AsyncFd<Arc<OwnedFd>>);

/// What a burst has brought so far.
#[derive(Default)]
struct Burst {
    /// Whether anything in it matters.
    any: bool,
    /// Files that are being written: changed, and not closed yet.
    unfinished: HashSet<(i32, Option<OsString>)>,
}

impl Events {
    /// To be called within a tokio runtime.
    pub fn new(watches: &Watches) -> std::io::Result<Self> {
        // SAFETY: the descriptor is owned by an `OwnedFd` that nobody can take out of the `Arc`, of which the `AsyncFd` holds
        // a share: it stays open and the same for as long as the `AsyncFd` lives.
        let fd = unsafe { AsyncFd::register_with_interest(watches.fd.clone(), Interest::READABLE) };
        Ok(Events(fd?))
    }

    /// Waits until something that matters has changed and the burst of changes around it is over. Files that are still
    /// being written are given the longest time.
    pub async fn burst(&self, watches: &Watches) -> std::io::Result<()> {
        let mut burst = Burst::default();
        while !burst.any {
            self.read(watches, &mut burst).await?;
        }
        let end = Instant::now() + LONGEST;
        loop {
            let quiet = if burst.unfinished.is_empty() { Instant::now() + QUIET } else { end };
            match tokio::time::timeout_at(quiet.min(end), self.read(watches, &mut burst)).await {
                Ok(read) => read?,
                Err(_) => return Ok(()),
            }
        }
    }

    /// Waits for events and reads all that there are.
    async fn read(&self, watches: &Watches, burst: &mut Burst) -> std::io::Result<()> {
        let mut guard = self.0.readable().await?;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&**guard.get_inner(), &mut buffer);
        let result = loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                    if watches.concerns(event.wd(), name) {
                        burst.add(event.wd(), name, event.events());
                    }
                }
                Err(Errno::AGAIN) => break Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => break Err(error.into()),
            }
        };
        guard.clear_ready();
        result
    }
}

impl Burst {
    fn add(&mut self, descriptor: i32, name: Option<&OsStr>, events: ReadFlags) {
        self.any = true;
        let file = (descriptor, name.map(OsStr::to_owned));
        if events.contains(ReadFlags::MODIFY) {
            self.unfinished.insert(file);
        } else if events.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
            self.unfinished.remove(&file);
        }
    }
}
