//! `resourceFieldRef`: what a container may use or asks for, as a whole number.
//! Source: pkg/api/v1/resource/helpers.go.

use super::quantity::Amount;
use super::{Have, Lookup, Problem, Subject};
use crate::object::pod::{Container, ResourceRef};
use crate::object::{Body, Kind, ObjectId, Quantity};

/// What a reference asks for.
struct Asked<'a> {
    container: &'a Container,
    limit: bool,
    resource: &'a str,
    /// Whether a limit that is not set is the node's.
    node: bool,
    divisor: &'a Quantity,
}

/// The number for a file of a volume (`ExtractResourceValueByContainerNameAndNodeAllocatable`).
pub(super) fn in_volume(subject: &Subject, from: &ResourceRef, lookup: &dyn Lookup) -> Result<String, Problem> {
    of_volume(subject, from)?.number(subject, lookup)
}

/// The number for a variable of `own` (`containerResourceRuntimeValue`, pkg/kubelet/kubelet_pods.go).
pub(super) fn in_variable(
    subject: &Subject,
    own: &Container,
    from: &ResourceRef,
    lookup: &dyn Lookup,
) -> Result<String, Problem> {
    of_variable(subject, own, from)?.number(subject, lookup)
}

/// The node that [`in_volume`] will ask for.
pub(super) fn volume_needs(subject: &Subject, from: &ResourceRef) -> Option<ObjectId> {
    of_volume(subject, from).ok()?.needs(subject)
}

/// The node that [`in_variable`] will ask for.
pub(super) fn variable_needs(subject: &Subject, own: &Container, from: &ResourceRef) -> Option<ObjectId> {
    of_variable(subject, own, from).ok()?.needs(subject)
}

fn of_volume<'a>(subject: &'a Subject, from: &'a ResourceRef) -> Result<Asked<'a>, Problem> {
    let name = &from.container_name;
    let container = main(subject, name).or_else(|| init(subject, name));
    asked(container.ok_or_else(|| Problem::UnknownContainer { container: name.clone() })?, from, true)
}

fn of_variable<'a>(subject: &'a Subject, own: &'a Container, from: &'a ResourceRef) -> Result<Asked<'a>, Problem> {
    let name = &from.container_name;
    if name.is_empty() {
        return asked(own, from, true);
    }
    if let Some(container) = main(subject, name) {
        return asked(container, from, true);
    }
    // `defaultPodLimitsForDownwardAPI` gives the node's to the pod's containers, but not to its init containers.
    asked(init(subject, name).ok_or_else(|| Problem::UnknownContainer { container: name.clone() })?, from, false)
}

fn main<'a>(subject: &'a Subject, name: &str) -> Option<&'a Container> {
    subject.pod.spec.containers.iter().find(|container| container.name == name)
}

fn init<'a>(subject: &'a Subject, name: &str) -> Option<&'a Container> {
    subject.pod.spec.init_containers.iter().find(|container| container.name == name)
}

fn asked<'a>(container: &'a Container, from: &'a ResourceRef, node: bool) -> Result<Asked<'a>, Problem> {
    let split = from.resource.split_once('.').filter(|(side, resource)| {
        let known = matches!(*resource, "cpu" | "memory" | "ephemeral-storage") || resource.starts_with("hugepages-");
        known && matches!(*side, "limits" | "requests")
    });
    let (side, resource) = split.ok_or_else(|| Problem::UnknownResource { resource: from.resource.clone() })?;
    let limit = side == "limits";
    // Huge pages are never overcommitted: who uses them has a limit.
    let node = node && limit && !resource.starts_with("hugepages-");
    Ok(Asked { container, limit, resource, node, divisor: &from.divisor })
}

impl Asked<'_> {
    fn own(&self) -> Result<Option<Amount>, Problem> {
        let resources = &self.container.resources;
        let side = if self.limit { &resources.limits } else { &resources.requests };
        let read = |quantity: &Quantity| {
            let what = || format!("the {} of container {:?}", self.resource, self.container.name);
            Amount::parse(&quantity.0).ok_or_else(|| Problem::BadQuantity { what: what() })
        };
        side.get(self.resource).map(read).transpose()
    }

    /// Whether the number is the node's: `MergeContainerResourceLimits`.
    fn is_nodes(&self) -> Result<bool, Problem> {
        Ok(self.node && self.own()?.is_none_or(Amount::is_zero))
    }

    fn needs(&self, subject: &Subject) -> Option<ObjectId> {
        let is_nodes = self.is_nodes().ok()?;
        subject.object(Kind::Node, &subject.pod.spec.node_name).filter(|_| is_nodes)
    }

    fn amount(&self, subject: &Subject, lookup: &dyn Lookup) -> Result<Amount, Problem> {
        let zero = Amount::Short { value: 0, scale: 0 };
        if !self.is_nodes()? {
            return Ok(self.own()?.unwrap_or(zero));
        }
        let node = &subject.pod.spec.node_name;
        if node.is_empty() {
            let container = self.container.name.clone();
            return Err(Problem::NoNode { container, resource: self.resource.to_owned() });
        }
        let bad_name = || Problem::BadName { kind: Kind::Node, name: node.clone() };
        let id = subject.object(Kind::Node, node).ok_or_else(bad_name)?;
        let object = match lookup.object(&id) {
            Have::Ready(object) => object,
            Have::Missing => return Err(Problem::Missing { object: id }),
            Have::Refused(why) => return Err(Problem::Refused(why)),
            Have::Unknown => return Err(Problem::Unknown { what: id.to_string() }),
        };
        let Body::Node { allocatable } = &object.body else { return Ok(zero) };
        let Some(quantity) = allocatable.get(self.resource) else { return Ok(zero) };
        let what = || format!("the allocatable {} of {id}", self.resource);
        Amount::parse(&quantity.0).ok_or_else(|| Problem::BadQuantity { what: what() })
    }

    /// `ExtractContainerResourceValue`, with its detour over floating point.
    fn number(&self, subject: &Subject, lookup: &dyn Lookup) -> Result<String, Problem> {
        let amount = self.amount(subject, lookup)?;
        let written = if self.divisor.0.is_empty() { "0" } else { &self.divisor.0 };
        let bad =
            || Problem::BadQuantity { what: format!("the divisor of {} of {:?}", self.resource, self.container.name) };
        let divisor = Amount::parse(written).ok_or_else(bad)?;
        let divisor = if divisor.is_zero() { Amount::Short { value: 1, scale: 0 } } else { divisor };
        let scaled = |amount: Amount| if self.resource == "cpu" { amount.millis() } else { amount.units() };
        // Beyond 64 bits Go's conversion depends on the processor; this is that of arm64.
        Ok(((scaled(amount) as f64 / scaled(divisor) as f64).ceil() as i64).to_string())
    }
}
