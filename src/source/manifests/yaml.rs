//! YAML into [`Node`]s, as kubectl makes JSON of it (sigs.k8s.io/yaml with go-yaml v2): the first document of a text,
//! scalars by YAML 1.1 ([`super::scalar`]), aliases written out, `<<` merged, keys made strings.
//!
//! The parser's events first become an arena of raw nodes in which an alias is an index; then aliases are followed, with
//! go-yaml's own limit on how much they may multiply a document.

use std::collections::BTreeMap;

use serde_saphyr::granit_parser::{self as granit, ErrorKind, Event, Parser, ScalarStyle, ScanError};
use zeroize::Zeroize;

use super::base64;
use super::error::{Fault, Malformed};
use super::node::{Content, MAX_DEPTH, MAX_NODES, Map, Node, Place, Text};
use super::scalar::{self, Scalar, Tag};
use super::strict::Strict;

/// Reads the first document of `text`, which begins on line `line`; `None` if there is nothing but comments.
pub(super) fn first_document(text: &str, line: usize) -> Result<Option<Node>, Fault> {
    refuse_control_characters(text, line)?;
    let mut arena = Arena { line, nodes: Vec::new(), open: Vec::new(), anchors: BTreeMap::new(), root: None };
    let mut strict = Strict::new(text);
    let options = granit::options! {
        // As libyaml, of which go-yaml is a port.
        bom_inside_document_as_content: true,
        emit_anchor_events: true,
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| arena.scan_fault(&error))?;
        let place = arena.place(&span.start);
        strict.event(&event, &span).map_err(|why| Fault::new(place, why))?;
        match event {
            Event::DocumentEnd | Event::StreamEnd => break,
            Event::Scalar(value, style, anchor, tag) => {
                let scalar = RawScalar::new(value, style, tag.as_deref());
                arena.add(place, Raw::Scalar(scalar), anchor)?;
            }
            Event::SequenceStart(_, anchor, _) => arena.open(place, Raw::List(Vec::new()), anchor)?,
            Event::MappingStart(_, anchor, _) => arena.open(place, Raw::Map(Vec::new()), anchor)?,
            Event::SequenceEnd | Event::MappingEnd => {
                arena.open.pop();
            }
            Event::Alias(anchor) => {
                let target = *arena.anchors.get(&anchor).ok_or(Fault::new(place, Malformed::UnknownAnchor))?;
                arena.add(place, Raw::Alias(target), 0)?;
            }
            _ => {}
        }
    }
    strict.end().map_err(|(below, why)| Fault::new(Place::new(line + below, 1), why))?;
    let Some(root) = arena.root else { return Ok(None) };
    let open = vec![false; arena.nodes.len()];
    let mut expansion = Expansion { nodes: &arena.nodes, open, depth: 0, aliases: 0, decoded: 1, from_aliases: 0 };
    expansion.node(root).map(Some)
}

/// go-yaml's reader takes the printable characters of YAML 1.1 only (readerc.go, "control characters are not allowed").
fn refuse_control_characters(text: &str, line: usize) -> Result<(), Fault> {
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    match text.char_indices().find(|(_, c)| !allowed(*c)) {
        None => Ok(()),
        Some((at, _)) => {
            let before = &text[..at];
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            let place = Place::new(line + before.matches('\n').count(), column);
            Err(Fault::new(place, Malformed::ControlCharacter))
        }
    }
}

type Index = usize;

struct RawNode {
    place: Place,
    raw: Raw,
}

enum Raw {
    Scalar(RawScalar),
    List(Vec<Index>),
    /// Keys and values in turn.
    Map(Vec<Index>),
    Alias(Index),
}

struct RawScalar {
    text: Text,
    tag: Tag,
    /// Unquoted without a tag, or with the tag `!`: what libyaml calls plain_implicit.
    plain: bool,
}

impl RawScalar {
    fn new(value: std::borrow::Cow<'_, str>, style: ScalarStyle, tag: Option<&granit::Tag>) -> Self {
        let text = Text::copy_of(&value);
        if let std::borrow::Cow::Owned(mut value) = value {
            value.zeroize();
        }
        let uri = tag.map(|tag| format!("{}{}", tag.handle(), tag.suffix()));
        let plain = match uri.as_deref() {
            None => style == ScalarStyle::Plain,
            Some(uri) => uri == "!",
        };
        RawScalar { text, tag: uri.map_or(Tag::None, |uri| Tag::from_uri(&uri)), plain }
    }

    fn is_merge(&self) -> bool {
        self.text.as_str() == "<<" && (self.plain || self.tag == Tag::Merge)
    }

