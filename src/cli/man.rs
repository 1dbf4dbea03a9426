//! `secretfs man DIR`, for packagers: the manual pages, made from the descriptions that `--help` prints.

use std::path::PathBuf;

use clap::CommandFactory;

use super::{Cli, mount_helper};
use crate::exit::{Code, Failure};

/// Write the manual pages into a directory: secretfs.1, secretfs-VERB.1 and mount.secretfs.8.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The directory, which must exist
    dir: PathBuf,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let write = || {
        clap_mangen::generate_to(Cli::command(), &args.dir)?;
        let helper = clap_mangen::Man::new(mount_helper::command()).section("8");
        helper.render(&mut std::fs::File::create(args.dir.join("mount.secretfs.8"))?)
    };
    write().map(|()| 0).map_err(|error: std::io::Error| {
        Failure::new(Code::Failed, format!("cannot write manual pages into {}: {error}", args.dir.display()))
    })
}
