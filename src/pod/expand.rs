//! References to variables, `$(NAME)`. Source: third_party/forked/golang/expansion/expand.go.

use crate::object::Value;

/// A piece of a text with references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    Text(&'a str),
    /// The name, and the reference as it is written.
    Reference(&'a str, &'a str),
}

/// Takes a text apart: `$$` is a dollar, and a dollar before anything else than a whole reference is itself.
pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        pieces.push(Piece::Text(&rest[..at]));
        rest = &rest[at..];
        let mut after = rest[1..].chars();
        let (piece, length) = match after.next() {
            None => (Piece::Text(rest), 1),
            Some('$') => (Piece::Text("$"), 2),
            Some('(') => match rest.find(')') {
                Some(end) => (Piece::Reference(&rest[2..end], &rest[..=end]), end + 1),
                None => (Piece::Text("$("), 2),
            },
            Some(other) => (Piece::Text(&rest[..1 + other.len_utf8()]), 1 + other.len_utf8()),
        };
        pieces.push(piece);
        rest = &rest[length..];
    }
    pieces.push(Piece::Text(rest));
    pieces
}

/// The names that a text refers to.
pub(super) fn names(text: &str) -> impl Iterator<Item = &str> {
    pieces(text).into_iter().filter_map(|piece| match piece {
        Piece::Reference(name, _) => Some(name),
        Piece::Text(_) => None,
    })
}

/// Puts texts together, unless they have more than `limit` bytes. It is built at its full length, as growing would leave
/// copies of a value behind.
pub(super) fn joined(texts: &[&[u8]], limit: usize) -> Option<Value> {
    let length = texts.iter().map(|text| text.len()).sum();
    if length > limit {
        return None;
    }
    let mut whole = Vec::with_capacity(length);
    texts.iter().for_each(|text| whole.extend_from_slice(text));
    Some(Value::new(whole))
}
