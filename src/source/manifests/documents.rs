//! The documents of a file, as kubectl takes a stream apart (apimachinery, util/yaml/decoder.go, `YAMLOrJSONDecoder`).
//!
//! A text whose first character is `{` is a sequence of JSON values; if that fails at its first or second value, the rest
//! is YAML. YAML is split at lines that begin with `---` before anybody parses it. kubectl gives a file up at its first
//! fault; we go on with the next document, so that one bad document does not take the others down.

use zeroize::Zeroizing;

use super::error::{Fault, Malformed};
use super::node::{Node, Place};
use super::{json, yaml};

/// One document, or what is wrong with it.
#[derive(Debug)]
pub(super) struct Document {
    /// Counted from 1; comments between two separators are a document.
    pub number: usize,
    /// `None` if it is empty.
    pub content: Result<Option<Node>, Fault>,
}

/// Takes the documents of a text one after another.
pub(super) struct Documents<'a> {
    rest: &'a str,
    /// The line that `rest` begins on.
    line: usize,
    number: usize,
    syntax: Syntax,
}

enum Syntax {
    /// So many values have been read.
    Json(usize),
    Yaml,
}

/// kubectl looks no further than this for the first character, in bytes (resource/visitor.go).
const GUESS: usize = 4096;

impl<'a> Documents<'a> {
    pub fn new(text: &'a str) -> Self {
        let head = &text.as_bytes()[..text.len().min(GUESS)];
        let json = String::from_utf8_lossy(head).trim_start().starts_with('{');
        Documents { rest: text, line: 1, number: 0, syntax: if json { Syntax::Json(0) } else { Syntax::Yaml } }
    }

    fn skip(&mut self, bytes: usize) {
        let (skipped, rest) = self.rest.split_at(bytes);
        self.line += skipped.matches('\n').count();
        self.rest = rest;
    }

    fn next_json(&mut self, read: usize) -> Option<Result<Option<Node>, Fault>> {
        match json::first_value(self.rest, self.line) {
            Ok(None) => None,
            Ok(Some((node, len))) => {
                self.skip(len);
                self.syntax = Syntax::Json(read + 1);
                Some(Ok(Some(node)))
            }
            Err(fault) => {
                // After two values there is no doubt that this is JSON.
                if read > 1 || !self.skip_to_yaml() {
                    self.rest = "";
                    return Some(Err(fault));
                }
                self.syntax = Syntax::Yaml;
                match self.next_yaml() {
                    // Text that begins with a brace was most likely meant to be JSON.
                    Some(Err(_)) if read == 0 => Some(Err(fault)),
                    next => next,
                }
            }
        }
    }

    /// Eats white space up to the end of the line that the last JSON value stands on. kubectl looks four bytes ahead and
    /// gives up when there are fewer.
    fn skip_to_yaml(&mut self) -> bool {
        while self.rest.len() >= 4 {
            let Some(next) = self.rest.chars().next() else { return false };
            if !next.is_whitespace() {
                return true;
            }
            self.skip(next.len_utf8());
            if next == '\n' {
                return true;
            }
        }
        false
    }

    fn next_yaml(&mut self) -> Option<Result<Option<Node>, Fault>> {
        let start = self.line;
        let mut lines = Chunk::new();
        while !self.rest.is_empty() {
            let (line, whole) = split_line(self.rest);
            if let Some(after) = line.strip_prefix("---") {
                let after = after.trim();
                if !(after.is_empty() || after.starts_with('#')) {
                    let fault = Fault::new(Place::new(self.line, 4), Malformed::Separator);
                    self.skip_document();
                    return Some(Err(fault));
                }
                if !lines.is_empty() {
                    self.skip(whole);
                    return Some(yaml::first_document(&lines.text(), start));
                }
            }
            lines.push(line);
            self.skip(whole);
        }
        (!lines.is_empty()).then(|| yaml::first_document(&lines.text(), start))
    }

    /// Goes past the next good separator.
    fn skip_document(&mut self) {
        while !self.rest.is_empty() {
            let (line, whole) = split_line(self.rest);
            self.skip(whole);
            let after = line.strip_prefix("---").map(str::trim);
            if after.is_some_and(|after| after.is_empty() || after.starts_with('#')) {
                return;
            }
        }
    }
}

