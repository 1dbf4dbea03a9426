//! `secretfs cat`, `ls` and `tree`: the same objects without mounting.

use super::args::SourceArgs;
use super::complete;
use super::mount::{harden, runtime};
use super::output;
use super::source::{self, Opened};
use super::source_arg::SourceArg;
use super::walk::{Entry, Tokens, Walk};
use crate::exit::{Code, Failure};
use crate::object::{Kind, Namespace, Object, ObjectId};
use crate::source::Scope;
use crate::source::cluster::Login;
use crate::store::Access;
use crate::view::by_name;

/// Print the value of a key: its bytes and nothing else.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  secretfs cat secret/mysecret/my-super-secret-key
  secretfs cat pod/web-0/nginx/etc/tls/tls.crt           as the container nginx of the pod sees it
  secretfs cat -n prod secret/web-tls/tls.crt | openssl x509 -noout -enddate
  secretfs cat -f example-secret.yaml secret/mysecret        the only key of an object needs no name")]
pub struct CatArgs {
    /// [NAMESPACE/]KIND/NAME[/KEY], pod/NAME/CONTAINER/PATH
    #[arg(value_name = "SOURCE", add = complete::key())]
    operand: String,
    #[command(flatten)]
    source: SourceArgs,
}

/// List namespaces, objects or keys without mounting.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  secretfs ls                      namespaces
  secretfs ls ns/prod              the Secrets of a namespace
  secretfs ls secret/mysecret      its keys
  secretfs ls pod/web-0            its containers; with a container and a path after it, what is there")]
pub struct LsArgs {
    /// Nothing, ns/NAME, [NAMESPACE/]KIND/NAME[/KEY] or pod/NAME[/CONTAINER[/PATH]]
    #[arg(value_name = "SOURCE", add = complete::object_or_key())]
    operand: Option<String>,
    #[command(flatten)]
    source: SourceArgs,
}

/// Show what a mount would show, without values.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  secretfs tree secret/mysecret    keys and the sizes of their values
  secretfs tree pod/web-0          what each of its containers sees
  secretfs tree ns/prod            names only: no value is fetched
  secretfs tree -f deploy/")]
pub struct TreeArgs {
    /// Nothing, ns/NAME, [NAMESPACE/]KIND/NAME[/KEY] or pod/NAME[/CONTAINER[/PATH]]
    #[arg(value_name = "SOURCE", add = complete::object_or_key())]
    operand: Option<String>,
    #[command(flatten)]
    source: SourceArgs,
}

/// Runs `cat`.
pub fn cat(args: &CatArgs) -> Result<u8, Failure> {
    let source = parse(Some(&args.operand))?;
    if let Some(path) = walked(&source) {
        let value = with_source(&args.source, async |opened| {
            let walk = Walk::open(opened, &source, &args.source, Tokens::New).await?;
            let found = walk.find(path)?;
            match found.is_dir {
                true => Err(Failure::new(Code::Usage, format!("{} is a directory: name a file in it", args.operand))),
                false => walk.read(found.ino),
            }
        })?;
        return output::bytes(value.as_bytes());
    }
    let SourceArg::Object { key, .. } = &source else {
        return Err(Failure::new(Code::Usage, "cat needs an object: secretfs cat KIND/NAME/KEY"));
    };
    let object = with_source(&args.source, async |opened| object(&opened, &source, &args.source).await)?;
    let value = match key {
        Some(key) => object.data().get(key),
        None if object.data().len() == 1 => object.data().values().next(),
        None => {
            let keys: Vec<&str> = object.data().keys().map(|key| key.as_str()).collect();
            let message = format!("{} has {} keys: name one of: {}", object.id(), keys.len(), keys.join(", "));
            return Err(Failure::new(Code::Usage, message));
        }
    };
    let value = value.ok_or_else(|| no_key(&object, &source))?;
    output::bytes(value.as_bytes())
}

