//! The command line: one file for each verb, kubectl's flags with kubectl's meaning.

mod args;
mod check;
mod complete;
mod demo;
mod doctor;
mod fstab;
mod look;
mod man;
mod mount;
mod mount_helper;
mod name;
mod output;
mod rbac;
mod read;
mod source;
mod source_arg;
mod status;
mod sync;
mod umount;
mod walk;

pub use source_arg::{SourceArg, SourceError};

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use name::Name;

use crate::exit::{Code, Failure};

#[derive(Parser)]
#[command(
    name = "secretfs",
    version,
    about = "Mounts Kubernetes Secrets and ConfigMaps as files, exactly as a pod sees them",
    after_help = AFTER_HELP,
    max_term_width = 110,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

const AFTER_HELP: &str = "\
Examples:
  secretfs demo                                            see it work: no cluster, no root
  secretfs mount -f example-secret.yaml secret/mysecret ./mysec
  secretfs mount secret/mysecret ./mysec                   from the cluster of the current context
  secretfs mount ./k8s                                     ./k8s/NAMESPACE/SECRET/KEY
  secretfs sync secret/mysecret /run/mysecret              the same as real files, without FUSE
  secretfs cat secret/mysecret/my-super-secret-key         without mounting
  secretfs umount ./mysec
  secretfs doctor secret/mysecret                          what keeps it from working, and the cure

Exit codes:
  0 done   1 failed   2 wrong usage   3 bad manifest, kubeconfig or other input   4 object or key not found
  5 access denied   6 API server unreachable   7 mount point cannot be used   8 FUSE not usable on this host
  9 check has found errors";

#[derive(clap::Subcommand)]
enum Verb {
    /// Mount a Secret, a ConfigMap, a namespace or a cluster
    Mount(Box<mount::Args>),
    /// Write the same files into a tmpfs directory, and keep them current: needs no FUSE
    Sync(Box<sync::Args>),
    /// End a mount or a sync, and its daemon
    #[command(visible_alias = "unmount")]
    Umount(umount::Args),
    /// Print the value of a key: its bytes and nothing else
    Cat(read::CatArgs),
    /// List namespaces, objects or keys without mounting
    Ls(read::LsArgs),
    /// Show what a mount would show, without values
    Tree(read::TreeArgs),
    /// Tell what would keep a pod from starting, or give it wrong files
    Check(check::Args),
    /// Print the smallest Role that lets somebody mount SOURCE
    Rbac(rbac::Args),
    /// List the mounts of this user (as root: of this host) and how they are
    Status(status::Args),
    /// Show all of it in two seconds: no cluster, no root, nothing left behind
    Demo(demo::Args),
    /// Look for what keeps mounts from working, and name the cure
    Doctor(doctor::Args),
    /// Print the script that completes commands in a shell
    Completion(complete::Args),
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Man(man::Args),
}

/// Whether a word is one of our verbs.
fn is_verb(word: &str) -> bool {
    let command = Cli::command();
    command.find_subcommand(word).is_some() || matches!(word, "VERB" | "help")
}

/// Runs the command line, by the name that the program was called as. Returns the exit code: of the table above, of
/// mount(8), or of a command that was run.
pub fn run() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let (name, rest) = match words.split_first() {
        Some((zeroth, rest)) => (Name::of(zeroth), rest),
        None => (Name::Secretfs, &[][..]),
    };
    name.is_typed();
    match name {
        Name::Secretfs | Name::Kubectl => complete::for_shell(&words).unwrap_or_else(|| verb(rest)),
        Name::MountHelper => mount_helper::run(rest),
        Name::KubectlComplete => complete::for_kubectl(rest),
    }
}

fn verb(words: &[OsString]) -> ExitCode {
    let line = std::iter::once(OsString::from("secretfs")).chain(words.iter().cloned());
    let cli = match Cli::try_parse_from(line) {
        Ok(cli) => cli,
        // Help and version, asked for or in place of an empty command line.
        Err(error) if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            output::help(&error);
            return if error.use_stderr() { Code::Usage.into() } else { Code::Ok.into() };
        }
        Err(error) => {
            output::complain(&Failure::new(Code::Usage, output::usage(&error)));
            return Code::Usage.into();
        }
    };
    let done = match cli.verb {
        Verb::Mount(args) => mount::run(&args),
        Verb::Sync(args) => sync::run(&args),
        Verb::Umount(args) => umount::run(&args),
        Verb::Cat(args) => read::cat(&args),
        Verb::Ls(args) => read::ls(&args),
        Verb::Tree(args) => read::tree(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Rbac(args) => rbac::run(&args),
        Verb::Status(args) => status::run(&args),
        Verb::Demo(args) => demo::run(&args),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Completion(args) => complete::script(&args),
        Verb::Man(args) => man::run(&args),
    };
    done.map_or_else(
        |failure| {
            output::complain(&failure);
            failure.code.into()
        },
        ExitCode::from,
    )
}
