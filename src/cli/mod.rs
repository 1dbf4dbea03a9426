//! The command line: one file for each verb, kubectl's flags with kubectl's meaning.

mod args;
mod check;
mod demo;
mod mount;
mod output;
mod rbac;
mod read;
mod source;
mod source_arg;
mod status;
mod umount;
mod walk;

pub use source_arg::{SourceArg, SourceError};

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::exit::Code;

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
  secretfs cat secret/mysecret/my-super-secret-key         without mounting
  secretfs umount ./mysec

Exit codes:
  0 done   1 failed   2 wrong usage   3 bad manifest, kubeconfig or other input   4 object or key not found
  5 access denied   6 API server unreachable   7 mount point cannot be used   8 FUSE not usable on this host
  9 check has found errors";

#[derive(clap::Subcommand)]
enum Verb {
    /// Mount a Secret, a ConfigMap, a namespace or a cluster
    Mount(mount::Args),
    /// End a mount and its daemon
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
}

/// Runs the command line. Returns the exit code: of the table above, or of a command that was run.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version, asked for or in place of an empty command line.
        Err(error) if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            return if error.use_stderr() { Code::Usage.into() } else { Code::Ok.into() };
        }
        Err(error) => {
            output::say(&format!("secretfs: {}", output::usage(&error)));
            return Code::Usage.into();
        }
    };
    let done = match cli.verb {
        Verb::Mount(args) => mount::run(&args),
        Verb::Umount(args) => umount::run(&args),
        Verb::Cat(args) => read::cat(&args),
        Verb::Ls(args) => read::ls(&args),
        Verb::Tree(args) => read::tree(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Rbac(args) => rbac::run(&args),
        Verb::Status(args) => status::run(&args),
        Verb::Demo(args) => demo::run(&args),
    };
    done.map_or_else(
        |failure| {
            output::say(&format!("secretfs: {failure}"));
            failure.code.into()
        },
        ExitCode::from,
    )
}
