//! `secretfs mount`.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;

use clap::ValueEnum;

use super::args::{Operands, SourceArgs, bytes};
use super::look::{ChangeArgs, LookArgs, OwnerArg};
use super::source::{self, Opened};
use super::source_arg::SourceArg;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::daemon::{Plan, Ready, Side, Signal, Signals, can_mount, fork, in_thread, log, serve};
use crate::exit::{Code, Failure};
use crate::mount::Method;
use crate::source::cluster::Login;
use crate::view::{Options, Shape, View};
use crate::{memory, mount};

/// Mount a Secret, a ConfigMap, a namespace or a cluster.
///
/// Returns when the mount is usable and serves on in the background.
#[derive(clap::Args, Debug)]
#[command(
    override_usage = "secretfs mount [OPTIONS] [SOURCE] DIR\n       secretfs mount --private [OPTIONS] [SOURCE] DIR -- COMMAND...",
    after_help = "\
DIR must be empty (see --nonempty). SOURCE is one of
  (nothing)              the whole cluster, or all manifests: DIR/NAMESPACE/NAME/KEY
  ns/NAME                one namespace: DIR/NAME/KEY
  secret/NAME, cm/NAME   one object: DIR/KEY, as in a pod that mounts it
  pod/NAME               what each container of a pod sees: DIR/CONTAINER/MOUNTPATH/KEY
  deploy/NAME, sts/, ds/, rs/, job/, cronjob/
                         the same for the pods that a workload makes
  node/NAME              all pods of a node: DIR/NAMESPACE/POD/CONTAINER/MOUNTPATH/KEY
  NAMESPACE/KIND/NAME    the same with its namespace

Examples:
  secretfs mount secret/mysecret ./mysec
  secretfs mount -n prod cm/settings ./settings
  secretfs mount pod/web-0 ./web
  secretfs mount -f deploy/ -f extra.yaml ./all
  helm template . | secretfs mount -f - deploy/web ./view
  secretfs mount --kinds secrets,configmaps --context prod ./prod
  secretfs mount secret/web-tls /run/web-tls --reload nginx.service
  secretfs mount --private secret/mysecret ./mysec -- ./program --config ./mysec/config.yaml"
)]
pub struct Args {
    #[command(flatten)]
    operands: Operands,

    #[command(flatten)]
    source: SourceArgs,

    #[command(flatten)]
    look: LookArgs,

    /// How much memory values of a namespace's or cluster's view may take; those read last are kept: 64Mi, 1Gi, 500M
    #[arg(long, value_name = "SIZE", default_value = "64Mi", value_parser = bytes, help_heading = "How it is mounted")]
    cache_size: usize,
    /// Let other users in, as far as owners and modes allow (implied by --uid and --gid when root mounts)
    #[arg(long, help_heading = "How it is mounted")]
    allow_other: bool,
    /// Mount over a directory that is not empty
    #[arg(long, help_heading = "How it is mounted")]
    nonempty: bool,
    #[command(flatten)]
    change: ChangeArgs,

    /// Stay in the foreground and log to standard error
    #[arg(long, help_heading = "How it is mounted")]
    foreground: bool,
    /// Log more; twice for everything
    #[arg(short, long, action = clap::ArgAction::Count, help_heading = "How it is mounted")]
    verbose: u8,
    /// The way of mounting [default: the best one that the caller's rights allow]
    #[arg(long, value_enum, value_name = "WAY", help_heading = "How it is mounted")]
    mount_with: Option<MethodArg>,
    /// Mount where only COMMAND sees it, in a user and mount namespace of its own: no root, no helper, nothing left
    #[arg(long, requires = "command", help_heading = "How it is mounted")]
    private: bool,
    /// With --private: what to run; its exit code is ours
    #[arg(last = true, value_name = "COMMAND", requires = "private")]
    command: Vec<OsString>,

    #[arg(skip)]
    caller: Caller,
}

