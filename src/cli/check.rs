//! `secretfs check`: what keeps a pod from starting or gives it wrong files.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use futures_util::future::join_all;
use serde_json::json;

use super::args::SourceArgs;
use super::complete;
use super::output;
use super::read::with_source;
use super::source::{self, Opened};
use super::source_arg::SourceArg;
use crate::check::{Case, Facts, Finding, Severity, kubelet, mistakes};
use crate::exit::{Code, Failure};
use crate::object::{Kind, Namespace, Object, ObjectId};
use crate::rights::{Resource, Right, Rights, Verb};
use crate::source::{Scope, Set};
use crate::store::Known;

/// Tell what would keep a pod from starting, or give its containers wrong files.
///
/// Missing objects and keys, paths and mounts that cannot be, rights that you lack; and as warnings what looks like a mistake.
/// No value is shown.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  secretfs check deploy/web
  helm template . | secretfs check -f - deploy/web         before it is applied
  secretfs check -f deploy/ --strict                       everything that makes pods there; warnings count too
  secretfs check node/n1                                   all pods of a node
  secretfs check node/n1 --kubelet-dir /var/lib/kubelet    on that node, as root: which pods still see old content
  secretfs check secret/web-tls                            its values alone

Exit codes: 0 nothing is wrong (warnings and notes may be told), 9 errors, or with --strict warnings, were found;
others as for all verbs.")]
pub struct Args {
    /// [NAMESPACE/]KIND/NAME of a pod or workload, node/NAME, or an object; with -f also nothing or ns/NAME
    #[arg(value_name = "SOURCE", add = complete::object())]
    operand: Option<String>,
    #[command(flatten)]
    source: SourceArgs,
    /// Output format
    #[arg(short, long, value_enum, help_heading = "What is told")]
    output: Option<Format>,
    /// Take warnings for errors
    #[arg(long, help_heading = "What is told")]
    strict: bool,
    /// Compare with what the kubelet of this host has written: its root directory, mostly /var/lib/kubelet
    #[arg(long, value_name = "DIR", conflicts_with = "manifests", help_heading = "What is told")]
    kubelet_dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// All findings, for programs
    Json,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let source = source::parse_whole(args.operand.as_deref())?;
    source::check_scope(&source, &args.source)?;
    if let Some(dir) = &args.kubelet_dir {
        kubelet::is_there(dir).map_err(|error| {
            let place = output::path(dir);
            let message = format!("--kubelet-dir {place}: cannot read its pods: {error}: run it as root on the node");
            Failure::new(Code::Input, message)
        })?;
    }
    let (found, checked) = with_source(&args.source, async |opened| {
        let task = Task { opened: &opened, args };
        task.findings(&source).await
    })?;
    tell(args, &found, checked)?;
    let worst = if args.strict { Severity::Warning } else { Severity::Error };
    Ok(if found.iter().any(|finding| finding.severity <= worst) { Code::Findings as u8 } else { 0 })
}

fn tell(args: &Args, found: &[Finding], checked: usize) -> Result<(), Failure> {
    if args.output == Some(Format::Json) {
        let id = |id: &ObjectId| id.to_string();
        let findings: Vec<_> = found
            .iter()
            .map(|finding| {
                json!({
                    "severity": finding.severity.to_string(),
                    "rule": finding.rule,
                    "subject": id(&finding.subject),
                    "volume": finding.volume,
                    "object": finding.object.as_ref().map(id),
                    "since": finding.since,
                    "message": finding.message,
                })
            })
            .collect();
        let text = serde_json::to_string_pretty(&findings);
        output::lines([text.map_err(|error| Failure::new(Code::Failed, error.to_string()))?])?;
        return Ok(());
    }
    output::lines(found.iter().map(ToString::to_string))?;
    let count = |severity| found.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    output::say(&format!("checked: {checked}, errors: {errors}, warnings: {warnings}"));
    Ok(())
}

/// One run.
struct Task<'a> {
    opened: &'a Opened,
    args: &'a Args,
}

