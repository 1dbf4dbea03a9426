//! `secretfs rbac`: the rights that a mount needs, as manifests.

use super::args::SourceArgs;
use super::complete;
use super::output;
use super::read::with_source;
use super::source::{self, Opened};
use super::source_arg::SourceArg;
use crate::exit::{Code, Failure};
use crate::object::{Body, Object};
use crate::pod;
use crate::rights::{Grant, Rights, Subject};
use crate::source::Source;
use crate::store::Refusal;

/// Print the smallest Role and RoleBinding that let somebody mount SOURCE.
///
/// Each right names its object wherever RBAC can. What is in no namespace (nodes, trust bundles) is in a ClusterRole.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
SOURCE is what secretfs mount takes; of a pod or workload it is read to learn what its volumes need.

Examples:
  secretfs rbac deploy/web --subject jane | kubectl apply -f -
  secretfs rbac secret/web-tls --subject sa:ci/deployer
  secretfs rbac ns/prod --kinds secrets,configmaps --subject group:developers
  secretfs rbac -n one,two                   for the cluster's view of these namespaces, without the right to list them
  helm template . | secretfs rbac -f - deploy/web --no-tokens")]
pub struct Args {
    /// Nothing (the whole cluster), ns/NAME, [NAMESPACE/]KIND/NAME or node/NAME
    #[arg(value_name = "SOURCE", add = complete::object())]
    operand: Option<String>,
    #[command(flatten)]
    source: SourceArgs,
    /// Who gets the rights: USER, group:NAME or sa:NAMESPACE/NAME [default: who asks]
    #[arg(long, value_name = "SUBJECT", help_heading = "What is printed")]
    subject: Option<Subject>,
    /// Name of the Roles and their bindings [default: made of SOURCE]
    #[arg(long, value_name = "NAME", value_parser = role_name, help_heading = "What is printed")]
    name: Option<String>,
    /// For mounts with --no-tokens: leave out the right to ask for service account tokens
    #[arg(long, help_heading = "What is printed")]
    no_tokens: bool,
}

/// A name that RBAC's objects can have. Source: `IsValidPathSegmentName`, apimachinery's pkg/api/validation/path/name.go.
fn role_name(text: &str) -> Result<String, String> {
    let bad = text.is_empty() || text == "." || text == ".." || text.contains(['/', '%']) || text.len() > 253;
    match bad || text.contains(char::is_control) {
        true => Err(format!("{text:?} cannot be the name of a Role: use letters, digits, '-', '.' and ':'")),
        false => Ok(text.to_owned()),
    }
}

/// Who is meant when nobody is named and nobody knows.
const NOBODY: &str = "REPLACE-WITH-A-USER";

/// Runs the verb.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let source = source::parse_whole(args.operand.as_deref())?;
    source::check_scope(&source, &args.source)?;
    let text = with_source(&args.source, async |opened| {
        let rights = rights(&opened, &source, &args.source).await?;
        let rights = if args.no_tokens { rights.without_tokens() } else { rights };
        let subject = match &args.subject {
            Some(subject) => Some(subject.clone()),
            None => caller(&*opened.source).await,
        };
        let words = words(&source, &opened);
        let name = args.name.clone().unwrap_or_else(|| format!("secretfs-{}", words.name));
        let cluster_name = args.name.clone().unwrap_or_else(|| format!("secretfs-{}", words.cluster_name));
        let mut notes = vec![format!("What `secretfs mount {}` needs.", words.source)];
        notes.extend(remarks(&source, &rights, subject.is_some()));
        let notes: String = notes.into_iter().map(|note| format!("# {note}\n")).collect();
        let subject = subject.unwrap_or_else(|| Subject::User(NOBODY.to_owned()));
        let grant = Grant { rights: &rights, name: &name, cluster_name: &cluster_name, subject: &subject };
        Ok(format!("{notes}{grant}"))
    })?;
    output::bytes(text.as_bytes())
}