/// Who asks for the mount.
#[derive(Clone, Debug, Default)]
pub enum Caller {
    /// Somebody who typed `secretfs mount`.
    #[default]
    Person,
    /// mount(8), which knows the mount again by its source: the one of fstab, to the letter.
    Mount { source: String },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum MethodArg {
    /// fsopen and move_mount: Linux 5.12 and later, with CAP_SYS_ADMIN
    NewApi,
    /// mount(2), with CAP_SYS_ADMIN
    Classic,
    /// The setuid helper of the fuse3 package: ordinary users
    Fusermount,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<u8, Failure> {
    can_mount()?;
    let (source, dir) = args.operands.read()?;
    if args.private {
        return private(args, &source, dir);
    }
    if args.foreground {
        return serve_here(args, &source, dir, &mut Ready::nobody()).map(|()| 0);
    }
    daemon(|ready| serve_here(args, &source, dir, ready))
}

/// Goes to the background, and returns when what runs there says that all is well, or why it is not.
pub fn daemon(serve: impl FnOnce(&mut Ready) -> Result<(), Failure>) -> Result<u8, Failure> {
    let forked = fork().map_err(|error| Failure::new(Code::Failed, format!("cannot start the daemon: {error}")))?;
    match forked {
        Side::Parent(outcome) => outcome.map(|()| 0),
        Side::Child(mut ready) => {
            let outcome = serve(&mut ready);
            let code = match outcome {
                Ok(()) => Code::Ok,
                Err(failure) => {
                    // Whoever waits prints it; once nobody does, the log has it.
                    tracing::debug!("{failure}");
                    ready.failed(&failure);
                    failure.code
                }
            };
            std::process::exit(code as i32);
        }
    }
}

fn serve_here(args: &Args, source: &SourceArg, dir: PathBuf, ready: &mut Ready) -> Result<(), Failure> {
    let log = log::start(args.level());
    harden();
    allow_many_connections();
    runtime()?.block_on(async {
        let plan = plan(args, source, dir).await?;
        serve(plan, ready, &log, || Signals::listen().told_to_end()).await
    })
}

/// Keeps values out of core files. A host that forbids even that is worth a word, not a refusal.
pub fn harden() {
    if let Err(error) = memory::harden() {
        tracing::warn!("core dumps of this process cannot be switched off: {error}");
    }
}

/// A view whose namespaces must be listed one by one has a connection for each that somebody has looked into. The usual soft
/// limit of 1024 descriptors is there for programs that use select(2), which this one does not.
pub fn allow_many_connections() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::debug!("the limit of open files stays as it is: {error}");
    }
}

/// One thread: all waiting is asynchronous, and what blocks (the kernel's requests, the publisher) has its own threads.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Code::Failed, format!("cannot start: {error}")))
}

/// Looks whether the mount could be made, as far as this can be told without asking the source.
pub fn check(args: &Args) -> Result<(), Failure> {
    can_mount()?;
    let (source, dir) = args.operands.read()?;
    source::check_scope(&source, &args.source)?;
    Ok(mount::check(&args.request(dir)).map(drop)?)
}

async fn plan(args: &Args, source: &SourceArg, dir: PathBuf) -> Result<Plan, Failure> {
    source::check_scope(source, &args.source)?;
    let mut request = args.request(dir);
    // A mount point that cannot be used is said before anything is fetched.
    let method = usable(&request)?;
    let mut ownership = args.look.ownership();
    if method == Method::Fusermount && !request.allow_other && ownership.hinders(rustix::process::geteuid().as_raw()) {
        // Nobody but the mounting user gets in, so the kernel need not check modes; if it did, it would keep our own
        // publisher, which has that user's rights and no more, from changing directories that are not this user's.
        request.default_permissions = false;
        ownership.without_sticky = true;
    }
    let Opened { source: opened, store, namespace } = source::open(&args.source, Login::MayPrompt).await?;
    let shape = source::shape(source, &args.source, &namespace);
    let name = describe(&shape);
    request.source = match &args.caller {
        Caller::Person => format!("secretfs:{name}"),
        Caller::Mount { source } => source.clone(),
    };
    // The source's own deadline comes first; this one is for a source that breaks its promise.
    let patience = args.source.timeout * 2;
    // Manifests are in memory in any case.
    let cache_bytes = if args.source.manifests.is_empty() { args.cache_size } else { usize::MAX };
    let options = Options { cache_bytes, ..args.look.options(ownership, patience) };
    let view = View::new(shape, options, store.clone(), opened.clone());
    Ok(Plan { request, view, source: opened, store, name, on_change: args.change.on_change() })
}

