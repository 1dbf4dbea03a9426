//! The publisher's thread: see the module above for why it is as lonely as it is.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use tokio::sync::oneshot;

use super::steps::{Content, carry_out};
use crate::volume::Step;

/// How the publisher reaches the directory it works below.
#[derive(Clone, Debug)]
pub enum Place<'a> {
    /// A descriptor of the root of a private mount (or of any directory). It must stay open until the publisher ends.
    Fd(BorrowedFd<'a>),
    /// A path, opened anew for each update so that it does not keep anybody from unmounting; it counts only as long as
    /// it leads to the file system with this device number.
    Path { path: PathBuf, device: u64 },
}

/// Why there is no publisher.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the publisher's thread cannot have descriptors of its own: {0}")]
    Isolate(#[source] io::Error),
    #[error("the publisher cannot reach the mount: {0}")]
    Reach(#[source] io::Error),
}

/// The steps that were not done and, if there are any, why.
type Left = (Vec<Step>, Option<io::Error>);

struct Job {
    path: String,
    steps: Vec<Step>,
    left: oneshot::Sender<Left>,
}

/// A handle on the thread. Dropping it ends the thread after the jobs that it has.
pub struct Publisher {
    jobs: Option<mpsc::Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

enum Root {
    Fd(RawFd),
    Path { path: PathBuf, device: u64 },
}

impl Publisher {
    /// Starts the thread and has it look `probe` up in the root, by which the daemon learns who it is.
    pub fn start(place: &Place<'_>, probe: Option<String>, content: Box<dyn Content>) -> Result<Self, StartError> {
        let root = match place {
            Place::Fd(fd) => Root::Fd(fd.as_raw_fd()),
            Place::Path { path, device } => Root::Path { path: path.clone(), device: *device },
        };
        let (jobs, inbox) = mpsc::channel();
        let (results, outbox) = mpsc::channel();
        let (ready, started) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("publisher".into())
            .spawn(move || {
                let root = match isolate(root) {
                    Ok(root) => root,
                    Err(error) => return drop(ready.send(Err(StartError::Isolate(error)))),
                };
                if let Err(error) = root.announce(probe.as_deref()) {
                    return drop(ready.send(Err(StartError::Reach(error))));
                }
                let _ = ready.send(Ok(()));
                work(&root, &inbox, &results, &*content);
            })
            .map_err(StartError::Isolate)?;
        // Waking a task takes a descriptor (tokio's eventfd), which the publisher does not have.
        let relay = std::thread::Builder::new()
            .name("publisher-relay".into())
            .spawn(move || outbox.into_iter().for_each(|(to, left): Done| drop(to.send(left))))
            .map_err(StartError::Isolate)?;
        match started.recv() {
            Ok(Ok(())) => Ok(Publisher { jobs: Some(jobs), threads: vec![thread, relay] }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StartError::Isolate(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// Has `steps` carried out in the directory at `path` below the root. Returns those that were not done and, if
    /// there are any, why. Jobs are done one after the other.
    pub async fn publish(&self, path: String, steps: Vec<Step>) -> (Vec<Step>, Option<io::Error>) {
        let (left, answer) = oneshot::channel();
        let gone = || Some(io::ErrorKind::BrokenPipe.into());
        let job = Job { path, steps, left };
        // Without its thread the job comes back whole: what was not done is the caller's again.
        let sent = match &self.jobs {
            Some(jobs) => jobs.send(job).map_err(|mpsc::SendError(job)| job),
            None => Err(job),
        };
        match sent {
            Ok(()) => answer.await.unwrap_or_else(|_| (Vec::new(), gone())),
            Err(job) => (job.steps, gone()),
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // Every call it makes is answered by threads that never block, or fails once the connection is gone.
            let _ = thread.join();
        }
    }
}

/// A finished job on its way to who waits for it.
type Done = (oneshot::Sender<Left>, Left);

fn work(root: &IsolatedRoot, inbox: &mpsc::Receiver<Job>, results: &mpsc::Sender<Done>, content: &dyn Content) {
    while let Ok(Job { path, mut steps, left }) = inbox.recv() {
        let mut done = 0;
        let outcome = root.open(&path).and_then(|dir| {
            for step in &steps {
                carry_out(dir.as_fd(), step, content)?;
                done += 1;
            }
            Ok(())
        });
        steps.drain(..done);
        let _ = results.send((left, (steps, outcome.err())));
    }
}

/// The root as the isolated thread sees it.
struct IsolatedRoot(Root);

impl IsolatedRoot {
    /// Opens the directory at `path` below the root.
    fn open(&self, path: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = if path.is_empty() { "." } else { path };
        match &self.0 {
            Root::Fd(fd) => {
                // SAFETY: the descriptor was copied into this thread's own table, where nobody else can close it.
                let root = unsafe { BorrowedFd::borrow_raw(*fd) };
                Ok(rustix::fs::openat(root, path, flags, Mode::empty())?)
            }
            Root::Path { path: root, device } => {
                let root = open_on_device(root, *device)?;
                Ok(rustix::fs::openat(root, path, flags, Mode::empty())?)
            }
        }
    }

    /// Looks `probe` up, which does not exist.
    fn announce(&self, probe: Option<&str>) -> io::Result<()> {
        let dir = self.open("")?;
        let Some(probe) = probe else { return Ok(()) };
        match rustix::fs::statat(&dir, probe, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn open_on_device(path: &Path, device: u64) -> io::Result<OwnedFd> {
    let root = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // Something else may be there by now: never make directories on somebody's disk.
    if rustix::fs::fstat(&root)?.st_dev != device {
        return Err(io::Error::other("the mount point shows another file system by now"));
    }
    Ok(root)
}

/// Gives the calling thread a descriptor table with nothing in it but `root`, and blocks all signals.
fn isolate(root: Root) -> io::Result<IsolatedRoot> {
    // SAFETY: unshare(CLONE_FILES) copies the descriptor table for this thread only. Every descriptor that this thread
    // uses from here on is `root`'s, kept below, or one that it opens itself.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FILES)? };
    let keep = match &root {
        Root::Fd(fd) => Some(u32::try_from(*fd).map_err(|_| io::ErrorKind::InvalidInput)?),
        Root::Path { .. } => None,
    };
    match keep {
        Some(fd) => {
            if fd > 0 {
                close_range(0, fd - 1)?;
            }
            close_range(fd + 1, u32::MAX)?;
        }
        None => close_range(0, u32::MAX)?,
    }
    // SAFETY: plain calls on a local, fully initialised signal set.
    unsafe {
        let mut all = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &all, std::ptr::null_mut());
    }
    Ok(IsolatedRoot(root))
}

/// close_range(2), and where the kernel is older than 5.9 the same one by one.
fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: only closes descriptors of this thread's own table; no safe object of this thread owns one.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() != Some(libc::ENOSYS) {
        return Err(error);
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1 << 20);
    for fd in first..=last.min(u32::try_from(limit).unwrap_or(u32::MAX)) {
        // SAFETY: as above.
        unsafe { libc::close(fd as RawFd) };
    }
    Ok(())
}