/// Runs `ls`.
pub fn ls(args: &LsArgs) -> Result<u8, Failure> {
    let source = parse(args.operand.as_deref())?;
    let lines = with_source(&args.source, async |opened| {
        if let Some(path) = walked(&source) {
            let walk = Walk::open(opened, &source, &args.source, Tokens::New).await?;
            let found = walk.find(path)?;
            let below = if found.is_dir { walk.list(found.ino) } else { vec![found] };
            return Ok(below.into_iter().map(|entry| entry.name).collect());
        }
        if let SourceArg::Object { key, .. } = &source {
            let object = object(&opened, &source, &args.source).await?;
            let keys: Vec<String> = object.data().keys().map(|key| key.to_string()).collect();
            return match key {
                Some(wanted) if !object.data().contains_key(wanted) => Err(no_key(&object, &source)),
                Some(wanted) => Ok(vec![wanted.to_string()]),
                None => Ok(keys),
            };
        }
        let names = names(&opened, &source, &args.source).await?;
        Ok(match &source {
            SourceArg::Namespace(_) => {
                let several = source::kinds(&args.source).len() > 1;
                let line = |id: &ObjectId| {
                    if several { format!("{}/{}", id.kind.plural(), id.name) } else { id.name.to_string() }
                };
                names.iter().flat_map(|(_, ids)| ids.iter().map(line)).collect()
            }
            _ => names.iter().map(|(namespace, _)| namespace.to_string()).collect(),
        })
    })?;
    output::lines(lines)
}

/// Runs `tree`.
pub fn tree(args: &TreeArgs) -> Result<u8, Failure> {
    let source = parse(args.operand.as_deref())?;
    let lines = with_source(&args.source, async |opened| {
        if let Some(path) = walked(&source) {
            let walk = Walk::open(opened, &source, &args.source, Tokens::New).await?;
            let found = walk.find(path)?;
            let below = if found.is_dir { drawn(&walk, &found) } else { Vec::new() };
            return Ok([vec![args.operand.clone().unwrap_or_default()], below].concat());
        }
        if let SourceArg::Object { key, .. } = &source {
            let object = object(&opened, &source, &args.source).await?;
            if key.as_ref().is_some_and(|key| !object.data().contains_key(key)) {
                return Err(no_key(&object, &source));
            }
            let wanted = object.data().iter().filter(|(name, _)| key.as_ref().is_none_or(|key| key == *name));
            let mut lines = vec![object.id().to_string()];
            lines.extend(branches(wanted.map(|(key, value)| (format!("{key} ({} bytes)", value.len()), Vec::new()))));
            return Ok(lines);
        }
        let names = names(&opened, &source, &args.source).await?;
        let several = source::kinds(&args.source).len() > 1;
        let namespaces = names.into_iter().map(|(namespace, ids)| {
            let below =
                if several { by_kind(&ids) } else { branches(ids.iter().map(|id| (id.name.to_string(), Vec::new()))) };
            (namespace.to_string(), below)
        });
        Ok(match &source {
            SourceArg::Namespace(_) => {
                namespaces.flat_map(|(namespace, below)| [vec![namespace], below].concat()).collect()
            }
            _ => [vec![opened.source.describe()], branches(namespaces)].concat(),
        })
    })?;
    output::lines(lines)
}

/// What is below the root of a pod or node, as SOURCE has it.
fn walked(source: &SourceArg) -> Option<&str> {
    match source {
        SourceArg::Pod { path, .. } | SourceArg::Node { path, .. } => Some(path),
        _ => None,
    }
}

fn drawn(walk: &Walk, dir: &Entry) -> Vec<String> {
    branches(walk.list(dir.ino).into_iter().map(|entry| match entry.is_dir {
        true => (entry.name.clone(), drawn(walk, &entry)),
        false => (format!("{} ({} bytes)", entry.name, entry.size), Vec::new()),
    }))
}

fn by_kind(ids: &[ObjectId]) -> Vec<String> {
    let kinds = Kind::SHOWN.into_iter().map(|kind| {
        let of_kind = ids.iter().filter(|id| id.kind == kind);
        (kind.plural().to_owned(), branches(of_kind.map(|id| (id.name.to_string(), Vec::new()))))
    });
    branches(kinds.filter(|(_, below)| !below.is_empty()))
}

