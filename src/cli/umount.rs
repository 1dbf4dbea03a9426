//! `secretfs umount`.

use std::path::PathBuf;

use crate::exit::Failure;
use crate::mount::{target, unmount};

/// End a mount and its daemon. Plain `umount DIR` and `fusermount3 -u DIR` do the same.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Mount points
    #[arg(value_name = "DIR", required_unless_present = "stale")]
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
            println!("cleared {}", entry.mount_point.display());
        }
        return Ok(0);
    }
    for dir in &args.dirs {
        if args.lazy {
            unmount::unmount_lazy(dir)?;
        } else {
            unmount::unmount(dir)?;
        }
    }
    Ok(0)
}