impl Iterator for Documents<'_> {
    type Item = Document;

    fn next(&mut self) -> Option<Document> {
        let content = match self.syntax {
            Syntax::Json(read) => self.next_json(read),
            Syntax::Yaml => self.next_yaml(),
        }?;
        self.number += 1;
        Some(Document { number: self.number, content })
    }
}

/// The first line without its end (`\n` or `\r\n`), and how many bytes it takes with it.
fn split_line(text: &str) -> (&str, usize) {
    match text.find('\n') {
        Some(end) => (text[..end].strip_suffix('\r').unwrap_or(&text[..end]), end + 1),
        None => (text, text.len()),
    }
}

/// The lines of one YAML document.
struct Chunk<'a> {
    lines: Vec<&'a str>,
    bytes: usize,
}

impl<'a> Chunk<'a> {
    fn new() -> Self {
        Chunk { lines: Vec::new(), bytes: 0 }
    }

    fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    fn push(&mut self, line: &'a str) {
        self.bytes += line.len() + 1;
        self.lines.push(line);
    }

    /// The lines put together, each ended by `\n`. YAML 1.1's other line break, U+0085, becomes one too: libyaml makes no
    /// difference between them, and the parser, which is one of YAML 1.2, does not know it.
    fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(self.bytes));
        for line in &self.lines {
            for (nth, part) in line.split('\u{85}').enumerate() {
                if nth > 0 {
                    text.push('\n');
                }
                text.push_str(part);
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::to_json;
    use super::*;
    use serde_json::json;

    /// What the documents of a text say: `null` for an empty one, the line of the fault for a bad one.
    fn read(text: &str) -> Vec<Result<serde_json::Value, u32>> {
        let content = Documents::new(text).map(|document| document.content);
        content.map(|c| c.map(|node| node.as_ref().map_or(json!(null), to_json)).map_err(|f| f.place.line)).collect()
    }

    #[test]
    fn yaml_documents_end_at_separators() {
        assert_eq!(read("a: 1\n---\nb: 2\n"), [Ok(json!({"a": 1})), Ok(json!({"b": 2}))]);
        assert_eq!(read("---\na: 1\n--- # next\r\nb: 2"), [Ok(json!({"a": 1})), Ok(json!({"b": 2}))]);
        assert_eq!(read("# only a comment\n---\na: 1\n"), [Ok(json!(null)), Ok(json!({"a": 1}))]);
        assert_eq!(read(""), []);
        assert_eq!(read("---\n---\n"), [Ok(json!(null))]);
        assert_eq!(read("a: |\n  x\n  ---\n"), [Ok(json!({"a": "x\n---\n"}))]);
    }

    #[test]
    fn only_the_first_document_of_a_chunk_counts() {
        assert_eq!(read("a: 1\n...\nb: 2\n"), [Ok(json!({"a": 1}))]);
    }

    #[test]
    fn carriage_returns_before_line_feeds_are_no_content() {
        assert_eq!(read("a: |\r\n  x\r\n  y\r\n"), [Ok(json!({"a": "x\ny\n"}))]);
    }

    #[test]
    fn json_values_follow_one_another_and_yaml_may_follow_the_first() {
        assert_eq!(
            read("{\"a\":1}{\"b\":2}\n{\"c\":3}"),
            [Ok(json!({"a": 1})), Ok(json!({"b": 2})), Ok(json!({"c": 3}))]
        );
        assert_eq!(read("{\"a\":1}\n---\nb: 2\n"), [Ok(json!({"a": 1})), Ok(json!({"b": 2}))]);
        assert_eq!(read("{a: 1, b: yes}\n"), [Ok(json!({"a": 1, "b": true}))]);
        assert_eq!(read("{\"a\":1}{\"b\":2}\n---\nb: 2\n"), [Ok(json!({"a": 1})), Ok(json!({"b": 2})), Err(2)]);
    }

    #[test]
    fn a_bad_document_leaves_the_others() {
        assert_eq!(read("a: [\n---\nb: 2\n"), [Err(1), Ok(json!({"b": 2}))]);
        assert_eq!(
            read("a: 1\n---\nb: \"x\n-----BEGIN\n\"\n---\nc: 3\n"),
            [Ok(json!({"a": 1})), Err(4), Ok(json!({"c": 3}))]
        );
        assert_eq!(read("{\"a\": 1,\n \"b\" 2}"), [Err(2)]);
    }
}
