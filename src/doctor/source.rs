//! Whether the cluster can be asked, and for what.

use super::{Finding, State};
use crate::exit::{Code, Failure};
use crate::object::{Kind, Namespace, ObjectId};
use crate::source::cluster::{ClusterOptions, ConnectError, Examination, Names, Right, Verdict};

/// A clock that is wrong by more makes certificates and tokens invalid sooner or later, in seconds.
const TOLERABLE: i64 = 30;

/// What a mount would show.
#[derive(Clone, Debug)]
pub enum Asked {
    /// No SOURCE: only the way to the cluster.
    Nothing,
    Object(ObjectId),
    Names {
        namespace: Option<Namespace>,
        kinds: Vec<Kind>,
    },
}

/// Looks at the way to the cluster, step by step, and at the rights for `asked`, which is told the namespace that goes
/// without saying.
pub async fn cluster(options: &ClusterOptions, asked: impl FnOnce(&Namespace) -> Asked) -> Vec<Finding> {
    let mut findings = Vec::new();
    let namespace = match Examination::find(options) {
        Ok((description, namespace)) => {
            findings.push(Finding::ok("kubeconfig", description));
            namespace
        }
        Err(error) => {
            findings.push(Finding::failed("kubeconfig", State::Fault, &error.into()));
            return findings;
        }
    };
    let examination = match Examination::start(options).await {
        Ok(examination) => examination,
        Err(error) => {
            let check = if matches!(error, ConnectError::Credentials(_)) { "credentials" } else { "kubeconfig" };
            findings.push(Finding::failed(check, State::Fault, &error.into()));
            return findings;
        }
    };
    // A server that answers no to this has answered all the same.
    let reached = examination.reach().await;
    let clock = clock(examination.clock_ahead());
    match reached {
        Verdict::Failed(why) => {
            let code = if examination.clock_ahead().is_some() { Code::Denied } else { Code::Unreachable };
            let check = if code == Code::Denied { "credentials" } else { "API server" };
            findings.push(Finding::failed(check, State::Fault, &Failure::new(code, why)));
            findings.extend(clock);
            return findings;
        }
        Verdict::Allowed | Verdict::Missing | Verdict::Denied => findings.push(Finding::ok("API server", "answers")),
    }
    findings.extend(clock);
    for need in needs(asked(&namespace)) {
        let verdict = examination.may(&need.right).await;
        findings.push(need.finding(verdict));
    }
    findings
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

/// A right and what it is for.
struct Need {
    right: Right,
    /// As in `kubectl auth can-i`.
    what: String,
    /// What is missing without it; nothing if all is.
    without: Option<&'static str>,
}

const NO_WATCH: &str = "updates show when --poll asks again, not at once";
const NO_LIST: &str = "names are not shown; what is asked for by its name is";

fn needs(asked: Asked) -> Vec<Need> {
    match asked {
        Asked::Nothing => Vec::new(),
        Asked::Object(id) => {
            let what = |verb| format!("{verb} {}/{} in namespace {}", id.kind.plural(), id.name, id.namespace);
            vec![
                Need { what: what("get"), right: Right::Get(id.clone()), without: None },
                Need { what: what("watch"), right: Right::Watch(id.clone()), without: Some(NO_WATCH) },
            ]
        }
        Asked::Names { namespace, kinds } => {
            let place = namespace.as_ref().map_or_else(|| "all namespaces".into(), |name| format!("namespace {name}"));
            let mut needs = Vec::new();
            if namespace.is_none() {
                let names = Names::of_namespaces();
                let what = |verb| format!("{verb} namespaces");
                let without = Some("only the namespaces of -n and of the context are shown");
                needs.push(Need { what: what("list"), right: Right::List(names.clone()), without });
                needs.push(Need { what: what("watch"), right: Right::WatchAll(names), without: Some(NO_WATCH) });
            }
            for kind in kinds {
                let names = Names::of_objects(kind, namespace.clone());
                let what = |verb| format!("{verb} {} in {place}", kind.plural());
                needs.push(Need { what: what("list"), right: Right::List(names.clone()), without: Some(NO_LIST) });
                needs.push(Need { what: what("watch"), right: Right::WatchAll(names), without: Some(NO_WATCH) });
            }
            needs
        }
    }
}

impl Need {
    fn finding(self, verdict: Verdict) -> Finding {
        const CHECK: &str = "rights";
        let Need { what, without, .. } = self;
        let ask = || format!("ask for a Role that allows: {what}");
        match (verdict, without) {
            (Verdict::Allowed, _) => Finding::ok(CHECK, what),
            (Verdict::Missing, _) => {
                let found = format!("{what}: allowed, but it does not exist");
                Finding::fault(CHECK, Code::NotFound, found, "check the name, the namespace (-n) and the context")
            }
            (Verdict::Denied, None) => Finding::fault(CHECK, Code::Denied, format!("{what}: denied"), ask()),
            (Verdict::Denied, Some(without)) => Finding::warning(CHECK, format!("{what}: denied: {without}"), ask()),
            (Verdict::Failed(why), _) => {
                Finding::failed(CHECK, State::Fault, &Failure::new(Code::Unreachable, format!("{what}: {why}")))
            }
        }
    }
}