    fn resolve(&self) -> Result<Scalar, Malformed> {
        if self.tag == Tag::None && !self.plain {
            return Ok(Scalar::Text);
        }
        scalar::resolve(self.tag, self.text.as_str())
    }

    /// The string that `!!binary` encodes.
    fn binary(&self) -> Result<Text, Malformed> {
        base64::decode(self.text.as_str()).map(|bytes| Text::from_bytes(&bytes)).map_err(|_| Malformed::Tag)
    }
}

/// The document as it is written.
struct Arena {
    line: usize,
    nodes: Vec<RawNode>,
    open: Vec<Index>,
    anchors: BTreeMap<usize, Index>,
    root: Option<Index>,
}

impl Arena {
    fn place(&self, marker: &granit::Marker) -> Place {
        Place::new(self.line + marker.line().saturating_sub(1), marker.col() + 1)
    }

    fn add(&mut self, place: Place, raw: Raw, anchor: usize) -> Result<Index, Fault> {
        let index = self.nodes.len();
        if index == MAX_NODES {
            return Err(Fault::new(place, Malformed::TooManyValues));
        }
        self.nodes.push(RawNode { place, raw });
        if anchor != 0 {
            // Known before its children, so that an alias inside is found to be one to itself.
            self.anchors.insert(anchor, index);
        }
        match self.open.last() {
            None => self.root = self.root.or(Some(index)),
            Some(parent) => match &mut self.nodes[*parent].raw {
                Raw::List(members) | Raw::Map(members) => members.push(index),
                Raw::Scalar(_) | Raw::Alias(_) => {}
            },
        }
        Ok(index)
    }

    fn open(&mut self, place: Place, raw: Raw, anchor: usize) -> Result<(), Fault> {
        let index = self.add(place, raw, anchor)?;
        self.open.push(index);
        Ok(())
    }

    fn scan_fault(&self, error: &ScanError) -> Fault {
        let why = match error.kind() {
            ErrorKind::UnknownAnchor => Malformed::UnknownAnchor,
            ErrorKind::RecursionLimitExceeded => Malformed::TooDeep,
            ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabAtBlockScalarStart
            | ErrorKind::TabInIndentation
            | ErrorKind::TabInPlainScalar => Malformed::Tab,
            ErrorKind::UnclosedQuotedScalar | ErrorKind::DocumentIndicatorInQuotedScalar => Malformed::UnclosedQuote,
            ErrorKind::UnclosedFlowCollection { .. }
            | ErrorKind::MismatchedFlowCollectionEnd { .. }
            | ErrorKind::MisplacedFlowCollectionEnd
            | ErrorKind::UnexpectedEofFlowMapping
            | ErrorKind::UnexpectedEofFlowSequence
            | ErrorKind::UnexpectedEofImplicitFlowMapping
            | ErrorKind::ExpectedFlowMappingSeparator
            | ErrorKind::ExpectedFlowSequenceSeparator => Malformed::UnclosedBracket,
            ErrorKind::InvalidIndentation
            | ErrorKind::InvalidBlockScalarIndent
            | ErrorKind::InvalidQuotedScalarIndent
            | ErrorKind::ExpectedBlockMappingKey
            | ErrorKind::MappingValueNotAllowed
            | ErrorKind::MappingKeyNotAllowed => Malformed::Indentation,
            ErrorKind::UnknownQuotedScalarEscape
            | ErrorKind::InvalidQuotedScalarHexEscape
            | ErrorKind::InvalidUnicodeEscape
            | ErrorKind::InvalidLowSurrogateHexEscape
            | ErrorKind::InvalidLowSurrogate
            | ErrorKind::MissingLowSurrogate
            | ErrorKind::UnpairedLowSurrogate => Malformed::Escape,
            _ => Malformed::Yaml,
        };
        Fault::new(self.place(error.marker()), why)
    }
}

/// Follows aliases, counting as go-yaml's decoder counts (decode.go, `unmarshal` and `allowedAliasRatio`).
struct Expansion<'a> {
    nodes: &'a [RawNode],
    /// Which nodes are being expanded: an alias to one of them is an alias to itself.
    open: Vec<bool>,
    depth: usize,
    /// How many aliases we are inside of.
    aliases: usize,
    decoded: usize,
    from_aliases: usize,
}

