//! Objects that came in a page and that nobody has asked for yet.
//!
//! They are kept apart from the store, which is a cache of what has been read: the least recently read goes first there,
//! and that would be what is about to be read next. Here the oldest goes first, and what is asked for is taken away.

use std::collections::{HashMap, VecDeque};

use crate::object::{Object, ObjectId};

/// How many bytes of values wait here at most, for all crawls together; a page that has more is here alone. It is four
/// times what a page is meant to have, so several crawls can go on side by side.
const LIMIT: usize = 16 << 20;

/// See the module's documentation.
#[derive(Default)]
pub struct Shelf {
    objects: HashMap<ObjectId, Object>,
    /// The order in which they came; those that were taken are in it until the next page.
    order: VecDeque<ObjectId>,
    bytes: usize,
}

impl Shelf {
    /// Takes a page, in order. The oldest objects make room.
    pub fn put(&mut self, page: impl IntoIterator<Item = Object>) {
        self.order.retain(|id| self.objects.contains_key(id));
        let page: Vec<Object> = page.into_iter().collect();
        let room = LIMIT.saturating_sub(page.iter().map(Object::data_bytes).sum());
        while self.bytes > room
            && let Some(oldest) = self.order.pop_front()
        {
            self.take(&oldest);
        }
        for object in page {
            let id = object.id().clone();
            self.take(&id);
            self.bytes += object.data_bytes();
            self.order.push_back(id.clone());
            self.objects.insert(id, object);
        }
    }

    pub fn take(&mut self, id: &ObjectId) -> Option<Object> {
        let object = self.objects.remove(id)?;
        self.bytes -= object.data_bytes();
        Some(object)
    }

    pub fn clear(&mut self) {
        *self = Shelf::default();
    }
}

#[cfg(test)]
pub mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::object::{Body, Data, Key, Kind, Meta, Name, Namespace, Value};

    pub fn object(name: &str, bytes: usize) -> Object {
        let (namespace, name) = (Namespace::new("prod").unwrap(), Name::new(name).unwrap());
        let id = ObjectId { namespace, kind: Kind::Secret, name };
        let meta = Meta { id, uid: "u".into(), version: "1".into(), created: UNIX_EPOCH };
        let data = [(Key::new("k").unwrap(), Value::new(vec![0; bytes]))].into();
        Object { meta, body: Body::Data(Data { values: data, ..Data::default() }) }
    }

    #[test]
    fn the_oldest_make_room_and_a_page_that_is_too_large_is_there_alone() {
        let mut shelf = Shelf::default();
        let third = LIMIT / 3;
        shelf.put([object("a", third), object("b", third)]);
        shelf.put([object("c", third)]);
        assert_eq!(shelf.objects.len(), 3);
        shelf.put([object("d", third)]);
        assert!(shelf.take(object("a", 0).id()).is_none() && shelf.bytes <= LIMIT);
        assert!(shelf.take(object("b", 0).id()).is_some());
        assert!(shelf.take(object("b", 0).id()).is_none(), "it is given once");
        shelf.put([object("e", LIMIT), object("f", 1)]);
        assert_eq!((shelf.objects.len(), shelf.bytes), (2, LIMIT + 1));
        shelf.put([object("f", 5)]);
        assert_eq!((shelf.objects.len(), shelf.bytes), (1, 5), "the same object again, and nothing of the old page");
    }
}
