//! `secretfs man DIR`, for packagers: the manual pages, made from the descriptions that `--help` prints.

use std::path::PathBuf;

use clap::CommandFactory;

use super::Cli;
use crate::exit::{Code, Failure};

/// Write the manual pages into a directory: secretfs.1 and secretfs-VERB.1.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The directory, which must exist
    dir: PathBuf,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<u8, Failure> {
    clap_mangen::generate_to(Cli::command(), &args.dir).map_err(|error| {
        Failure::new(Code::Failed, format!("cannot write manual pages into {}: {error}", args.dir.display()))
    })?;
    Ok(0)
}
