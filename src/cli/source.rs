//! From arguments to a source that feeds a store.

use std::path::Path;
use std::sync::Arc;

use super::args::SourceArgs;
use super::source_arg::SourceArg;
use crate::exit::{Code, Failure};
use crate::object::{Namespace, ObjectId};
use crate::source::Source;
use crate::source::cluster::{Cluster, ClusterOptions, Login};
use crate::source::manifests::{Input, Manifests};
use crate::store::Store;
use crate::view::Shape;

/// A source that has been reached, and the namespace that goes without saying.
pub struct Opened {
    pub source: Arc<dyn Source>,
    pub store: Arc<Store>,
    pub namespace: Namespace,
}

/// Opens the manifests or connects to the cluster. Where somebody who typed a command still waits for it, a plugin may ask
/// them to log in.
pub async fn open(args: &SourceArgs, login: Login) -> Result<Opened, Failure> {
    let store = Store::new();
    if args.manifests.is_empty() {
        let options = cluster_options(args, login);
        let cluster = Cluster::connect(options, store.clone()).await?;
        let namespace = cluster.default_namespace().clone();
        return Ok(Opened { source: Arc::new(cluster), store, namespace });
    }
    let namespace = match args.namespaces.first() {
        Some(namespace) => namespace.clone(),
        None => Namespace::new("default").map_err(|error| Failure::new(Code::Usage, error.to_string()))?,
    };
    let inputs = args.manifests.iter().map(|path| input(path)).collect::<Result<_, Failure>>()?;
    let manifests = Manifests::open(inputs, namespace.clone(), store.clone())
        .map_err(|error| Failure::new(Code::Input, error.to_string()))?;
    tokio::spawn(manifests.watch());
    Ok(Opened { source: Arc::new(manifests), store, namespace })
}

/// How the arguments choose a cluster and ask it.
pub fn cluster_options(args: &SourceArgs, login: Login) -> ClusterOptions {
    ClusterOptions {
        kubeconfig: args.kubeconfig.clone(),
        context: args.context.clone(),
        cluster: args.cluster.clone(),
        user: args.user.clone(),
        namespaces: args.namespaces.clone(),
        impersonate: args.impersonate.clone(),
        impersonate_groups: args.impersonate_groups.clone(),
        impersonate_uid: args.impersonate_uid.clone(),
        timeout: args.timeout,
        poll: args.poll,
        login,
    }
}

/// The daemon leaves the directory where it was started, so that relative paths must be resolved now.
fn input(path: &Path) -> Result<Input, Failure> {
    if path == Path::new("-") {
        return Ok(Input::Stdin);
    }
    let unusable = |error: String| Failure::new(Code::Input, error);
    let path = std::path::absolute(path).map_err(|error| unusable(format!("-f {}: {error}", path.display())))?;
    Input::parse(path.as_os_str()).map_err(|error| unusable(error.to_string()))
}

/// Reads SOURCE for a verb that is about whole objects; without one all of them are meant.
pub fn parse_whole(operand: Option<&str>) -> Result<SourceArg, Failure> {
    let Some(text) = operand else { return Ok(SourceArg::Cluster) };
    SourceArg::parse_without_key(text).map_err(|error| Failure::new(Code::Usage, error.to_string()))
}

/// An object is in one namespace and has one name: several namespaces only make sense for a whole cluster, and a selector where
/// there is something to choose from.
pub fn check_scope(source: &SourceArg, args: &SourceArgs) -> Result<(), Failure> {
    match source {
        SourceArg::Object { .. } | SourceArg::Pod { .. } if args.selector.is_some() => Err(Failure::new(
            Code::Usage,
            "SOURCE names one object, and -l chooses among many: leave one of both out, or write ns/NAMESPACE",
        )),
        SourceArg::Object { namespace: None, .. } | SourceArg::Pod { namespace: None, .. }
            if args.namespaces.len() > 1 =>
        {
            Err(Failure::new(Code::Usage, "an object is in one namespace: give -n once, or write NAMESPACE/KIND/NAME"))
        }
        _ => Ok(()),
    }
}

/// The shape of the view that SOURCE asks for.
pub fn shape(source: &SourceArg, args: &SourceArgs, default: &Namespace) -> Shape {
    let names = |namespace| Shape::Names { namespace, kinds: kinds(args), selector: args.selector.clone() };
    match source {
        SourceArg::Cluster => names(None),
        SourceArg::Namespace(namespace) => names(Some(namespace.clone())),
        SourceArg::Object { kind, name, namespace, .. } => Shape::Object(ObjectId {
            namespace: namespace.clone().unwrap_or_else(|| default.clone()),
            kind: *kind,
            name: name.clone(),
        }),
        SourceArg::Pod { kind, name, namespace, .. } => Shape::Pod(ObjectId {
            namespace: namespace.clone().unwrap_or_else(|| default.clone()),
            kind: *kind,
            name: name.clone(),
        }),
        SourceArg::Node { name, .. } => Shape::Node { node: name.clone(), selector: args.selector.clone() },
    }
}

/// The kinds asked for, each once, in the order of the directory listing.
pub fn kinds(args: &SourceArgs) -> Vec<crate::object::Kind> {
    let mut kinds = args.kinds.clone();
    kinds.sort();
    kinds.dedup();
    kinds
}
