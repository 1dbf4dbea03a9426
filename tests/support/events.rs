//! inotify as programs use it.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, ReadFlags, WatchFlags};

use super::PATIENCE;
use super::snapshot::plain;

/// A watch on one path.
pub struct Watch {
    fd: OwnedFd,
    seen: Vec<String>,
}

/// All that tells of a change; reading and opening are left out, because tests themselves read.
pub const CHANGES: WatchFlags = WatchFlags::from_bits_retain(
    WatchFlags::ATTRIB.bits()
        | WatchFlags::CREATE.bits()
        | WatchFlags::DELETE.bits()
        | WatchFlags::DELETE_SELF.bits()
        | WatchFlags::MODIFY.bits()
        | WatchFlags::MOVE.bits()
        | WatchFlags::MOVE_SELF.bits()
        | WatchFlags::CLOSE_WRITE.bits(),
);

impl Watch {
    /// Watches `path` for changes, following links.
    #[track_caller]
    pub fn new(path: &Path) -> Watch {
        Self::with(path, CHANGES)
    }

    #[track_caller]
    pub fn with(path: &Path, flags: WatchFlags) -> Watch {
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).expect("inotify");
        inotify::add_watch(&fd, path, flags).unwrap_or_else(|error| panic!("watch {}: {error}", path.display()));
        Watch { fd, seen: Vec::new() }
    }

    /// Everything that has come so far, as words: `CREATE|ISDIR ..TS`.
    pub fn seen(&mut self) -> Vec<String> {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.fd, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| plain(&name.to_string_lossy())).unwrap_or_default();
                    self.seen.push(format!("{} {name}", words(event.events())).trim_end().to_owned());
                }
                Err(rustix::io::Errno::AGAIN) => return self.seen.clone(),
                Err(error) => panic!("inotify: {error}"),
            }
        }
    }

    /// Waits until `enough` of what has come, then for a moment of silence, and returns all of it.
    #[track_caller]
    pub fn wait(&mut self, what: &str, enough: impl Fn(&[String]) -> bool) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.seen();
            let satisfied = enough(&seen);
            assert!(satisfied || Instant::now() < deadline, "waited in vain for {what}; came: {seen:?}");
            let patience = if satisfied { Duration::from_millis(50) } else { Duration::from_millis(500) };
            let timeout = Timespec { tv_sec: 0, tv_nsec: patience.subsec_nanos().into() };
            let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
            let more = poll(&mut fds, Some(&timeout)).expect("poll") > 0;
            if satisfied && !more {
                return seen;
            }
        }
    }

    /// Waits for an event with these words.
    #[track_caller]
    pub fn wait_for(&mut self, event: &str) -> Vec<String> {
        self.wait(event, |seen| seen.iter().any(|one| one == event))
    }

    /// Forgets what has come so far.
    pub fn clear(&mut self) {
        self.seen();
        self.seen.clear();
    }
}

/// Watches on several paths in one queue, as a program has them: the order between them shows too.
pub struct Watcher {
    fd: OwnedFd,
    /// What the caller calls each watch. An inode has one watch, and maybe several names.
    labels: HashMap<i32, Vec<String>>,
    seen: Vec<Event>,
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    /// The watch's label.
    pub at: String,
    /// As `CREATE|ISDIR`.
    pub what: String,
    /// The name in the watched directory, generations as `..TS`; empty for the watched inode itself.
    pub name: String,
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} {}", self.at, self.what, self.name)
    }
}

impl Watcher {
    pub fn new() -> Watcher {
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).expect("inotify");
        Watcher { fd, labels: HashMap::new(), seen: Vec::new() }
    }

    /// Watches what `path` leads to for changes. What is watched under several labels is told under each of them.
    #[track_caller]
    pub fn follow(&mut self, label: &str, path: &Path) {
        self.add(label, path, CHANGES);
    }

    /// Watches `path` itself for changes, even if it is a link.
    #[track_caller]
    pub fn watch(&mut self, label: &str, path: &Path) {
        self.add(label, path, CHANGES | WatchFlags::DONT_FOLLOW);
    }

    #[track_caller]
    fn add(&mut self, label: &str, path: &Path, flags: WatchFlags) {
        let watch = inotify::add_watch(&self.fd, path, flags);
        let watch = watch.unwrap_or_else(|error| panic!("watch {}: {error}", path.display()));
        let labels = self.labels.entry(watch).or_default();
        if !labels.iter().any(|known| known == label) {
            labels.push(label.to_owned());
        }
    }

    /// Waits until at least `count` events have come, or until it makes no sense to wait any longer, and takes all that
    /// have.
    pub fn take(&mut self, count: usize) -> Vec<Event> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.read();
            if self.seen.len() >= count || Instant::now() > deadline {
                return std::mem::take(&mut self.seen);
            }
            let timeout = Timespec { tv_sec: 1, tv_nsec: 0 };
            poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&timeout)).expect("poll");
        }
    }

    fn read(&mut self) {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.fd, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| plain(&name.to_string_lossy())).unwrap_or_default();
                    let what = words(event.events());
                    let unknown = [String::new()];
                    let labels = self.labels.get(&event.wd()).map_or(&unknown[..], Vec::as_slice);
                    let told = |at: &String| Event { at: at.clone(), what: what.clone(), name: name.clone() };
                    self.seen.extend(labels.iter().map(told));
                }
                Err(rustix::io::Errno::AGAIN) => return,
                Err(error) => panic!("inotify: {error}"),
            }
        }
    }
}

fn words(flags: ReadFlags) -> String {
    let named = [
        (ReadFlags::ACCESS, "ACCESS"),
        (ReadFlags::ATTRIB, "ATTRIB"),
        (ReadFlags::CLOSE_WRITE, "CLOSE_WRITE"),
        (ReadFlags::CREATE, "CREATE"),
        (ReadFlags::DELETE, "DELETE"),
        (ReadFlags::DELETE_SELF, "DELETE_SELF"),
        (ReadFlags::MODIFY, "MODIFY"),
        (ReadFlags::MOVE_SELF, "MOVE_SELF"),
        (ReadFlags::MOVED_FROM, "MOVED_FROM"),
        (ReadFlags::MOVED_TO, "MOVED_TO"),
        (ReadFlags::IGNORED, "IGNORED"),
        (ReadFlags::UNMOUNT, "UNMOUNT"),
        (ReadFlags::QUEUE_OVERFLOW, "Q_OVERFLOW"),
        (ReadFlags::ISDIR, "ISDIR"),
    ];
    let words: Vec<&str> = named.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, word)| *word).collect();
    words.join("|")
}
