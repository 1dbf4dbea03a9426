//! Files about the pod itself. Source: `CollectData`, pkg/volume/downwardapi/downwardapi.go.

use super::collect::Files;
use super::path::clean;
use super::{Problem, field, resources};
use crate::object::Value;
use crate::object::pod::{DownwardItem, DownwardSource};

pub(super) fn add(files: &mut Files, source: &DownwardSource) {
    for item in &source.items {
        match content(files, item) {
            Ok(bytes) if files.has_room(bytes.len()) => {
                // Unlike other sources it cleans a path first and checks it then, so that `a/../b` is no mistake.
                let path = if item.path.is_empty() { String::new() } else { clean(&item.path) };
                files.insert(&path, item.mode, item.user, bytes);
            }
            Ok(_) => return,
            Err(problem) => files.problem(problem),
        }
    }
}

fn content(files: &Files, item: &DownwardItem) -> Result<Value, Problem> {
    if let Some(from) = &item.field_ref {
        return field::in_volume(files.subject, &from.field_path);
    }
    match &item.resource_field_ref {
        Some(from) => Ok(Value::new(resources::in_volume(files.subject, from, files.lookup)?.into_bytes())),
        // An item that says nothing is an empty file.
        None => Ok(Value::copy_of(&[])),
    }
}
