//! The variables of a container, as far as paths are made of them. Source: `makeEnvironmentVariables`,
//! pkg/kubelet/kubelet_pods.go.
//!
//! The variables of Services (`KUBERNETES_SERVICE_HOST`) are not known here. And where the kubelet starts no container one of
//! whose variables cannot be had, only those count here that a path needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::expand::{Piece, joined, names, pieces};
use super::{Have, Lookup, Problem, Subject, field, resources};
use crate::object::pod::{Container, KeyRef, Variable, Variables};
use crate::object::{Kind, Object, ObjectId, Value};

/// The longest variable that a program can be started with, in bytes (`MAX_ARG_STRLEN`, the kernel's
/// include/uapi/linux/binfmts.h).
const MAX_VARIABLE: usize = 128 << 10;

/// Which definitions matter for some variables.
pub(super) struct Plan<'a> {
    subject: &'a Subject,
    container: &'a Container,
    /// In their order, which is that in which they are evaluated.
    variables: Vec<&'a Variable>,
    /// Names that may come from `envFrom`.
    open: BTreeSet<String>,
    from: Vec<&'a Variables>,
}

/// Where a variable's value is, and whether it may be absent.
struct Place {
    id: ObjectId,
    optional: bool,
}

impl<'a> Plan<'a> {
    /// What the variables of these names need.
    pub(super) fn of(subject: &'a Subject, container: &'a Container, wanted: BTreeSet<String>) -> Self {
        let mut open = wanted;
        let mut variables = Vec::new();
        // From the last definition of a name to what that refers to, which is defined before it.
        for variable in container.env.iter().rev().filter(|variable| !variable.name.is_empty()) {
            if !open.contains(&variable.name) {
                continue;
            }
            if !may_be_absent(variable) {
                open.remove(&variable.name);
            }
            open.extend(names(text(variable)).map(str::to_owned));
            variables.push(variable);
        }
        variables.reverse();
        let can_give = |from: &&Variables| open.iter().any(|name| name.starts_with(&from.prefix));
        let from = container.env_from.iter().filter(can_give).collect();
        Plan { subject, container, variables, open, from }
    }

    /// The objects that [`Plan::values`] will ask for.
    pub(super) fn needs(&self) -> BTreeSet<ObjectId> {
        let mut needs = BTreeSet::new();
        for from in &self.from {
            needs.extend(place_of_all(self.subject, from).ok().flatten().map(|place| place.id));
        }
        for variable in self.variables.iter().filter(|variable| text(variable).is_empty()) {
            let from = &variable.value_from;
            match (&from.field_ref, &from.resource_field_ref) {
                (Some(_), _) => {}
                (None, Some(from)) => needs.extend(resources::variable_needs(self.subject, self.container, from)),
                (None, None) => {
                    needs.extend(key_ref(variable).and_then(|(kind, key)| self.subject.object(kind, &key.name)))
                }
            }
        }
        needs
    }

