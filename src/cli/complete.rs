//! What the shells and kubectl are told when somebody presses TAB: verbs and options from the command line's own
//! description, sources from the cluster or the manifests that the line names.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, ValueEnum};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter, complete};
use clap_complete::env::{Bash, CompleteEnv, EnvCompleter, Fish, Zsh};

use super::args::SourceArgs;
use super::mount::runtime;
use super::source::{self, Opened};
use super::source_arg::SourceArg;
use super::walk::{Tokens, Walk};
use super::{Cli, output};
use crate::exit::{Code, Failure};
use crate::mount::table::Table;
use crate::object::{Kind, Namespace, ObjectId};
use crate::source::cluster::Login;

/// Tells the program that a shell's script asks it for completions, and which shell.
const VARIABLE: &str = "SECRETFS_COMPLETE";

/// A person waits with a finger on the key: whatever is not known by then is not offered.
const PATIENCE: Duration = Duration::from_millis(1500);

/// The words before the one that is completed.
static BEFORE: OnceLock<Vec<OsString>> = OnceLock::new();

/// Print the script that completes commands of secretfs in a shell.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  source <(secretfs completion bash)       in ~/.bashrc
  source <(secretfs completion zsh)        in ~/.zshrc
  secretfs completion fish > ~/.config/fish/completions/secretfs.fish

`kubectl secretfs` is completed by kubectl's own completion, with kubectl_complete-secretfs on the PATH.")]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Fish,
    Zsh,
}

/// Runs the verb. The script calls the binary by name, so that it works wherever that is on the PATH.
pub fn script(args: &Args) -> Result<u8, Failure> {
    let shell: &dyn EnvCompleter = match args.shell {
        Shell::Bash => &Bash,
        Shell::Fish => &Fish,
        Shell::Zsh => &Zsh,
    };
    let mut script = Vec::new();
    shell
        .write_registration(VARIABLE, "secretfs", "secretfs", "secretfs", &mut script)
        .map_err(|error| Failure::new(Code::Failed, error.to_string()))?;
    output::bytes(&script)
}

/// Answers the script of a shell, if that is who asks; `words` are those of the process, its name first.
pub fn for_shell(words: &[OsString]) -> Option<ExitCode> {
    std::env::var_os(VARIABLE).filter(|shell| !shell.is_empty())?;
    let start = words.iter().position(|word| word == "--").map_or(words.len(), |at| at + 1);
    let line = &words[start..];
    // fish leaves it out and asks for the last word.
    let index = std::env::var("_CLAP_COMPLETE_INDEX").ok().and_then(|index| index.parse().ok());
    let index: usize = index.unwrap_or(line.len().saturating_sub(1));
    let _ = BEFORE.set(line[..index.min(line.len())].to_vec());
    let here = std::env::current_dir().ok();
    let done = CompleteEnv::with_factory(Cli::command).var(VARIABLE).try_complete(words, here.as_deref());
    Some(if done.is_ok() { ExitCode::SUCCESS } else { Code::Failed.into() })
}

/// Answers kubectl: `words` are those after `kubectl secretfs`, the last one to be completed. Each line of the answer is a
/// candidate, maybe a tab and a description, and the last one a colon and the sum of cobra's ShellCompDirectives.
pub fn for_kubectl(words: &[OsString]) -> ExitCode {
    const NO_SPACE: u8 = 2;
    const NO_FILES: u8 = 4;
    let line: Vec<OsString> = std::iter::once("secretfs".into()).chain(words.iter().cloned()).collect();
    let last = line.len().saturating_sub(1).max(1);
    let _ = BEFORE.set(line[..last.min(line.len())].to_vec());
    let here = std::env::current_dir().ok();
    let found = complete(&mut Cli::command(), line, last, here.as_deref()).unwrap_or_default();
    let open_ended = found.len() == 1 && found.iter().any(|one| one.get_value().as_encoded_bytes().ends_with(b"/"));
    let text = |candidate: &CompletionCandidate| {
        let value = candidate.get_value().to_string_lossy().into_owned();
        let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
        let help = help.lines().next().unwrap_or_default().to_owned();
        if help.is_empty() { value } else { format!("{value}\t{help}") }
    };
    let mut lines: Vec<String> = found.iter().map(text).collect();
    lines.push(format!(":{}", NO_FILES + if open_ended { NO_SPACE } else { 0 }));
    output::lines(lines).map_or(Code::Failed.into(), ExitCode::from)
}

/// For `mount`: the first of two operands is a source, the last one a directory.
pub fn mount_operand() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let mut found = PathCompleter::dir().complete(current);
        let path_only = current.as_encoded_bytes().starts_with(b"/") || current.as_encoded_bytes().starts_with(b".");
        if !path_only && operands() == 0 {
            found.splice(0..0, sources(current, Depth::Objects));
        }
        found
    })
}

/// For `cat`, which is for keys.
pub fn key() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| sources(current, Depth::Keys))
}

/// For `ls` and `tree`.
pub fn object_or_key() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| sources(current, Depth::ObjectsAndKeys))
}

/// For verbs about whole objects.
pub fn object() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| sources(current, Depth::Objects))
}

/// For `-n`.
pub fn namespace() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| starting(current, ask(namespaces)))
}

/// For `umount`: what is mounted.
pub fn mounted() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let mut found = match Table::read() {
            Ok(table) => starting(current, table.ours().map(|entry| output::path(&entry.mount_point)).collect()),
            Err(_) => Vec::new(),
        };
        if found.is_empty() {
            found = PathCompleter::dir().complete(current);
        }
        found
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Objects,
    /// An object's name is followed by a slash, and so the line goes on with what is in it.
    Keys,
    ObjectsAndKeys,
}