/// Draws entries, each with the lines below it.
fn branches(entries: impl Iterator<Item = (String, Vec<String>)>) -> Vec<String> {
    let entries: Vec<_> = entries.collect();
    let last = entries.len().saturating_sub(1);
    let mut lines = Vec::new();
    for (at, (entry, below)) in entries.into_iter().enumerate() {
        let (elbow, bar) = if at == last { ("└── ", "    ") } else { ("├── ", "│   ") };
        lines.push(format!("{elbow}{entry}"));
        lines.extend(below.into_iter().map(|line| format!("{bar}{line}")));
    }
    lines
}

fn parse(operand: Option<&str>) -> Result<SourceArg, Failure> {
    match operand {
        None => Ok(SourceArg::Cluster),
        Some(text) => SourceArg::parse(text).map_err(|error| Failure::new(Code::Usage, error.to_string())),
    }
}

/// Does what needs a source, with no value in a core file.
pub(super) fn with_source<T>(
    args: &SourceArgs,
    work: impl AsyncFnOnce(Opened) -> Result<T, Failure>,
) -> Result<T, Failure> {
    crate::daemon::log::start(crate::daemon::log::Level::Warn);
    harden();
    runtime()?.block_on(async { work(source::open(args, Login::MayPrompt).await?).await })
}

async fn object(opened: &Opened, source: &SourceArg, args: &SourceArgs) -> Result<std::sync::Arc<Object>, Failure> {
    source::check_scope(source, args)?;
    let id = source.object_id(&opened.namespace).ok_or_else(|| Failure::new(Code::Usage, "not an object"))?;
    Ok(opened.source.follow(id).await?)
}

/// The ids in scope by namespace; namespaces without objects are listed too where all are asked for.
pub async fn names(
    opened: &Opened,
    source: &SourceArg,
    args: &SourceArgs,
) -> Result<Vec<(Namespace, Vec<ObjectId>)>, Failure> {
    let namespace = match source {
        SourceArg::Namespace(namespace) => Some(namespace.clone()),
        _ => None,
    };
    let kinds = source::kinds(args);
    let scope = Scope { namespace: namespace.clone(), kinds: kinds.clone(), selector: args.selector.clone() };
    opened.source.list(scope).await?;
    let namespaces = namespace.map_or_else(|| opened.store.namespaces(), |namespace| vec![namespace]);
    for (namespace, kind) in namespaces.iter().flat_map(|namespace| kinds.iter().map(move |kind| (namespace, *kind))) {
        if opened.store.access(namespace, kind) == Access::Unread {
            opened.source.look(namespace.clone(), kind).await?;
        }
        if opened.store.access(namespace, kind) == Access::ByName {
            let said = by_name(namespace, kind);
            if matches!(source, SourceArg::Namespace(_)) {
                return Err(Failure::new(Code::Denied, said));
            }
            tracing::warn!("{said}");
        }
    }
    let ids_in = |namespace: &Namespace| {
        let of_kind = |kind: Kind| opened.store.names(kind, namespace).into_iter().map(move |name| (kind, name));
        let all = kinds.iter().flat_map(|kind| of_kind(*kind));
        all.map(|(kind, name)| ObjectId { namespace: namespace.clone(), kind, name }).collect()
    };
    Ok(namespaces
        .into_iter()
        .map(|namespace| {
            let ids = ids_in(&namespace);
            (namespace, ids)
        })
        .collect())
}

fn no_key(object: &Object, source: &SourceArg) -> Failure {
    let key = match source {
        SourceArg::Object { key: Some(key), .. } => key.to_string(),
        _ => String::new(),
    };
    let keys: Vec<&str> = object.data().keys().map(|key| key.as_str()).collect();
    Failure::new(Code::NotFound, format!("{} has no key {key}; it has: {}", object.id(), keys.join(", ")))
}