    /// The values of the variables, and of those that they need in turn.
    pub(super) fn values(&self, lookup: &dyn Lookup) -> Result<BTreeMap<String, Value>, Vec<Problem>> {
        let mut values = BTreeMap::new();
        let mut problems = Vec::new();
        for from in &self.from {
            self.add_all(from, lookup, &mut values).unwrap_or_else(|problem| problems.push(problem));
        }
        for variable in &self.variables {
            match self.value(variable, lookup, &values) {
                Ok(Some(value)) => drop(values.insert(variable.name.clone(), value)),
                Ok(None) => {}
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(values) } else { Err(problems) }
    }

    /// `envFrom`: each key of an object is a variable.
    fn add_all(
        &self,
        from: &Variables,
        lookup: &dyn Lookup,
        values: &mut BTreeMap<String, Value>,
    ) -> Result<(), Problem> {
        let Some(place) = place_of_all(self.subject, from)? else { return Ok(()) };
        let Some(object) = object(&place, lookup)? else { return Ok(()) };
        for (key, value) in object.texts() {
            let name = format!("{}{key}", from.prefix);
            if self.open.contains(&name) {
                values.insert(name, value.clone());
            }
        }
        Ok(())
    }

    /// `None` if it is optional and not there, when an earlier definition stays.
    fn value(
        &self,
        variable: &Variable,
        lookup: &dyn Lookup,
        values: &BTreeMap<String, Value>,
    ) -> Result<Option<Value>, Problem> {
        let text = text(variable);
        if !text.is_empty() {
            let parts: Vec<&[u8]> = pieces(text).into_iter().map(|piece| part(piece, values)).collect();
            let what = || format!("the variable {:?}", variable.name);
            let too_large = || Problem::TooLarge { what: what(), limit: MAX_VARIABLE };
            return joined(&parts, MAX_VARIABLE).map(Some).ok_or_else(too_large);
        }
        let from = &variable.value_from;
        if let Some(from) = &from.field_ref {
            return field::in_variable(self.subject, &from.field_path).map(Some);
        }
        if let Some(from) = &from.resource_field_ref {
            let number = resources::in_variable(self.subject, self.container, from, lookup)?;
            return Ok(Some(Value::new(number.into_bytes())));
        }
        let Some((kind, key)) = key_ref(variable) else { return Ok(Some(Value::copy_of(&[]))) };
        let Some(place) = place(self.subject, kind, &key.name, key.optional)? else { return Ok(None) };
        let Some(object) = object(&place, lookup)? else { return Ok(None) };
        let found = object.texts().find(|(name, _)| name.as_str() == key.key);
        match found {
            Some((_, value)) => Ok(Some(value.clone())),
            None if key.optional => Ok(None),
            None => Err(Problem::MissingKey { object: place.id, key: key.key.clone() }),
        }
    }
}

/// What is written as its value. It is text, as it comes from JSON.
fn text(variable: &Variable) -> &str {
    let bytes = variable.value.as_ref().map_or(&[][..], Value::as_bytes);
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// A reference to a variable that is not defined yet stays as it is.
fn part<'a>(piece: Piece<'a>, values: &'a BTreeMap<String, Value>) -> &'a [u8] {
    match piece {
        Piece::Text(text) => text.as_bytes(),
        Piece::Reference(name, written) => values.get(name).map_or(written.as_bytes(), Value::as_bytes),
    }
}

fn key_ref(variable: &Variable) -> Option<(Kind, &KeyRef)> {
    let from = &variable.value_from;
    match (&from.config_map_key_ref, &from.secret_key_ref) {
        (Some(key), _) => Some((Kind::ConfigMap, key)),
        (None, Some(key)) => Some((Kind::Secret, key)),
        (None, None) => None,
    }
}

fn may_be_absent(variable: &Variable) -> bool {
    let from = &variable.value_from;
    let has_other = !text(variable).is_empty() || from.field_ref.is_some() || from.resource_field_ref.is_some();
    !has_other && key_ref(variable).is_some_and(|(_, key)| key.optional)
}

fn place_of_all(subject: &Subject, from: &Variables) -> Result<Option<Place>, Problem> {
    match (&from.config_map_ref, &from.secret_ref) {
        (Some(object), _) => place(subject, Kind::ConfigMap, &object.name, object.optional),
        (None, Some(object)) => place(subject, Kind::Secret, &object.name, object.optional),
        (None, None) => Ok(None),
    }
}

/// `None` if there can be no such object, and need not be.
fn place(subject: &Subject, kind: Kind, name: &str, optional: bool) -> Result<Option<Place>, Problem> {
    match subject.object(kind, name) {
        Some(id) => Ok(Some(Place { id, optional })),
        None if optional && !name.is_empty() => Ok(None),
        None => Err(Problem::BadName { kind, name: name.to_owned() }),
    }
}

fn object(place: &Place, lookup: &dyn Lookup) -> Result<Option<Arc<Object>>, Problem> {
    match lookup.object(&place.id) {
        Have::Ready(object) => Ok(Some(object)),
        Have::Missing if place.optional => Ok(None),
        Have::Missing => Err(Problem::Missing { object: place.id.clone() }),
        Have::Refused(why) => Err(Problem::Refused(why)),
        Have::Unknown => Err(Problem::Unknown { what: place.id.to_string() }),
    }
}
