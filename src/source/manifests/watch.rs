//! The task that keeps manifests current: waits for a change, looks at the files, and again.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch::Receiver;
use tokio::task::spawn_blocking;

use super::Shared;
use super::inotify::{Events, Watches};
use super::plan::Plan;

/// How often files are looked at where the kernel does not announce changes.
const POLL: Duration = Duration::from_secs(2);

/// How changes are noticed.
pub(super) enum Notice {
    /// inotify announces them; where it does not see all, files are looked at as well.
    Announced {
        watches: Watches,
        events: Events,
        poll: bool,
    },
    Poll,
}

impl Notice {
    /// To be called within a tokio runtime.
    pub fn new() -> Self {
        let watches = Watches::new().map_err(std::io::Error::from);
        let both = watches.and_then(|watches| Ok((Events::new(&watches)?, watches)));
        match both {
            Ok((events, watches)) => Notice::Announced { watches, events, poll: false },
            Err(error) => Notice::poll(error),
        }
    }

    fn poll(error: std::io::Error) -> Self {
        tracing::warn!(
            "cannot be told of changes of manifests ({}), so they are looked at every {} s: \
             raise fs.inotify.max_user_watches and fs.inotify.max_user_instances",
            error.kind(),
            POLL.as_secs()
        );
        Notice::Poll
    }

    /// Watches what there is now. May block.
    fn renew(self, shared: &Shared) -> Self {
        let Notice::Announced { mut watches, events, poll } = self else { return Notice::Poll };
        let (files, dirs) = shared.watched();
        match watches.renew(|| Plan::of(&files, &dirs)) {
            Ok(plan) => {
                let remote = plan.0.iter().any(|(path, watch)| !watch.is_own_only() && is_remote(path));
                if remote && !poll {
                    tracing::info!("manifests on a network file system are looked at every {} s", POLL.as_secs());
                }
                Notice::Announced { watches, events, poll: remote }
            }
            Err(error) => Notice::poll(error.into()),
        }
    }

    fn polls(&self) -> bool {
        matches!(self, Notice::Poll | Notice::Announced { poll: true, .. })
    }

    /// Waits for a burst of changes; for ever where none is announced.
    async fn burst(&self) -> std::io::Result<()> {
        match self {
            Notice::Announced { watches, events, .. } => events.burst(watches).await,
            Notice::Poll => std::future::pending().await,
        }
    }
}

/// Keeps `shared` current until `stop` closes.
pub(super) async fn run(shared: Arc<Shared>, mut stop: Receiver<()>, mut notice: Notice) {
    loop {
        let looked = {
            let shared = shared.clone();
            spawn_blocking(move || {
                // Watching first: what changes while the files are read is announced.
                let notice = notice.renew(&shared);
                let next = shared.refresh(Instant::now());
                (notice, next)
            })
        };
        let next = match looked.await {
            Ok((renewed, next)) => {
                notice = renewed;
                next
            }
            // The runtime is shutting down.
            Err(_) => return,
        };
        let poll = notice.polls().then(|| Instant::now() + POLL);
        let again = next.into_iter().chain(poll).min();
        tokio::select! {
            _ = stop.changed() => return,
            result = notice.burst() => if let Err(error) = result {
                notice = Notice::poll(error);
            },
            () = sleep_until(again) => {}
        }
    }
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}

/// Whether changes may be made where this kernel does not see them (magic numbers of linux/magic.h).
fn is_remote(path: &Path) -> bool {
    const REMOTE: [u32; 9] = [
        0x6969,      // NFS
        0x517b,      // SMB
        0xfe53_4d42, // SMB2
        0xff53_4d42, // CIFS
        0x0102_1997, // 9P
        0x6573_5546, // FUSE, virtiofs
        0x00c3_6400, // CEPH
        0x5346_414f, // AFS
        0x786f_4256, // VirtualBox shared folders
    ];
    rustix::fs::statfs(path).is_ok_and(|stat| REMOTE.contains(&(stat.f_type as u32)))
}
