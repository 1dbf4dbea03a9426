//! Whether the cluster can be asked, and for what.

use futures_util::stream::{self, StreamExt};

use super::{Finding, State};
use crate::exit::{Code, Failure};
use crate::object::{Kind, Name, ObjectId};
use crate::rights::{Resource, Right, Rights, Verb};
use crate::source::cluster::{ClusterOptions, ConnectError, Examination, Verdict};

/// A clock that is wrong by more makes certificates and tokens invalid sooner or later, in seconds.
const TOLERABLE: i64 = 30;

/// Questions that are under way together.
const AT_ONCE: usize = 8;

/// What a mount would ask of the cluster.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// All rights that it needs.
    pub rights: Rights,
    /// The one object that it shows.
    pub subject: Option<ObjectId>,
    /// The node whose pods it shows.
    pub node: Option<Node>,
}

/// A node, whose own kubelet may not read everything, but all that its pods need.
#[derive(Clone, Debug)]
pub struct Node {
    pub name: Name,
    /// What the pods need that are on it now.
    pub pods: Rights,
}

/// Looks at the way to the cluster, step by step. Who gets to its end can look on from there.
pub async fn way(options: &ClusterOptions) -> (Vec<Finding>, Option<Examination>) {
    let mut findings = Vec::new();
    match Examination::find(options) {
        Ok(description) => findings.push(Finding::ok("kubeconfig", description)),
        Err(error) => {
            findings.push(Finding::failed("kubeconfig", State::Fault, &error.into()));
            return (findings, None);
        }
    }
    let examination = match Examination::start(options).await {
        Ok(examination) => examination,
        Err(error) => {
            let check = if matches!(error, ConnectError::Credentials(_)) { "credentials" } else { "kubeconfig" };
            findings.push(Finding::failed(check, State::Fault, &error.into()));
            return (findings, None);
        }
    };
    // A server that answers no to this has answered all the same.
    let reached = examination.reach().await;
    let clock = clock(examination.clock_ahead());
    let fault = match reached {
        Verdict::Unauthorized(why) => Some(("credentials", Failure::new(Code::Denied, why))),
        Verdict::Failed(why) => Some(("API server", Failure::new(Code::Unreachable, why))),
        Verdict::Allowed | Verdict::Missing | Verdict::Denied | Verdict::Unknown(_) => None,
    };
    if let Some((check, failure)) = fault {
        findings.push(Finding::failed(check, State::Fault, &failure));
        findings.extend(clock);
        return (findings, None);
    }
    findings.push(Finding::ok("API server", "answers"));
    findings.extend(clock);
    (findings, Some(examination))
}

fn clock(ahead: Option<i64>) -> Option<Finding> {
    const CHECK: &str = "clock";
    let ahead = ahead?;
    if ahead.abs() < TOLERABLE {
        return Some(Finding::ok(CHECK, "agrees with the API server's"));
    }
    let (seconds, how) = (ahead.abs(), if ahead > 0 { "behind" } else { "ahead of" });
    let found = format!("this host's is {seconds} s {how} the API server's: certificates and tokens may be refused");
    Some(Finding::warning(CHECK, found, "set the clock of whichever is wrong, for example with chrony or timedatectl"))
}

/// Looks whether the caller has the rights, those to the subject first.
pub async fn rights(examination: &Examination, asked: &Asked) -> Vec<Finding> {
    let (subject, others): (Vec<&Right>, _) = asked.rights.iter().partition(|right| asked.is_subject(right));
    let mut findings = Vec::new();
    for (right, verdict) in verdicts(examination, asked, [subject, others].concat()).await {
        match &asked.node {
            Some(node)
                if verdict == Verdict::Denied
                    && right.name.is_none()
                    && right.resource != Resource::Objects(Kind::Pod) =>
            {
                findings.extend(of_its_pods(examination, asked, node, right).await);
            }
            _ => findings.push(asked.finding(right, verdict)),
        }
    }
    findings
}

