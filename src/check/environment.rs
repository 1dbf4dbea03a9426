//! Variables of containers: a container whose variables need what is not there does not start.

use std::collections::BTreeSet;

use super::{Case, Facts, Finding};
use crate::object::pod::Container;
use crate::object::{Key, Kind, Name, ObjectId};
use crate::pod::{Have, Lookup, Problem, Subject};

/// A reference to an object, or to a key of it.
struct Reference<'a> {
    kind: Kind,
    name: &'a str,
    key: Option<&'a str>,
    optional: bool,
}

fn references(container: &Container) -> Vec<Reference<'_>> {
    let mut found = Vec::new();
    for from in container.env.iter().map(|variable| &variable.value_from) {
        for (kind, key) in [(Kind::Secret, &from.secret_key_ref), (Kind::ConfigMap, &from.config_map_key_ref)] {
            found.extend(key.as_ref().map(|key| Reference {
                kind,
                name: &key.name,
                key: Some(&key.key),
                optional: key.optional,
            }));
        }
    }
    for from in &container.env_from {
        for (kind, object) in [(Kind::Secret, &from.secret_ref), (Kind::ConfigMap, &from.config_map_ref)] {
            found.extend(object.as_ref().map(|object| Reference {
                kind,
                name: &object.name,
                key: None,
                optional: object.optional,
            }));
        }
    }
    found
}

fn object(subject: &Subject, reference: &Reference) -> Option<ObjectId> {
    let name = Name::new(reference.name).ok()?;
    Some(ObjectId { namespace: subject.id.namespace.clone(), kind: reference.kind, name })
}

/// The objects that the variables of all containers need.
pub fn needs(subject: &Subject) -> BTreeSet<ObjectId> {
    let containers = subject.pod.spec.all_containers();
    containers.flat_map(|(_, container)| references(container)).filter_map(|from| object(subject, &from)).collect()
}

/// Says what variables need in vain.
pub fn check(case: &Case, facts: &Facts, found: &mut Vec<Finding>) {
    for (_, container) in case.subject.pod.spec.all_containers() {
        for reference in references(container) {
            if let Some(problem) = problem(&case.subject, &reference, facts) {
                found.push(of_variable(container, case.finding(problem)));
            }
        }
    }
}

/// The finding, saying that it is about a variable of the container.
pub fn of_variable(container: &Container, mut finding: Finding) -> Finding {
    finding.message = format!("a variable of container {:?}: {}", container.name, finding.message);
    finding
}

fn problem(subject: &Subject, reference: &Reference, facts: &Facts) -> Option<Problem> {
    let Some(id) = object(subject, reference) else {
        let name = reference.name.chars().take(64).collect();
        return (!reference.optional).then_some(Problem::BadName { kind: reference.kind, name });
    };
    let object = match facts.object(&id) {
        Have::Ready(object) => object,
        Have::Missing if reference.optional => return None,
        Have::Missing => return Some(Problem::Missing { object: id }),
        Have::Refused(why) => return Some(Problem::Refused(why)),
        Have::Unknown => return Some(Problem::Unknown { what: id.to_string() }),
    };
    let key = reference.key.filter(|_| !reference.optional)?;
    let is_there = Key::new(key).is_ok_and(|key| object.data().contains_key(&key));
    (!is_there).then(|| Problem::MissingKey { object: id, key: key.chars().take(253).collect() })
}
