//! The directory as the view and the daemon use it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::sleep;

use super::place::{Place, Rules, warn_of_foreign};
use super::{SyncError, bring::Brought};
use crate::tree::{Ino, Tree};
use crate::volume::Step;

/// How long after a failure it is tried again: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A directory that is kept. Dropping it leaves what is written.
pub struct Mirror {
    place: Mutex<Place>,
    path: PathBuf,
    /// Whoever changes the tree holds it until the directory is like the tree.
    turn: tokio::sync::Mutex<()>,
    failed: Notify,
    /// Since when the directory is not like the tree, and why.
    trouble: Mutex<Option<(SystemTime, String)>>,
}

impl Mirror {
    /// Checks, locks and marks the directory.
    ///
    /// # Errors
    /// One variant of [`SyncError`] for each check.
    pub fn open(path: &Path, rules: Rules) -> Result<Arc<Mirror>, SyncError> {
        let place = Place::open(path, rules)?;
        Ok(Arc::new(Mirror {
            path: place.path().to_owned(),
            place: Mutex::new(place),
            turn: tokio::sync::Mutex::new(()),
            failed: Notify::new(),
            trouble: Mutex::default(),
        }))
    }

    /// Where it is: absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the kernel may write what is in it to a swap area.
    pub fn may_be_swapped(&self) -> bool {
        self.place().may_be_swapped()
    }

    /// Whether an earlier process kept it.
    pub fn is_taken_over(&self) -> bool {
        self.place().taken_over
    }

    /// Why it is not like the tree, and since when; nothing while all is well.
    pub fn trouble(&self) -> Option<(SystemTime, String)> {
        self.trouble.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Waits for the turn to change the tree and the directory.
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Carries out in the directory at `path` what has just been done in the tree. What fails is said, and is tried again
    /// by [`Mirror::mend`]. The caller has the turn.
    pub async fn publish(self: &Arc<Self>, path: String, steps: Vec<Step>) {
        let mirror = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let mut place = mirror.place();
            let dir = place.open_below(&path)?;
            use std::os::fd::AsFd;
            steps.iter().try_for_each(|step| place.carry_out(dir.as_fd(), &path, step))
        });
        match done.await {
            Ok(Ok(())) => {}
            Ok(Err(cause)) => self.is_broken(&SyncError::Write { path: self.path.clone(), cause }),
            Err(_) => self.failed.notify_one(),
        }
    }

    /// Makes the whole directory like the tree.
    ///
    /// # Errors
    /// The first thing that could not be written; everything else has been.
    pub async fn bring(self: &Arc<Self>, tree: &Tree) -> Result<(), SyncError> {
        let _turn = self.turn().await;
        let mirror = self.clone();
        let unwritten = |cause| SyncError::Write { path: self.path.clone(), cause };
        let wanted = tree.copy(Ino::ROOT).map_err(|error| unwritten(std::io::Error::other(error)))?;
        let brought = tokio::task::spawn_blocking(move || {
            let mut place = mirror.place();
            place.refresh()?;
            let path = mirror.path.clone();
            place.bring(&wanted).map_err(|cause| SyncError::Write { path, cause })
        });
        let Brought { foreign, error } = brought.await.map_err(|error| unwritten(error.into()))??;
        warn_of_foreign(&foreign);
        error.map_or(Ok(()), |cause| Err(unwritten(cause)))
    }

    fn is_broken(&self, error: &SyncError) {
        let mut trouble = self.trouble.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let why = error.to_string();
        if trouble.as_ref().is_none_or(|(_, said)| *said != why) {
            tracing::warn!("{why}; it is tried again");
        }
        let since = trouble.as_ref().map_or_else(SystemTime::now, |(since, _)| *since);
        *trouble = Some((since, why));
        self.failed.notify_one();
    }

    /// Repeats what has failed until it works. Never resolves.
    pub async fn mend(self: &Arc<Self>, tree: &Tree) {
        loop {
            self.failed.notified().await;
            let mut pause = RETRY.0;
            loop {
                sleep(pause).await;
                pause = (pause * 2).min(RETRY.1);
                match self.bring(tree).await {
                    Ok(()) => break,
                    Err(error) => self.is_broken(&error),
                }
            }
            if self.trouble.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take().is_some() {
                tracing::warn!("{:?} is written again", self.path);
            }
        }
    }

    /// Removes all that was written here; what is somebody else's is said.
    ///
    /// # Errors
    /// Something could not be removed.
    pub fn clean(&self) -> Result<(), SyncError> {
        let foreign = self.place().clean();
        let foreign = foreign.map_err(|cause| SyncError::Unreachable { path: self.path.clone(), cause })?;
        warn_of_foreign(&foreign);
        Ok(())
    }
}