async fn verdicts<'a>(examination: &Examination, asked: &Asked, rights: Vec<&'a Right>) -> Vec<(&'a Right, Verdict)> {
    let node = asked.node.as_ref().map(|node| &node.name);
    let ask = |right: &'a Right| async move { (right, examination.may(right, node).await) };
    stream::iter(rights).map(ask).buffered(AT_ONCE).collect().await
}

/// Where not everything is allowed, what the pods of the node need may be.
async fn of_its_pods(examination: &Examination, asked: &Asked, node: &Node, all: &Right) -> Vec<Finding> {
    let alike = |right: &&Right| right.resource == all.resource && right.verb == all.verb;
    let verdicts = verdicts(examination, asked, node.pods.iter().filter(alike).collect()).await;
    let count = verdicts.len();
    let denied = verdicts.into_iter().filter(|(_, verdict)| !matches!(verdict, Verdict::Allowed | Verdict::Missing));
    let findings: Vec<Finding> = denied.map(|(right, verdict)| asked.finding(right, verdict)).collect();
    if !findings.is_empty() {
        return findings;
    }
    let so = if count == 0 {
        "none is needed by the pods on it".into()
    } else {
        format!("allowed for the {count} that the pods on it need")
    };
    vec![Finding::ok(CHECK, format!("{all}: not for all, but {so} now"))]
}

const CHECK: &str = "rights";

impl Asked {
    fn is_subject(&self, right: &Right) -> bool {
        let is_it =
            |id: &ObjectId| right.resource == Resource::Objects(id.kind) && right.name.as_ref() == Some(&id.name);
        self.subject.as_ref().is_some_and(is_it)
    }

    /// What a mount lacks without this right; nothing if it cannot show what it is for.
    fn without(&self, right: &Right) -> Option<&'static str> {
        match (right.resource, right.verb) {
            (_, Verb::Watch) => Some("updates show when --poll asks again, not at once"),
            (Resource::Namespaces, _) => Some("only the namespaces of -n and of the context are shown"),
            (Resource::Tokens, _) => Some("volumes with such a token are not shown"),
            (Resource::Objects(Kind::Node), _) => Some("limits that containers do not set are not known"),
            (Resource::Objects(Kind::ServiceAccount), _) => Some("whether its pods have a token of it is not known"),
            (Resource::Objects(Kind::ClusterTrustBundle), _) => Some("volumes with such certificates are not shown"),
            (Resource::Objects(Kind::Pod), Verb::List) if self.node.is_some() => None,
            (Resource::Objects(_), Verb::List) => Some("names are not shown; what is asked for by its name is"),
            (Resource::Objects(_), _) if right.name.is_none() => Some("only those are shown that you may get by name"),
            (Resource::Objects(_), _) => None,
        }
    }

    fn finding(&self, right: &Right, verdict: Verdict) -> Finding {
        let ask = || match right.resource {
            Resource::Tokens => format!("mount with --no-tokens, or ask for a Role that allows: {right}"),
            _ => format!("ask for a Role that allows: {right} (secretfs rbac prints it)"),
        };
        match (verdict, self.without(right)) {
            (Verdict::Allowed, _) => Finding::ok(CHECK, right.to_string()),
            (Verdict::Missing, _) => {
                let found = format!("{right}: allowed, but it does not exist");
                // A pod may do without it.
                if self.subject.is_some() && !self.is_subject(right) {
                    return Finding::warning(CHECK, found, "secretfs check tells what that does to the pod");
                }
                Finding::fault(CHECK, Code::NotFound, found, "check the name, the namespace (-n) and the context")
            }
            (Verdict::Denied, None) => Finding::fault(CHECK, Code::Denied, format!("{right}: denied"), ask()),
            (Verdict::Denied, Some(without)) => Finding::warning(CHECK, format!("{right}: denied: {without}"), ask()),
            (Verdict::Unknown(why), _) => Finding::skipped(CHECK, why),
            (Verdict::Unauthorized(why), _) => {
                Finding::failed("credentials", State::Fault, &Failure::new(Code::Denied, format!("{right}: {why}")))
            }
            (Verdict::Failed(why), _) => {
                Finding::failed(CHECK, State::Fault, &Failure::new(Code::Unreachable, format!("{right}: {why}")))
            }
        }
    }
}