/// Checks the mount point; a dead mount of ours is cleared away first.
fn usable(request: &mount::Request) -> Result<Method, Failure> {
    match mount::check(request) {
        Err(mount::MountError::Dead { path, fs_type }) if fs_type == mount::FS_TYPE => {
            mount::target::clear_dead(&path)?;
            Ok(mount::check(request)?)
        }
        checked => Ok(checked?),
    }
}

/// SOURCE in the fstab form.
pub fn describe(shape: &Shape) -> String {
    match shape {
        Shape::Object(id) | Shape::Pod(id) => id.to_string(),
        Shape::Node { node, .. } => format!("node/{node}"),
        Shape::Names { namespace: Some(namespace), .. } => format!("ns/{namespace}"),
        Shape::Names { namespace: None, .. } => "*".into(),
    }
}

impl Args {
    pub fn asked_by(&mut self, caller: Caller) {
        self.caller = caller;
    }

    fn request(&self, target: PathBuf) -> mount::Request {
        mount::Request {
            target,
            source: String::new(),
            allow_other: self.allow_other
                || (self.look.uid.or(self.look.gid).is_some() && rustix::process::geteuid().is_root()),
            default_permissions: true,
            allow_nonempty: self.nonempty,
            method: self.mount_with.map(Into::into),
        }
    }

    fn level(&self) -> log::Level {
        level(self.verbose, self.foreground)
    }

    /// Who we are in a namespace of our own: ourselves, or root where root's files are asked for, because no third
    /// user can be shown there.
    fn inside(&self) -> mount::private::Map {
        match self.look.owner {
            OwnerArg::Me => mount::private::Map::caller(),
            OwnerArg::Kubelet => mount::private::Map { uid: 0, gid: 0 },
        }
    }
}

/// How much is said with so many `-v`.
pub fn level(verbose: u8, foreground: bool) -> log::Level {
    match verbose {
        0 if foreground => log::Level::Info,
        0 => log::Level::Warn,
        1 => log::Level::Info,
        _ => log::Level::Debug,
    }
}

/// Mounts in a namespace of our own and runs the command in it.
fn private(args: &Args, source: &SourceArg, dir: PathBuf) -> Result<u8, Failure> {
    mount::private::enter(args.inside())?;
    let log = log::start(args.level());
    harden();
    let mut outcome = Ok(0);
    runtime()?.block_on(async {
        let plan = plan(args, source, dir).await?;
        let outcome = &mut outcome;
        let command = move || {
            let signals = Signals::listen();
            async move { *outcome = command(&args.command, signals).await }
        };
        serve(plan, &mut Ready::nobody(), &log, command).await
    })?;
    outcome
}

/// Runs the command to its end and returns its exit code, as a shell would. SIGTERM is passed on; what comes from the
/// terminal reaches it as it reaches us.
async fn command(words: &[OsString], mut signals: Signals) -> Result<u8, Failure> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(Failure::new(Code::Usage, "--private needs a command after --"));
    };
    let mut child = std::process::Command::new(program).args(arguments).spawn().map_err(|error| {
        Failure::new(Code::Failed, format!("{}: cannot be run: {error}", program.to_string_lossy()))
    })?;
    let pid = rustix::process::Pid::from_child(&child);
    let mut ended = in_thread(move || child.wait());
    loop {
        tokio::select! {
            status = &mut ended => return match status {
                Ok(Ok(status)) => Ok(exit_code(status)),
                _ => Err(Failure::new(Code::Failed, "the command's end could not be seen")),
            },
            signal = signals.next() => {
                if signal == Signal::Terminate {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
                }
            }
        }
    }
}

/// 128 and the signal's number for a command that a signal ended.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(Code::Failed as u8)
}

impl From<MethodArg> for Method {
    fn from(method: MethodArg) -> Self {
        match method {
            MethodArg::NewApi => Method::NewApi,
            MethodArg::Classic => Method::Classic,
            MethodArg::Fusermount => Method::Fusermount,
        }
    }
}
