//! Which directories a view has, and which object belongs to which.

use std::sync::Arc;

use crate::object::{Kind, Name, Namespace, ObjectId};
use crate::tree::{Ino, Tree};

/// What the root directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The volume of one object.
    Object(ObjectId),
    /// The containers of one pod, or of the pods that a workload makes: `<container>/<mountPath...>`.
    Pod(ObjectId),
    /// The pods of a node, all or those whose labels match: `<namespace>/<pod>/<container>/<mountPath...>`.
    Node { node: Name, selector: Option<String> },
    /// Directories by name: `[<namespace>/][<kind>/]<name>`; the namespace level is there unless one namespace is set,
    /// the kind level if more than one kind is shown.
    Names { namespace: Option<Namespace>, kinds: Vec<Kind>, selector: Option<String> },
}

impl Shape {
    /// The kinds, where they are a directory level.
    pub(super) fn kind_level(&self) -> Option<&[Kind]> {
        match self {
            Shape::Names { kinds, .. } if kinds.len() > 1 => Some(kinds),
            _ => None,
        }
    }

    /// Whether it shows objects by their names.
    pub(super) fn is_names(&self) -> bool {
        matches!(self, Shape::Names { .. })
    }

    /// The kinds that are shown.
    pub(super) fn kinds(&self) -> &[Kind] {
        match self {
            Shape::Names { kinds, .. } => kinds,
            Shape::Object(id) | Shape::Pod(id) => std::slice::from_ref(&id.kind),
            Shape::Node { .. } => &[Kind::Pod],
        }
    }

    /// Whether namespaces are a directory level.
    pub(super) fn has_namespaces(&self) -> bool {
        self.lists_namespaces() || matches!(self, Shape::Node { .. })
    }

    /// Whether it shows all namespaces that there are.
    pub(super) fn lists_namespaces(&self) -> bool {
        matches!(self, Shape::Names { namespace: None, .. })
    }

    /// The directories from the root to the object's own, which is the last. `None`: it has none.
    pub(super) fn path(&self, id: &ObjectId) -> Option<Vec<Arc<str>>> {
        match self {
            Shape::Object(wanted) | Shape::Pod(wanted) => return (id == wanted).then(Vec::new),
            Shape::Names { namespace: Some(namespace), .. } if *namespace != id.namespace => return None,
            Shape::Node { .. } | Shape::Names { .. } if !self.kinds().contains(&id.kind) => return None,
            Shape::Node { .. } | Shape::Names { .. } => {}
        }
        let mut path = self.place(&id.namespace, id.kind);
        path.push(id.name.as_str().into());
        Some(path)
    }

    /// The directories from the root to the one that has the names of one kind in one namespace.
    pub(super) fn place(&self, namespace: &Namespace, kind: Kind) -> Vec<Arc<str>> {
        let mut path: Vec<Arc<str>> = Vec::new();
        if self.has_namespaces() {
            path.push(namespace.as_str().into());
        }
        if self.kind_level().is_some() {
            path.push(kind.plural().into());
        }
        path
    }

    /// The namespace and kind whose names are in the directory at `path`.
    pub(super) fn place_at(&self, path: &str) -> Option<(Namespace, Kind)> {
        // The directory of any object there.
        let below = if path.is_empty() { "x".to_owned() } else { format!("{path}/x") };
        self.object_at(&below).map(|id| (id.namespace, id.kind))
    }

    /// The object whose directory is at `path`.
    pub(super) fn object_at(&self, path: &str) -> Option<ObjectId> {
        let Shape::Names { namespace, kinds, .. } = self else { return None };
        let mut parts = path.split('/');
        let namespace = match namespace {
            Some(namespace) => namespace.clone(),
            None => Namespace::new(parts.next()?).ok()?,
        };
        let kind = match self.kind_level() {
            Some(_) => parts.next()?.parse().ok()?,
            None => *kinds.first()?,
        };
        let name = Name::new(parts.next()?).ok()?;
        parts.next().is_none().then_some(ObjectId { namespace, kind, name })
    }
}

/// The inode at the end of a path, if all of it is there.
pub(super) fn walk(tree: &Tree, path: &[Arc<str>]) -> Option<Ino> {
    path.iter().try_fold(Ino::ROOT, |dir, name| tree.child(dir, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(namespace: Option<&str>, kinds: &[Kind]) -> Shape {
        let namespace = namespace.map(|name| Namespace::new(name).unwrap());
        Shape::Names { namespace, kinds: kinds.to_vec(), selector: None }
    }

    #[test]
    fn a_path_leads_to_the_object_that_it_came_from() {
        let id = ObjectId {
            namespace: Namespace::new("ns").unwrap(),
            kind: Kind::ConfigMap,
            name: Name::new("a.b").unwrap(),
        };
        for (shape, path) in [
            (names(None, &[Kind::ConfigMap]), "ns/a.b"),
            (names(None, &Kind::DATA), "ns/configmaps/a.b"),
            (names(Some("ns"), &[Kind::ConfigMap]), "a.b"),
            (names(Some("ns"), &Kind::DATA), "configmaps/a.b"),
        ] {
            assert_eq!(shape.path(&id).map(|names| names.join("/")).as_deref(), Some(path));
            assert_eq!(shape.path(&ObjectId { kind: Kind::Pod, ..id.clone() }), None);
            assert_eq!(shape.object_at(path), Some(id.clone()));
            assert_eq!(shape.object_at(&format!("{path}/key")), None);
            let place = shape.place(&id.namespace, id.kind).join("/");
            assert_eq!(shape.place_at(&place), Some((id.namespace.clone(), id.kind)));
            assert_eq!(shape.place_at(path), None);
        }
    }
}
