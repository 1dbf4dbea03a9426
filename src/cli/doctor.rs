//! `secretfs doctor`.

use std::sync::Arc;

use clap::ValueEnum;

use super::args::SourceArgs;
use super::mount::{harden, runtime};
use super::source::Opened;
use super::source_arg::SourceArg;
use super::{complete, output, rbac, source};
use crate::doctor::{self, Asked, Finding, Node, State};
use crate::exit::{Code, Failure};
use crate::object::{Kind, Name};
use crate::rights::Rights;
use crate::source::Set;
use crate::source::cluster::Login;
use crate::store::{Known, Store};

/// Look for what keeps mounts from working, on this host and on the way to the cluster, with the cure for each.
///
/// Nothing is changed, and no value of a Secret is asked for.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  secretfs doctor                             this host, and whether the cluster answers
  secretfs doctor -n prod secret/web-tls      and the rights for that Secret
  secretfs doctor deploy/web                  and for all that the files of its pods need
  secretfs doctor -o json | jq '.[] | select(.state != \"ok\")'

The exit code is 0 if there is no fault (warnings are none), else that of the first one.")]
pub struct Args {
    /// What is to be mounted: nothing, ns/NAME, [NAMESPACE/]KIND/NAME or node/NAME; -A for the whole cluster
    #[arg(value_name = "SOURCE", add = complete::object())]
    operand: Option<String>,
    #[command(flatten)]
    source: SourceArgs,
    /// The rights for a mount of the whole cluster
    #[arg(short = 'A', long, conflicts_with = "operand")]
    all_namespaces: bool,
    /// For mounts with --no-tokens: the right to ask for service account tokens is not needed
    #[arg(long)]
    no_tokens: bool,
    /// Output format
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For programs
    Json,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let parse = |text: &String| SourceArg::parse_without_key(text);
    let source = args.operand.as_ref().map(parse).transpose();
    let source = source.map_err(|error| Failure::new(Code::Usage, error.to_string()))?;
    if let Some(source) = &source {
        source::check_scope(source, &args.source)?;
    }
    let mut findings = doctor::host();
    harden();
    findings.extend(runtime()?.block_on(async {
        if args.source.manifests.is_empty() { cluster(args, source).await } else { manifests(args, source).await }
    }));
    match args.output {
        Some(Format::Json) => {
            let text = serde_json::to_string_pretty(&findings);
            output::lines([text.map_err(|error| Failure::new(Code::Failed, error.to_string()))?])?;
        }
        None => drop(output::lines(findings.iter().flat_map(lines))?),
    }
    Ok(findings.iter().find(|finding| finding.state == State::Fault).map_or(0, |fault| fault.code as u8))
}

async fn cluster(args: &Args, source: Option<SourceArg>) -> Vec<Finding> {
    let options = source::cluster_options(&args.source, Login::MayPrompt);
    let (mut findings, examination) = doctor::way(&options).await;
    let (Some(examination), Some(source)) = (examination, source.or(args.all_namespaces.then_some(SourceArg::Cluster)))
    else {
        return findings;
    };
    let store = Store::new();
    let cluster = examination.cluster(store.clone());
    let namespace = cluster.default_namespace().clone();
    let opened = Opened { source: Arc::new(cluster), store, namespace };
    let subject = source.object_id(&opened.namespace);
    let (rights, unknown) = match rbac::rights(&opened, &source, &args.source).await {
        Ok(rights) => (rights, None),
        // What it needs cannot be seen; whether it can be read itself says why, or else the failure does.
        Err(failure) => (subject.as_ref().map(Rights::object).unwrap_or_default(), Some(failure)),
    };
    let rights = if args.no_tokens { rights.without_tokens() } else { rights };
    let node = match &source {
        SourceArg::Node { name, .. } => Some(Node { name: name.clone(), pods: pods_on(&opened, name).await }),
        _ => None,
    };
    findings.extend(doctor::rights(&examination, &Asked { rights, subject, node }).await);
    if let Some(failure) = unknown.filter(|_| !findings.iter().any(|finding| finding.state == State::Fault)) {
        findings.push(Finding::failed("rights", State::Warning, &failure));
    }
    findings
}

/// What the pods need that are on a node now; nothing if they may not be listed, which shows elsewhere.
async fn pods_on(opened: &Opened, node: &Name) -> Rights {
    if opened.source.gather(Set::PodsOf { node: node.clone(), selector: None }).await.is_err() {
        return Rights::default();
    }
    let loaded = opened.store.objects(Kind::Pod, None).into_iter().filter_map(|known| match known {
        Known::Loaded(pod) => Rights::pod(&pod, None),
        Known::Named(_) => None,
    });
    loaded.fold(Rights::default(), Rights::and)
}

async fn manifests(args: &Args, source: Option<SourceArg>) -> Vec<Finding> {
    let opened = match source::open(&args.source, Login::Silent).await {
        Ok(opened) => opened,
        Err(failure) => return vec![Finding::failed("manifests", State::Fault, &failure)],
    };
    let mut findings = vec![Finding::ok("manifests", opened.source.describe())];
    if let Some(id) = source.and_then(|source| source.object_id(&opened.namespace)) {
        findings.push(match opened.source.follow(id.clone()).await {
            Ok(_) => Finding::ok("object", format!("{id} is there")),
            Err(refusal) => Finding::failed("object", State::Fault, &refusal.into()),
        });
    }
    findings
}

fn lines(finding: &Finding) -> Vec<String> {
    let state = match finding.state {
        State::Ok => "ok",
        State::Warning => "warning",
        State::Fault => "FAULT",
        State::Skipped => "skipped",
    };
    let mut lines = vec![format!("{state:<8} {:<16} {}", finding.check, finding.found)];
    lines.extend(finding.cure.as_ref().map(|cure| format!("{:<8} {:<16} -> {}", "", "", output::as_typed(cure))));
    lines
}