/// What is worth knowing before somebody applies it.
fn remarks(source: &SourceArg, rights: &Rights, known: bool) -> Vec<String> {
    let mut remarks = Vec::new();
    if !known {
        remarks.push("Nobody is known to whom it is given: use --subject, or replace the name below.".to_owned());
    }
    if rights.has_tokens() {
        let token =
            "create of serviceaccounts/token lets one act as that account: with mount --no-tokens it is not needed";
        remarks.push(format!("{token} (rbac --no-tokens)."));
    }
    if let SourceArg::Node { name, .. } = source {
        remarks.push(format!(
            "RBAC cannot tell the pods of one node from those of others, nor what they need: this is for all of them. The \
             credentials of the node's own kubelet (system:node:{name}) reach its pods only."
        ));
    }
    remarks
}

async fn caller(source: &dyn Source) -> Option<Subject> {
    match source.user().await {
        Ok(user) => user?.parse().ok(),
        Err(refusal) => {
            tracing::warn!("{refusal}");
            None
        }
    }
}

/// The rights that a mount of SOURCE needs.
pub(super) async fn rights(opened: &Opened, source: &SourceArg, args: &SourceArgs) -> Result<Rights, Failure> {
    let kinds = source::kinds(args);
    Ok(match source {
        SourceArg::Cluster if args.namespaces.is_empty() => Rights::names(None, &kinds),
        SourceArg::Cluster => {
            let each = args.namespaces.iter().map(|namespace| Rights::names(Some(namespace), &kinds));
            each.fold(Rights::default(), Rights::and)
        }
        SourceArg::Namespace(namespace) => Rights::names(Some(namespace), &kinds),
        SourceArg::Node { name, .. } => Rights::node(name),
        SourceArg::Object { .. } | SourceArg::Pod { .. } => {
            let id = source.object_id(&opened.namespace).ok_or_else(|| Failure::new(Code::Usage, "not an object"))?;
            if !id.kind.has_pod() {
                return Ok(Rights::object(&id));
            }
            let object = opened.source.follow(id.clone()).await?;
            let automount = automount(&*opened.source, &object).await?;
            Rights::pod(&object, automount)
                .ok_or_else(|| Failure::new(Code::Failed, format!("{id} makes no pods that can be read")))?
        }
    })
}

/// What the ServiceAccount of a template says about tokens, if it has a say and says something.
pub(super) async fn automount(source: &dyn Source, object: &Object) -> Result<Option<bool>, Refusal> {
    let Some(id) = pod::account(object) else { return Ok(None) };
    match source.follow(id).await {
        Ok(account) => match account.body {
            Body::ServiceAccount { automount } => Ok(automount),
            _ => Ok(None),
        },
        Err(Refusal::NotFound { .. }) => Ok(None),
        // Then a token is among what may be needed.
        Err(refusal @ Refusal::Forbidden { .. }) => {
            tracing::warn!("{refusal}");
            Ok(None)
        }
        Err(refusal) => Err(refusal),
    }
}

/// SOURCE for people, and for names of Roles: those of a ClusterRole say the namespace too.
struct Words {
    source: String,
    name: String,
    cluster_name: String,
}

fn words(source: &SourceArg, opened: &Opened) -> Words {
    let (text, name, cluster_name) = match source {
        SourceArg::Cluster => (String::new(), "cluster".to_owned(), "cluster".to_owned()),
        SourceArg::Namespace(namespace) => {
            (format!("ns/{namespace}"), "namespace".to_owned(), format!("ns-{namespace}"))
        }
        SourceArg::Node { name, .. } => (format!("node/{name}"), format!("node-{name}"), format!("node-{name}")),
        SourceArg::Object { .. } | SourceArg::Pod { .. } => match source.object_id(&opened.namespace) {
            Some(id) => {
                let name = format!("{}-{}", id.kind.short(), id.name);
                (id.to_string(), name.clone(), format!("{}-{name}", id.namespace))
            }
            None => unreachable!("an object or pod has an id"),
        },
    };
    Words { source: format!("{text} DIR").trim_start().to_owned(), name, cluster_name }
}