impl Task<'_> {
    /// All findings in a fixed order, and how many things were checked.
    async fn findings(&self, source: &SourceArg) -> Result<(Vec<Finding>, usize), Failure> {
        let objects = self.objects(source).await?;
        let mut cases = Vec::new();
        for object in &objects {
            let automount = super::rbac::automount(&*self.opened.source, object).await.unwrap_or_else(|refusal| {
                tracing::warn!("{refusal}");
                None
            });
            cases.extend(Case::of(object, automount).map(|case| (case, Rights::pod(object, automount))));
        }
        let mut facts = self.facts(cases.iter().map(|(case, _)| case)).await;
        let data = objects.iter().filter(|object| object.id().kind.has_data());
        data.for_each(|object| facts.put(object.id().clone(), Ok(object.clone())));
        let mut found: Vec<Finding> = facts.objects().flat_map(|object| mistakes(object)).collect();
        for (case, _) in &cases {
            found.extend(case.findings(&facts));
            if let Some(dir) = &self.args.kubelet_dir {
                found.extend(case.compare(dir, &facts));
            }
        }
        if self.args.source.manifests.is_empty() {
            found.extend(self.missing_rights(source, &cases).await);
        }
        found.sort_by_cached_key(|finding| (finding.severity, finding.to_string()));
        Ok((found, objects.len()))
    }

    /// What SOURCE is about.
    async fn objects(&self, source: &SourceArg) -> Result<Vec<Arc<Object>>, Failure> {
        match source {
            SourceArg::Pod { .. } | SourceArg::Object { .. } => {
                let id = source.object_id(&self.opened.namespace);
                let id = id.ok_or_else(|| Failure::new(Code::Usage, "not an object"))?;
                Ok(vec![self.opened.source.follow(id).await?])
            }
            SourceArg::Node { name, .. } => {
                self.opened
                    .source
                    .gather(Set::PodsOf { node: name.clone(), selector: self.args.source.selector.clone() })
                    .await?;
                let pods = self.loaded(&[Kind::Pod], None).into_iter();
                Ok(pods.filter(|object| object.pod().is_some_and(|pod| !pod.has_ended())).collect())
            }
            SourceArg::Namespace(_) | SourceArg::Cluster if self.args.source.manifests.is_empty() => Err(Failure::new(
                Code::Usage,
                "check needs a pod, a workload, an object or a node: secretfs check deploy/NAME; -f takes all of a manifest",
            )),
            SourceArg::Namespace(namespace) => self.all(Some(namespace)).await,
            SourceArg::Cluster => self.all(None).await,
        }
    }

    /// Everything in manifests that can be checked.
    async fn all(&self, namespace: Option<&Namespace>) -> Result<Vec<Arc<Object>>, Failure> {
        let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| kind.is_shown()).collect();
        let (namespace_only, selector) = (namespace.cloned(), self.args.source.selector.clone());
        self.opened.source.list(Scope { namespace: namespace_only, kinds: kinds.clone(), selector }).await?;
        Ok(self.loaded(&kinds, namespace))
    }

    fn loaded(&self, kinds: &[Kind], namespace: Option<&Namespace>) -> Vec<Arc<Object>> {
        let known = kinds.iter().flat_map(|kind| self.opened.store.objects(*kind, namespace));
        let loaded = known.filter_map(|known| match known {
            Known::Loaded(object) => Some(object),
            Known::Named(_) => None,
        });
        loaded.collect()
    }

    /// Asks for all that the pods need, each thing once.
    async fn facts(&self, cases: impl Iterator<Item = &Case>) -> Facts {
        let (mut objects, mut bundles) = (BTreeSet::new(), false);
        for needs in cases.map(Case::needs) {
            objects.extend(needs.objects);
            bundles |= needs.bundles;
        }
        let mut facts = Facts::default();
        let source = &self.opened.source;
        let answers = join_all(objects.into_iter().map(|id| async move { (id.clone(), source.need(id).await) })).await;
        answers.into_iter().for_each(|(id, answer)| facts.put(id, answer));
        if bundles {
            let answer = source.gather(Set::TrustBundles).await;
            facts.put_bundles(answer.map(|()| self.loaded(&[Kind::ClusterTrustBundle], None)));
        }
        facts
    }

    /// Rights that a mount would use and that the caller lacks, each told of the first pod that needs it.
    async fn missing_rights(&self, source: &SourceArg, cases: &[(Case, Option<Rights>)]) -> Vec<Finding> {
        let is_known = |right: &Right| match right.resource {
            // A node's pods come by a list.
            Resource::Objects(Kind::Pod) if matches!(source, SourceArg::Node { .. }) => true,
            // What may not be read has shown already.
            _ => right.verb == Verb::Get,
        };
        let mut asked = BTreeSet::new();
        let mut wanted = Vec::new();
        for (case, rights) in cases {
            for right in rights.iter().flat_map(Rights::iter).filter(|right| !is_known(right)) {
                if asked.insert(right.clone()) {
                    wanted.push((&case.subject.id, right));
                }
            }
        }
        let mut found = Vec::new();
        // Each question has a deadline that begins when it is put.
        for some in wanted.chunks(AT_ONCE) {
            let answers = join_all(some.iter().map(|(_, right)| self.opened.source.may((*right).clone()))).await;
            let told = some.iter().zip(answers).filter_map(|((subject, right), answer)| match answer {
                Ok(false) => Some(lack(subject, right)),
                Ok(true) => None,
                Err(refusal) => {
                    tracing::debug!("{refusal}");
                    None
                }
            });
            found.extend(told);
        }
        found
    }
}

/// Questions that are under way together.
const AT_ONCE: usize = 8;

fn lack(subject: &ObjectId, right: &Right) -> Finding {
    let so = match (right.resource, right.verb) {
        (Resource::Tokens, _) => "a mount has no token of it",
        (_, Verb::Watch) => "a mount sees changes late, as it has to ask again and again",
        _ => "a mount shows less",
    };
    let message = format!("you may not {right}, so that {so}: secretfs rbac prints the Role that suffices");
    Finding::new(Severity::Warning, "missing-right", subject, message)
}
