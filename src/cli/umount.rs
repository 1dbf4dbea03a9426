//! `secretfs umount`.

use std::path::{Path, PathBuf};

use super::{complete, output};
use crate::exit::Failure;
use crate::mount::{MountError, target, unmount};
use crate::sync;

/// End a mount and its daemon; plain `umount DIR` and `fusermount3 -u DIR` do the same. Or end a sync, and remove its files.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  secretfs umount ./mysec
  secretfs umount --lazy ./k8s     while programs still read
  secretfs umount --stale          after a crash")]
pub struct Args {
    /// Mount points, or directories of secretfs sync
    #[arg(value_name = "DIR", required_unless_present = "stale", add = complete::mounted())]
    dirs: Vec<PathBuf>,
    /// Detach at once even if programs still use it; it goes when the last of them lets go
    #[arg(long)]
    lazy: bool,
    /// Clear all mounts whose daemon is dead
    #[arg(long, conflicts_with_all = ["dirs", "lazy"])]
    stale: bool,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<u8, Failure> {
    if args.stale {
        for entry in unmount::stale_mounts()? {
            target::clear_dead(&entry.mount_point)?;
            output::lines([format!("cleared {}", output::path(&entry.mount_point))])?;
        }
        return Ok(0);
    }
    // One that fails does not keep the others mounted.
    let mut outcome = Ok(0);
    for dir in &args.dirs {
        if let Err(failure) = end(args, dir)
            && let Err(previous) = std::mem::replace(&mut outcome, Err(failure))
        {
            output::complain(&previous);
        }
    }
    outcome
}

fn end(args: &Args, dir: &Path) -> Result<(), Failure> {
    let ended = if args.lazy { unmount::unmount_lazy(dir) } else { unmount::unmount(dir) };
    match ended {
        Err(error @ MountError::NotMounted { .. }) => match sync::end(dir) {
            Err(sync::SyncError::NotOurs { .. }) => Err(error.into()),
            ended => Ok(ended?),
        },
        ended => Ok(ended?),
    }
}
