//! Files made of the keys of a Secret or ConfigMap. Source: `MakePayload`, pkg/volume/secret/secret.go and
//! pkg/volume/configmap/configmap.go.

use super::collect::Files;
use super::{Have, Problem};
use crate::object::pod::SecretSource;
use crate::object::{Key, Kind};

pub(super) fn add(files: &mut Files, kind: Kind, source: &SecretSource) {
    let id = match files.subject.object(kind, &source.name) {
        Some(id) => id,
        // There is no object of such a name, which is all that `optional` forgives; but the kubelet has to ask for something.
        None if source.optional && !source.name.is_empty() => return,
        None => return files.problem(Problem::BadName { kind, name: source.name.clone() }),
    };
    let object = match files.lookup.object(&id) {
        Have::Ready(object) => object,
        Have::Missing if source.optional => return,
        Have::Missing => return files.problem(Problem::Missing { object: id }),
        Have::Refused(why) => return files.problem(Problem::Refused(why)),
        Have::Unknown => return files.problem(Problem::Unknown { what: id.to_string() }),
    };
    if source.items.is_empty() {
        for (key, value) in object.data() {
            files.insert(key.as_str(), None, None, value.clone());
        }
        return;
    }
    for item in &source.items {
        let value = Key::new(&item.key).ok().and_then(|key| object.data().get(&key));
        match value {
            Some(value) => files.insert(&item.path, item.mode, item.user, value.clone()),
            None if source.optional => {}
            None => files.problem(Problem::MissingKey { object: id.clone(), key: item.key.clone() }),
        }
    }
}