impl Expansion<'_> {
    fn count(&mut self, place: Place) -> Result<(), Fault> {
        self.decoded += 1;
        if self.aliases > 0 {
            self.from_aliases += 1;
        }
        let (decoded, from_aliases) = (self.decoded as f64, self.from_aliases as f64);
        let allowed = match self.decoded {
            ..=400_000 => 0.99,
            4_000_000.. => 0.10,
            _ => 0.99 - 0.89 * ((decoded - 400_000.0) / 3_600_000.0),
        };
        if self.from_aliases > 100 && self.decoded > 1000 && from_aliases / decoded > allowed {
            return Err(Fault::new(place, Malformed::ExcessiveAliases));
        }
        Ok(())
    }

    fn node(&mut self, index: Index) -> Result<Node, Fault> {
        let RawNode { place, raw } = &self.nodes[index];
        let place = *place;
        self.count(place)?;
        let content = match raw {
            Raw::Alias(target) => return self.alias(place, *target, |this, target| this.node(target)),
            Raw::Scalar(scalar) => scalar_content(scalar).map_err(|why| Fault::new(place, why))?,
            Raw::List(members) => self.inside(index, |this| {
                let nodes = members.iter().map(|member| this.node(*member));
                nodes.collect::<Result<_, _>>().map(Content::List)
            })?,
            Raw::Map(_) => {
                let mut map = BTreeMap::new();
                self.entries(index, &mut map)?;
                Content::Map(map)
            }
        };
        Ok(Node { line: place.line, content })
    }

    fn alias<R>(
        &mut self,
        place: Place,
        target: Index,
        read: impl FnOnce(&mut Self, Index) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        if self.open[target] {
            return Err(Fault::new(place, Malformed::Recursive));
        }
        self.aliases += 1;
        let result = read(self, target);
        self.aliases -= 1;
        result
    }

    fn inside<R>(&mut self, index: Index, read: impl FnOnce(&mut Self) -> Result<R, Fault>) -> Result<R, Fault> {
        if self.depth == MAX_DEPTH {
            return Err(Fault::new(self.nodes[index].place, Malformed::TooDeep));
        }
        self.depth += 1;
        self.open[index] = true;
        let result = read(self);
        self.open[index] = false;
        self.depth -= 1;
        result
    }

    /// Puts the entries of the mapping at `index` into `map`, in the order in which they are written: a later key wins,
    /// and so does a later `<<` (go-yaml v2 differs from the YAML specification here).
    fn entries(&mut self, index: Index, map: &mut Map) -> Result<(), Fault> {
        let Raw::Map(members) = &self.nodes[index].raw else {
            return Err(Fault::new(self.nodes[index].place, Malformed::Merge));
        };
        self.inside(index, |this| {
            for entry in members.chunks_exact(2) {
                let [key, value] = [entry[0], entry[1]];
                if matches!(&this.nodes[key].raw, Raw::Scalar(scalar) if scalar.is_merge()) {
                    this.merge(value, map)?;
                    continue;
                }
                // A block begins on the line after its key, and who is told of a mistake looks for the key.
                let line = this.nodes[key].place.line;
                let key = this.key(key)?;
                let value = this.node(value)?;
                map.insert(key, Node { line, ..value });
            }
            Ok(())
        })
    }

    fn merge(&mut self, index: Index, map: &mut Map) -> Result<(), Fault> {
        let nodes = self.nodes;
        match &nodes[index].raw {
            Raw::List(members) => {
                // Backwards, as earlier mappings take precedence.
                members.iter().rev().try_for_each(|member| match nodes[*member].raw {
                    Raw::List(_) => Err(Fault::new(nodes[*member].place, Malformed::Merge)),
                    _ => self.merge_one(*member, map),
                })
            }
            _ => self.merge_one(index, map),
        }
    }

    fn merge_one(&mut self, index: Index, map: &mut Map) -> Result<(), Fault> {
        let place = self.nodes[index].place;
        self.count(place)?;
        match self.nodes[index].raw {
            Raw::Alias(target) => self.alias(place, target, |this, target| {
                this.count(place)?;
                this.entries(target, map)
            }),
            _ => self.entries(index, map),
        }
    }

    /// A key as sigs.k8s.io/yaml makes a string of it (yaml.go, `convertToJSONableObject`).
    fn key(&mut self, index: Index) -> Result<Text, Fault> {
        let RawNode { place, raw } = &self.nodes[index];
        let place = *place;
        self.count(place)?;
        let scalar = match raw {
            Raw::Scalar(scalar) => scalar,
            Raw::Alias(target) => return self.alias(place, *target, |this, target| this.key(target)),
            Raw::List(_) | Raw::Map(_) => return Err(Fault::new(place, Malformed::MapKey)),
        };
        let resolved = scalar.resolve().map_err(|why| Fault::new(place, why))?;
        match resolved {
            Scalar::Text => Ok(scalar.text.clone()),
            Scalar::Binary => scalar.binary().map_err(|why| Fault::new(place, why)),
            Scalar::Bool(value) => Ok(Text::copy_of(if value { "true" } else { "false" })),
            Scalar::Int(value) => Ok(Text::copy_of(&value.to_string())),
            Scalar::Float(value) => Ok(Text::copy_of(&scalar::float_key(value))),
            Scalar::Null | Scalar::Unsigned(_) => Err(Fault::new(place, Malformed::MapKey)),
        }
    }
}