/// What stands before the last slash is looked into.
fn sources(current: &OsStr, depth: Depth) -> Vec<CompletionCandidate> {
    let Some(text) = current.to_str() else { return Vec::new() };
    let all = match text.rsplit_once('/') {
        None => kinds().map(Kind::short).chain(["ns", Kind::Node.short()]).map(open_ended).collect(),
        Some((above, _)) => below(above, names_below(above, depth)),
    };
    starting(current, all)
}

/// The kinds of objects that a SOURCE can name in a namespace, in the order of their importance.
fn kinds() -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(|kind| kind.is_namespaced() && *kind != Kind::ServiceAccount)
}

fn open_ended(word: &str) -> String {
    format!("{word}/")
}

fn names_below(above: &str, depth: Depth) -> Vec<String> {
    let kind =
        |word: &str| word.parse::<Kind>().ok().filter(|kind| *kind == Kind::Node || kinds().any(|one| one == *kind));
    let objects = |kind, namespace| {
        let names = objects_of(kind, namespace);
        if depth == Depth::Keys { names.iter().map(|name| open_ended(name)).collect() } else { names }
    };
    match above.split('/').collect::<Vec<_>>()[..] {
        ["ns" | "namespace" | "namespaces"] => ask(namespaces),
        [word] => match kind(word) {
            Some(kind) => objects(kind, None),
            None => kinds().map(|kind| open_ended(kind.short())).collect(),
        },
        [namespace, word] if kind(namespace).is_none() => match kind(word) {
            Some(kind) if kind.is_namespaced() => objects(kind, Some(namespace)),
            _ => Vec::new(),
        },
        _ if depth == Depth::Objects => Vec::new(),
        _ => match SourceArg::parse(above) {
            Ok(source @ SourceArg::Object { key: None, .. }) => keys_of(source),
            Ok(source @ (SourceArg::Pod { .. } | SourceArg::Node { .. })) => paths_in(source),
            _ => Vec::new(),
        },
    }
}

fn below(path: &str, names: Vec<String>) -> Vec<String> {
    names.into_iter().map(|name| format!("{path}/{name}")).collect()
}

fn starting(current: &OsStr, all: Vec<String>) -> Vec<CompletionCandidate> {
    let begins = |text: &String| text.as_bytes().starts_with(current.as_encoded_bytes());
    all.into_iter().filter(begins).map(CompletionCandidate::new).collect()
}

async fn namespaces(opened: Opened, args: SourceArgs) -> Option<Vec<String>> {
    let names = super::read::names(&opened, &SourceArg::Cluster, &args).await.ok()?;
    Some(names.into_iter().map(|(namespace, _)| namespace.to_string()).collect())
}

fn objects_of(kind: Kind, namespace: Option<&str>) -> Vec<String> {
    let namespace = namespace.map(str::to_owned);
    ask(async move |opened, mut args| {
        args.kinds = vec![kind];
        let namespace = match namespace {
            Some(name) => Namespace::new(&name).ok()?,
            None if !kind.is_namespaced() => Namespace::none(),
            None => opened.namespace.clone(),
        };
        let names = super::read::names(&opened, &SourceArg::Namespace(namespace), &args).await.ok()?;
        Some(names.into_iter().flat_map(|(_, ids)| ids).map(|id: ObjectId| id.name.to_string()).collect())
    })
}

/// The keys of an object; its values come with them, and go with this process.
fn keys_of(source: SourceArg) -> Vec<String> {
    ask(async move |opened, _args| {
        let object = opened.source.follow(source.object_id(&opened.namespace)?).await.ok()?;
        Some(object.data().keys().map(|key| key.to_string()).collect())
    })
}

/// What is in a directory of a pod or node. Nobody's tokens are asked for because of a key on the keyboard.
fn paths_in(source: SourceArg) -> Vec<String> {
    let (SourceArg::Pod { path, .. } | SourceArg::Node { path, .. }) = &source else { return Vec::new() };
    let path = path.clone();
    ask(async move |opened, args| {
        let walk = Walk::open(opened, &source, &args, Tokens::None).await.ok()?;
        let entries = walk.list(walk.find(&path).ok()?.ino).into_iter();
        Some(entries.map(|entry| if entry.is_dir { open_ended(&entry.name) } else { entry.name }).collect())
    })
}

/// Asks the source that the words before name; nothing when that fails or takes too long.
fn ask<F: Future<Output = Option<Vec<String>>>>(work: impl FnOnce(Opened, SourceArgs) -> F) -> Vec<String> {
    let Some(args) = source_args() else { return Vec::new() };
    // Standard input is the terminal, or the shell's.
    if args.manifests.iter().any(|path| path == Path::new("-")) {
        return Vec::new();
    }
    super::mount::harden();
    let Ok(runtime) = runtime() else { return Vec::new() };
    runtime.block_on(async {
        let asked = async {
            let opened = source::open(&args, Login::Silent).await.ok()?;
            work(opened, args.clone()).await
        };
        tokio::time::timeout(PATIENCE, asked).await.ok().flatten().unwrap_or_default()
    })
}

/// The words before, read as far as they make sense.
fn matches() -> Option<clap::ArgMatches> {
    let words = BEFORE.get()?;
    let matches = Cli::command().ignore_errors(true).try_get_matches_from(words).ok()?;
    matches.subcommand().map(|(_, matches)| matches.clone())
}

fn source_args() -> Option<SourceArgs> {
    SourceArgs::from_arg_matches(&matches()?).ok()
}

/// How many operands stand before.
fn operands() -> usize {
    let count = |matches: clap::ArgMatches| Some(matches.try_get_many::<OsString>("operands").ok()??.count());
    matches().and_then(count).unwrap_or(0)
}
