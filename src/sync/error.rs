//! Why a directory cannot be kept.

use std::io;
use std::path::PathBuf;

use crate::exit::{Code, Failure};

/// See the module's documentation. Every variant names the directory.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    #[error("{path:?} does not exist: make it first, for example in a tmpfs such as /run")]
    Missing { path: PathBuf },
    #[error("{path:?} is not a directory, or a link to one: give the directory itself")]
    NotADirectory { path: PathBuf },
    #[error("{path:?} belongs to user {uid}, not to you: whoever owns a directory can replace what is in it")]
    NotOwner { path: PathBuf, uid: u32 },
    #[error("{path:?} can be changed by others (mode {mode:04o}): chmod go-w it first")]
    OthersMayWrite { path: PathBuf, mode: u32 },
    #[error("{path:?} is not in memory: values would be on the disk. Use a tmpfs, or say --on-disk")]
    NotInMemory { path: PathBuf },
    #[error("{path:?} is not empty ({name:?} is in it), and no sync of ours left that there")]
    NotEmpty { path: PathBuf, name: String },
    #[error("{path:?} is kept by another secretfs sync: end it first with secretfs umount")]
    Taken { path: PathBuf },
    /// Indicates a directory that no sync keeps or has kept.
    #[error("{path:?} is neither a mount nor kept by secretfs sync")]
    NotOurs { path: PathBuf },
    #[error("{path:?}: the process that keeps it did not end in time: see secretfs status")]
    DoesNotEnd { path: PathBuf },
    #[error("{path:?} cannot be written: {cause}. What was there before is still there")]
    Write { path: PathBuf, cause: io::Error },
    #[error("{path:?} cannot be used: {cause}")]
    Unreachable { path: PathBuf, cause: io::Error },
}

impl From<SyncError> for Failure {
    fn from(error: SyncError) -> Self {
        let code = match error {
            SyncError::Write { .. } | SyncError::DoesNotEnd { .. } => Code::Failed,
            _ => Code::MountPoint,
        };
        Failure::new(code, error.to_string())
    }
}
