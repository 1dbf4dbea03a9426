//! What would keep a pod from starting, or give its containers other files than they are meant to have.
//!
//! Pure rules but for [`kubelet`], which reads a node's disk. A finding names objects, keys and paths, never a value.

mod environment;
mod facts;
mod finding;
pub mod kubelet;
mod mounts;
mod values;
mod volumes;

pub use facts::Facts;
pub use finding::{Finding, Severity};
pub use values::mistakes;

use std::collections::BTreeSet;
use std::time::SystemTime;

use crate::object::{Body, Kind, Name, Object, ObjectId};
use crate::pod::{self, Have, Lookup, Needs, Problem, Subject};

/// A pod, or what makes pods, that is checked.
#[derive(Clone, Debug)]
pub struct Case {
    pub subject: Subject,
    created: SystemTime,
    /// It stands in a manifest: what is missing there may be in the cluster, so that ServiceAccounts are not asked for.
    declared: bool,
}

impl Case {
    /// `automount` is what its ServiceAccount says. `None` if `object` has or makes no pod.
    pub fn of(object: &Object, automount: Option<bool>) -> Option<Case> {
        let subject = Subject::of(object, automount)?;
        Some(Case { subject, created: object.meta.created, declared: object.meta.is_declared() })
    }

    /// What has to be known of it.
    pub fn needs(&self) -> Needs {
        let mut needs = pod::all_needs(&self.subject);
        needs.objects.extend(environment::needs(&self.subject));
        needs.objects.extend(self.account());
        needs
    }

    /// The ServiceAccount without which no pod is admitted.
    fn account(&self) -> Option<ObjectId> {
        let name = Name::new(&self.subject.pod.spec.service_account_name).ok()?;
        let namespace = self.subject.id.namespace.clone();
        let is_asked = self.subject.id.kind.is_workload() && !self.declared;
        is_asked.then_some(ObjectId { namespace, kind: Kind::ServiceAccount, name })
    }

    /// All that is to be said about it, but for the values of its objects: see [`mistakes`].
    pub fn findings(&self, facts: &Facts) -> Vec<Finding> {
        let mut found = Vec::new();
        if let Some(id) = self.account()
            && matches!(facts.object(&id), Have::Missing)
        {
            found.push(self.finding(Problem::Missing { object: id }));
        }
        let payloads = volumes::check(self, facts, &mut found);
        mounts::check(self, facts, &payloads, &mut found);
        environment::check(self, facts, &mut found);
        self.recreated(facts, &mut found);
        // A template may repeat itself; what is said about it need not.
        let mut said = BTreeSet::new();
        found.retain(|finding| said.insert((finding.volume.clone(), finding.message.clone())));
        found
    }

    /// The kubelet reads an immutable object once: as long as any pod of its node uses it, it does not look again.
    fn recreated(&self, facts: &Facts, found: &mut Vec<Finding>) {
        if !self.subject.is_live() {
            return;
        }
        for id in self.needs().objects {
            let Have::Ready(object) = facts.object(&id) else { continue };
            let is_immutable = matches!(&object.body, Body::Data(data) if data.immutable);
            if is_immutable && object.meta.created > self.created {
                let message = format!(
                    "{id} is immutable and was made anew after the pod: its kubelet may go on using the old one: delete the pod"
                );
                found.push(self.warning("immutable-recreated", message).about(&id));
            }
        }
    }

    fn finding(&self, problem: Problem) -> Finding {
        Finding::of_problem(&self.subject, &problem)
    }

    fn error(&self, rule: &'static str, message: String) -> Finding {
        Finding::new(Severity::Error, rule, &self.subject.id, message)
    }

    fn warning(&self, rule: &'static str, message: String) -> Finding {
        Finding::new(Severity::Warning, rule, &self.subject.id, message)
    }

    fn note(&self, rule: &'static str, message: String) -> Finding {
        Finding::new(Severity::Note, rule, &self.subject.id, message)
    }
}
