//! The order in which the API server lists: that of its storage's keys.

use std::cmp::Ordering;

use crate::object::{Kind, Name, Namespace, ObjectId};
use crate::store::Store;

/// A place in a list of one kind, of a namespace or of the cluster. Keys are `namespace/name` (the generic registry's
/// `KeyFunc`, pkg/registry/generic/registry/store.go in k8s.io/apiserver), so this is not the order of the pairs: `a-b/x`
/// is before `a/x`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    namespace: Namespace,
    /// `None` is before all objects of the namespace.
    name: Option<Name>,
}

impl Position {
    pub fn of(id: &ObjectId) -> Self {
        Position { namespace: id.namespace.clone(), name: Some(id.name.clone()) }
    }

    pub fn start_of(namespace: &Namespace) -> Self {
        Position { namespace: namespace.clone(), name: None }
    }

    fn key(&self) -> impl Iterator<Item = u8> {
        let name = self.name.iter().flat_map(|name| name.as_str().bytes());
        self.namespace.as_str().bytes().chain([b'/']).chain(name)
    }
}

impl Ord for Position {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(other.key())
    }
}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// How many objects are known, of one namespace or of all, whose places lie between these two.
pub fn count_between(
    store: &Store,
    kind: Kind,
    scope: Option<&Namespace>,
    after: Option<&Position>,
    before: &Position,
) -> usize {
    let inside = |place: &Position| after.is_none_or(|after| after < place) && place < before;
    let in_part = |namespace: &Namespace| {
        let names = store.names(kind, namespace).into_iter();
        names.filter(|name| inside(&Position { namespace: namespace.clone(), name: Some(name.clone()) })).count()
    };
    let is_edge = |namespace: &Namespace| {
        *namespace == before.namespace || after.is_some_and(|after| *namespace == after.namespace)
    };
    match scope {
        Some(namespace) => in_part(namespace),
        None => {
            let counts = store.sizes(kind).into_iter().map(|(namespace, names)| match is_edge(&namespace) {
                true => in_part(&namespace),
                false => names * usize::from(inside(&Position::start_of(&namespace))),
            });
            counts.sum()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::object::Meta;

    fn id(namespace: &str, name: &str) -> ObjectId {
        let (namespace, name) = (Namespace::new(namespace).unwrap(), Name::new(name).unwrap());
        ObjectId { namespace, kind: Kind::Secret, name }
    }

    fn at(namespace: &str, name: &str) -> Position {
        Position::of(&id(namespace, name))
    }

    #[test]
    fn places_are_in_the_order_of_the_servers_keys() {
        let sorted = [at("a-b", "x"), Position::start_of(&Namespace::new("a").unwrap()), at("a", "x"), at("a", "x.y")];
        assert!(sorted.is_sorted() && at("a", "z") < at("ab", "a") && at("a0", "x") > at("a", "z"));
    }

    #[test]
    fn what_lies_between_two_places_is_counted() {
        let store = Store::new();
        for (namespace, name) in [("a-b", "p"), ("a-b", "q"), ("a", "x"), ("a", "y"), ("b", "k"), ("c", "z")] {
            let (uid, version) = ("u".into(), "1".into());
            store.put_name(Meta { id: id(namespace, name), uid, version, created: UNIX_EPOCH });
        }
        let count =
            |after: Option<Position>, before| count_between(&store, Kind::Secret, None, after.as_ref(), &before);
        assert_eq!(count(None, at("a", "x")), 2, "the whole of a-b");
        assert_eq!(count(None, at("c", "z")), 5);
        assert_eq!(count(Some(at("a-b", "p")), at("b", "k")), 3);
        assert_eq!(count(Some(at("a", "x")), at("a", "y")), 0);
        assert_eq!(count(Some(at("b", "k")), at("a", "x")), 0, "it lies behind");
        let namespace = Namespace::new("a").unwrap();
        assert_eq!(count_between(&store, Kind::Secret, Some(&namespace), None, &at("a", "y")), 1);
    }
}
