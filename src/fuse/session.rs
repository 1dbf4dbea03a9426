//! The threads that serve one FUSE connection.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use fuser::{INodeNo, Notifier, SessionACL};

use super::Counts;
use super::adapter::{Adapter, Policy, Shared};
use super::waits::Waits;
use crate::tree::{Ino, Tree};

/// Two, so that a request that waits for the tree's lock does not keep the next one from being read.
const THREADS: usize = 2;

/// A running session. It ends when the kernel ends the connection: at unmount, or when it is aborted.
pub struct Session {
    shared: Arc<Shared>,
    background: fuser::BackgroundSession,
}

/// Notifications to the kernel that can be sent from anywhere at any time.
///
/// Only attributes are ever invalidated: the other notifications wait for requests that are being served, and a daemon
/// that is killed while it waits leaves processes behind that nothing but an abort of the connection ends.
#[derive(Clone)]
pub struct Notices(Notifier);

impl crate::view::Notices for Notices {
    fn attributes_changed(&self, ino: Ino) {
        if let Err(error) = self.0.inval_inode(INodeNo(ino.0), -1, 0) {
            tracing::debug!(?ino, %error, "the kernel did not take a notification");
        }
    }
}

impl Session {
    /// Shakes hands with the kernel and starts to answer requests from `tree`.
    ///
    /// Errors: the kernel's side of `fuse` is gone, or its protocol is older than 7.6.
    pub fn start(fuse: OwnedFd, tree: Arc<Tree>, policy: Policy) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            tree,
            counts: Arc::default(),
            policy,
            publisher: AtomicU32::new(0),
            probe: random_name()?,
            forgetful: AtomicBool::new(false),
            waits: Waits::default(),
            sees_threads: AtomicBool::new(false),
        });
        let mut config = fuser::Config::default();
        config.n_threads = Some(THREADS);
        // Who may come in is the kernel's business (allow_other, default_permissions): checked here it would be
        // bypassed by the kernel's caches.
        config.acl = SessionACL::All;
        let session = fuser::Session::from_fd(Adapter(shared.clone()), fuse, SessionACL::All, config)?;
        Ok(Session { shared, background: session.spawn()? })
    }

    pub fn notices(&self) -> Notices {
        Notices(self.background.notifier())
    }

    pub fn counts(&self) -> Arc<Counts> {
        self.shared.counts.clone()
    }

    /// From now on the kernel may keep names and attributes for a second only: nobody can tell it of updates.
    pub fn keep_nothing_long(&self) {
        self.shared.forgetful.store(true, Ordering::Relaxed);
    }

    /// The name by which the publisher makes itself known: it looks it up once in the root directory.
    pub fn probe(&self) -> String {
        self.shared.probe.clone()
    }

    /// Whether a publisher has made itself known.
    pub fn knows_publisher(&self) -> bool {
        self.shared.publisher.load(Ordering::Acquire) != 0
    }

    /// Waits until the connection has ended.
    pub fn wait(self) -> io::Result<()> {
        match self.background.join() {
            // What an aborted connection gives: also an end.
            Err(error) if error.raw_os_error() == Some(libc::ECONNABORTED) => Ok(()),
            ended => ended,
        }
    }
}

/// 128 random bits as a name that no key and no object can have: both have no name with `..` in front.
fn random_name() -> io::Result<String> {
    let mut bytes = [0u8; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("..secretfs-{hex}"))
}
