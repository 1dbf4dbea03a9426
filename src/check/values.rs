//! Mistakes that the values of a Secret or ConfigMap look like. Guesses, so that they are warnings; no value is told.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::{Finding, Severity};
use crate::object::{Key, Kind, Object, Value};

/// What is shorter is text that happens to be base64 too often.
const SHORTEST: usize = 6;

/// What looks like a mistake in the object's values.
pub fn mistakes(object: &Object) -> Vec<Finding> {
    let warning = |rule, message| Finding::new(Severity::Warning, rule, object.id(), message).about(object.id());
    let mut found = Vec::new();
    if let Some(key) = odd_newline(object) {
        let message = format!(
            "the value of {key:?} ends in a newline and no other does, as echo without -n makes it: take it off if it is not meant"
        );
        found.push(warning("odd-newline", message));
    }
    // In a ConfigMap, which is written as it is, base64 is meant.
    let secret = object.data().iter().filter(|_| object.id().kind == Kind::Secret);
    for (key, _) in secret.filter(|(_, value)| is_encoded(value)) {
        let message = format!(
            "the value of {key:?} is base64 of text, as if it had been encoded twice: put the text itself below stringData, or \
             encode it once below data"
        );
        found.push(warning("encoded-twice", message));
    }
    found
}

/// The one key whose value is a single line with its end, where none of the others ends so. Text of more lines ends in a newline by
/// right, and so does a ConfigMap's only line.
fn odd_newline(object: &Object) -> Option<&Key> {
    let mut ending = object.data().iter().filter(|(_, value)| value.as_bytes().ends_with(b"\n"));
    let (key, value) = ending.next()?;
    let lines = value.as_bytes().iter().filter(|byte| **byte == b'\n').count();
    let is_alone = ending.next().is_none() && lines == 1;
    let can_tell = object.id().kind == Kind::Secret || object.data().len() > 1;
    (is_alone && can_tell && value.len() > 1).then_some(key)
}

fn is_encoded(value: &Value) -> bool {
    let text = value.as_bytes().trim_ascii();
    let Ok(decoded) = BASE64_STANDARD.decode(text) else { return false };
    let is_printable = |byte: &u8| (b' '..=b'~').contains(byte) || b"\t\r\n".contains(byte);
    decoded.len() >= SHORTEST && decoded.iter().all(is_printable)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::object::{Body, Data, Meta, Name, Namespace, ObjectId};

    fn rules(kind: Kind, values: &[(&str, &str)]) -> Vec<&'static str> {
        let value = |(key, text): &(&str, &str)| (Key::new(key).unwrap(), Value::copy_of(text.as_bytes()));
        let body = Body::Data(Data { values: values.iter().map(value).collect(), ..Data::default() });
        let id = ObjectId { namespace: Namespace::new("ns").unwrap(), kind, name: Name::new("o").unwrap() };
        let meta = Meta { id, uid: "u".into(), version: "1".into(), created: SystemTime::UNIX_EPOCH };
        mistakes(&Object { meta, body }).iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn a_newline_is_odd_where_no_other_value_has_one() {
        let of = |values: &[(&str, &str)]| rules(Kind::Secret, values);
        assert_eq!(of(&[("a", "x\n")]), ["odd-newline"]);
        assert_eq!(of(&[("a", "x\n"), ("b", "y")]), ["odd-newline"]);
        for fine in
            [&[("a", "x\n"), ("b", "y\n")][..], &[("a", "x\ny\n"), ("b", "z")], &[("a", "\n")], &[("a", "x")], &[]]
        {
            assert_eq!(of(fine), [""; 0], "{fine:?}");
        }
        assert_eq!(rules(Kind::ConfigMap, &[("a", "x\n")]), [""; 0]);
        assert_eq!(rules(Kind::ConfigMap, &[("a", "x\n"), ("b", "y")]), ["odd-newline"]);
    }

    #[test]
    fn what_is_encoded_twice_is_text_within() {
        let random = BASE64_STANDARD.encode([0x9f, 0x01, 0xfe, 0x33, 0x80, 0x00, 0x12, 0xff]);
        for (text, expected) in [
            ("aHVudGVyMg==", true),
            ("aHVudGVyMg==\n", true),
            ("hunter2", false),
            ("password", false),
            ("YWJj", false),
            ("", false),
            (&random, false),
        ] {
            let found = rules(Kind::Secret, &[("a", text), ("b", "y\n")]);
            assert_eq!(found.contains(&"encoded-twice"), expected, "{text}");
        }
        assert_eq!(rules(Kind::ConfigMap, &[("a", "aHVudGVyMg==")]), [""; 0]);
    }
}