fn scalar_content(scalar: &RawScalar) -> Result<Content, Malformed> {
    Ok(match scalar.resolve()? {
        Scalar::Null => Content::Null,
        Scalar::Bool(value) => Content::Bool(value),
        Scalar::Int(value) => Content::Int(value),
        Scalar::Unsigned(value) => Content::Float(value as f64),
        Scalar::Float(value) if value.is_finite() => Content::Float(value),
        Scalar::Float(_) => return Err(Malformed::NotJsonNumber),
        Scalar::Text => Content::Text(scalar.text.clone()),
        Scalar::Binary => Content::Text(scalar.binary()?),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::to_json;
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> Result<serde_json::Value, Malformed> {
        first_document(text, 1).map(|node| node.as_ref().map_or(json!(null), to_json)).map_err(|fault| fault.why)
    }

    #[test]
    fn keys_become_the_strings_that_kubectl_makes_of_them() {
        // Each answer is that of kubectl v1.37.2 (`kubectl patch --local`).
        let table = [
            ("yes: 1", json!({"true": 1})),
            ("0x10: 1", json!({"16": 1})),
            ("1.50: 1", json!({"1.5": 1})),
            ("1e7: 1", json!({"1e+07": 1})),
            (".inf: 1", json!({".inf": 1})),
            ("2001-01-01: 1", json!({"2001-01-01": 1})),
            ("!!str 1: 1", json!({"1": 1})),
            ("!!binary aGk=: 1", json!({"hi": 1})),
            ("'': 1", json!({"": 1})),
            ("a: &a 1\n*a : 2", json!({"a": 1, "1": 2})),
        ];
        for (text, want) in table {
            assert_eq!(read(text), Ok(want), "{text}");
        }
        for text in ["~: 1", "[a]: 1", "{a: b}: 1", "18446744073709551615: 1"] {
            assert_eq!(read(text), Err(Malformed::MapKey), "{text}");
        }
    }

    #[test]
    fn tags_and_quotes_decide_what_a_scalar_is() {
        let table = [
            ("[yes, 'yes', !!str yes, ! yes, !x yes, !!bool 'yes']", json!([true, "yes", "yes", "yes", "yes", true])),
            ("[0400, \"0400\", !!int '0400', !!float 1]", json!([256, "0400", 256, 1.0])),
            ("[!!binary aGk=, !!binary gICA]", json!(["hi", "\u{fffd}\u{fffd}\u{fffd}"])),
            ("[~, !!null '', '~', ]", json!([null, null, "~"])),
            ("!!set {a, b}", json!({"a": null, "b": null})),
        ];
        for (text, want) in table {
            assert_eq!(read(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn merges_happen_where_they_stand() {
        let base = "a: &a {x: 1, z: 1}\nb: &b {x: 2}\n";
        let table = [
            ("c: {<<: *a, x: 9}", json!({"x": 9, "z": 1})),
            ("c: {x: 9, <<: *a}", json!({"x": 1, "z": 1})),
            ("c: {<<: [*b, *a]}", json!({"x": 2, "z": 1})),
            ("c: {<<: {z: 3}}", json!({"z": 3})),
            ("c: {'<<': *b}", json!({"<<": {"x": 2}})),
        ];
        for (text, want) in table {
            assert_eq!(read(&format!("{base}{text}")).map(|value| value["c"].clone()), Ok(want), "{text}");
        }
        for text in ["c: {<<: 1}", "c: {<<: [1]}", "c: {<<: [[]]}", "s: &s 1\nc: {<<: *s}"] {
            assert_eq!(read(text), Err(Malformed::Merge), "{text}");
        }
    }

    #[test]
    fn an_anchor_may_be_set_again_and_must_be_set_before() {
        assert_eq!(read("a: &a 1\nb: *a\nc: &a 2\nd: *a"), Ok(json!({"a": 1, "b": 1, "c": 2, "d": 2})));
        assert_eq!(read("a: *a\nb: &a 1"), Err(Malformed::UnknownAnchor));
        assert_eq!(read("a: &a [1, [*a]]"), Err(Malformed::Recursive));
    }

    #[test]
    fn only_the_first_document_is_read() {
        assert_eq!(read("a: 1\n...\nb: ["), Ok(json!({"a": 1})));
        assert_eq!(read("# nothing\n"), Ok(json!(null)));
        assert_eq!(read("---\n"), Ok(json!(null)));
    }
}
