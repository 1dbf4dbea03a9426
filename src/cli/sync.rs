//! `secretfs sync`.

use std::path::PathBuf;

use super::args::{Operands, SourceArgs};
use super::look::{ChangeArgs, LookArgs};
use super::mount::{allow_many_connections, daemon, describe, harden, level, runtime};
use super::source::{self, Opened};
use super::source_arg::SourceArg;
use crate::daemon::{Ready, Signals, Writing, log, write};
use crate::exit::{Code, Failure};
use crate::source::cluster::Login;
use crate::sync::Rules;
use crate::view::{Options, View};

/// Write the same files as mount into a tmpfs directory, and keep them current: needs no FUSE.
///
/// Returns when the files are there and keeps them current in the background; they go when it ends. Of a namespace or a
/// cluster all values are fetched, and kept in memory twice: in the directory and in the process.
#[derive(clap::Args, Debug)]
#[command(
    override_usage = "secretfs sync [OPTIONS] [SOURCE] DIR",
    after_help = "\
SOURCE is that of secretfs mount.

DIR must be on a tmpfs or ramfs, yours, not writable for others, and empty or left by an earlier sync, whose files are
taken over: what has not changed is not touched. What somebody else puts into it stays. Values in a tmpfs can be swapped
out: mount it with noswap (Linux 6.4), or do without swap; where neither is so, a warning says it.

Examples:
  secretfs sync secret/mysecret /run/mysecret
  secretfs sync --owner kubelet --foreground pod/web-0 /dev/shm/web
  secretfs sync --once -f secrets.yaml /run/all        write and exit
  secretfs umount /run/mysecret                        end it, and remove its files"
)]
pub struct Args {
    #[command(flatten)]
    operands: Operands,

    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    look: LookArgs,
    #[command(flatten)]
    change: ChangeArgs,

    /// Write once and exit: the files stay until secretfs umount or another sync
    #[arg(long, help_heading = "How it is written")]
    once: bool,
    /// Write values to a directory that is not in memory
    #[arg(long, help_heading = "How it is written")]
    on_disk: bool,
    /// Stay in the foreground and log to standard error
    #[arg(long, help_heading = "How it is written")]
    foreground: bool,
    /// Log more; twice for everything
    #[arg(short, long, action = clap::ArgAction::Count, help_heading = "How it is written")]
    verbose: u8,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let (source, dir) = args.operands.read()?;
    source::check_scope(&source, &args.source)?;
    let ownership = args.look.ownership();
    if !rustix::process::geteuid().is_root() && (ownership.uid.is_some() || ownership.gid.is_some()) {
        return Err(Failure::new(
            Code::Usage,
            "only root can write files that are another's: leave out --uid and --gid",
        ));
    }
    // The daemon leaves the directory where it was started.
    let dir = std::path::absolute(&dir)
        .map_err(|error| Failure::new(Code::MountPoint, format!("{}: {error}", dir.display())))?;
    let here = |ready: &mut Ready| serve_here(args, &source, dir, ready);
    if args.foreground || args.once {
        return here(&mut Ready::nobody()).map(|()| 0);
    }
    daemon(here)
}

fn serve_here(args: &Args, source: &SourceArg, dir: PathBuf, ready: &mut Ready) -> Result<(), Failure> {
    let log = log::start(level(args.verbose, args.foreground));
    harden();
    allow_many_connections();
    runtime()?.block_on(async {
        let plan = plan(args, source, dir).await?;
        write(plan, ready, &log, || Signals::listen().told_to_end()).await
    })
}

async fn plan(args: &Args, source: &SourceArg, dir: PathBuf) -> Result<Writing, Failure> {
    let ownership = args.look.ownership();
    let rules = Rules { on_disk: args.on_disk, owner: ownership.dir(0o755).uid };
    let Opened { source: opened, store, namespace } = source::open(&args.source, Login::MayPrompt).await?;
    let shape = source::shape(source, &args.source, &namespace);
    let name = describe(&shape);
    let options = Options { eager: true, ..args.look.options(ownership, args.source.timeout * 2) };
    let view = View::new(shape, options, store.clone(), opened.clone());
    let on_change = args.change.on_change();
    Ok(Writing { dir, rules, view, source: opened, store, name, on_change, once: args.once })
}
