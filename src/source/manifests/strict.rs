//! Refuses what YAML 1.2, which our parser speaks, takes and YAML 1.1 as kubectl's libyaml reads it does not, or not in
//! the same sense. Without these checks the same file could mean one thing to kubectl and another to us.

use serde_saphyr::granit_parser::{Event, Marker, ScalarStyle, Span, StructureStyle};

use super::error::Malformed;

/// Looks at the events of one document as they come.
pub(super) struct Strict<'a> {
    text: &'a str,
    /// For each open collection, whether it is written with brackets.
    open: Vec<bool>,
    /// How many U+2028 and U+2029 are in the text, less those within quotes so far.
    separators: usize,
    /// For each line that a scalar or a bracketed collection goes on in, `true`; empty if the text has no tab.
    continued: Vec<bool>,
    /// The line on which the outermost open bracket stands, from 0.
    bracket: usize,
}

impl<'a> Strict<'a> {
    pub fn new(text: &'a str) -> Self {
        let lines = if text.contains('\t') { text.lines().count() } else { 0 };
        let continued = vec![false; lines];
        Strict { text, open: Vec::new(), separators: line_separators(text), continued, bracket: 0 }
    }

    pub fn event(&mut self, event: &Event<'_>, span: &Span) -> Result<(), Malformed> {
        let source = span.slice(self.text).unwrap_or_default();
        let after = || span.byte_range().and_then(|range| self.text.get(range.end..)).unwrap_or_default();
        let in_brackets = self.open.last() == Some(&true);
        match event {
            Event::SequenceStart(style, ..) | Event::MappingStart(style, ..) => {
                if !in_brackets {
                    self.bracket = line(&span.start);
                }
                self.open.push(*style == StructureStyle::Flow);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.open.pop();
                if in_brackets && self.open.last() != Some(&true) {
                    self.goes_on(self.bracket + 1, line(&span.end));
                }
            }
            Event::Anchor(..) | Event::Alias(_) => anchor_name(source, after())?,
            Event::Scalar(value, style, ..) => {
                // The span of a block scalar begins with its content, not with its `|`.
                let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                self.goes_on(line(&span.start) + usize::from(!block), line(&span.end));
                match style {
                    ScalarStyle::Plain if in_brackets => flow_plain(source, after())?,
                    ScalarStyle::DoubleQuoted => {
                        surrogates(source)?;
                        self.separators = self.separators.saturating_sub(lone_separators(source));
                    }
                    ScalarStyle::SingleQuoted => {
                        self.separators = self.separators.saturating_sub(lone_separators(source));
                    }
                    ScalarStyle::Literal | ScalarStyle::Folded => {
                        let before = span.byte_range().and_then(|range| self.text.get(..range.start));
                        block_tab(value, before.unwrap_or_default())?;
                    }
                    ScalarStyle::Plain => {}
                }
                if in_brackets {
                    one_line_key(source, after())?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn goes_on(&mut self, first: usize, last: usize) {
        let last = last.min(self.continued.len().saturating_sub(1));
        if let Some(lines) = self.continued.get_mut(first..=last) {
            lines.fill(true);
        }
    }

    /// To be called after the last event of the document; an error comes with its line, from 0.
    pub fn end(&self) -> Result<(), (usize, Malformed)> {
        if self.separators > 0 {
            let line = self.text.lines().position(|line| line_separators(line) > 0).unwrap_or_default();
            return Err((line, Malformed::LineSeparator));
        }
        let mut lines = self.text.lines().zip(&self.continued);
        match lines.position(|(line, continued)| !continued && has_leading_tab(line)) {
            Some(line) => Err((line, Malformed::Tab)),
            None => Ok(()),
        }
    }
}

/// The line of a marker, from 0.
fn line(marker: &Marker) -> usize {
    marker.line().saturating_sub(1)
}

/// Whether a tab stands before the first word of a line or between it and the '-' or '?' before it (scannerc.go,
/// `yaml_parser_scan_to_next_token`). Lines without a word are left alone: whether kubectl takes a tab there depends on
/// what is above, and nothing on what it means.
fn has_leading_tab(line: &str) -> bool {
    let mut rest = line;
    loop {
        let content = rest.trim_start_matches([' ', '\t']);
        if rest[..rest.len() - content.len()].contains('\t') {
            return !content.is_empty() && !content.starts_with('#');
        }
        match content.strip_prefix(['-', '?']) {
            Some(next) if next.starts_with([' ', '\t']) => rest = next,
            _ => return false,
        }
    }
}

/// A key within brackets and its ':' stand on one line (scannerc.go, `yaml_simple_key_is_valid`).
fn one_line_key(source: &str, after: &str) -> Result<(), Malformed> {
    let colon = after.trim_start();
    let broken = source.contains(['\n', '\r']) || after[..after.len() - colon.len()].contains(['\n', '\r']);
    if colon.starts_with(':') && broken { Err(Malformed::KeyLine) } else { Ok(()) }
}

const SEPARATORS: [char; 2] = ['\u{2028}', '\u{2029}'];

/// U+2028 and U+2029 end lines in YAML 1.1 but not in YAML 1.2. Elsewhere than within quotes kubectl would read something
/// else, mostly a syntax error.
fn line_separators(text: &str) -> usize {
    if text.is_ascii() { 0 } else { text.matches(SEPARATORS).count() }
}

/// How many of them stand between characters that are no white space. Within quotes those are kept as they are.
fn lone_separators(text: &str) -> usize {
    let blank = |c: Option<char>| c.is_none_or(|c| matches!(c, ' ' | '\t' | '\n' | '\r') || SEPARATORS.contains(&c));
    let lone = |(at, separator): &(usize, &str)| {
        !blank(text[..*at].chars().next_back()) && !blank(text[at + separator.len()..].chars().next())
    };
    if text.is_ascii() { 0 } else { text.match_indices(SEPARATORS).filter(lone).count() }
}

/// `&name` and `*name` consist of letters, digits, '_' and '-' (scannerc.go, `yaml_parser_scan_anchor`).
fn anchor_name(source: &str, after: &str) -> Result<(), Malformed> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let ends = after.chars().next().is_none_or(|c| c.is_whitespace() || "?:,]}%@`".contains(c));
    if ends && source.get(1..).is_some_and(|name| name.chars().all(good)) { Ok(()) } else { Err(Malformed::AnchorName) }
}

/// A block scalar may begin with a tab only if its header says how far it is indented (scannerc.go,
/// `yaml_parser_scan_block_scalar_breaks`).
fn block_tab(value: &str, before: &str) -> Result<(), Malformed> {
    if !value.trim_start_matches('\n').starts_with('\t') {
        return Ok(());
    }
    let header = before.trim_end().lines().next_back().unwrap_or_default();
    let header = header.split(" #").next().unwrap_or_default();
    let indicators = header.rsplit(['|', '>']).next().unwrap_or_default();
    if indicators.contains(|c: char| c.is_ascii_digit()) { Ok(()) } else { Err(Malformed::Tab) }
}

/// Within brackets an unquoted scalar ends at '?', does not begin with ':', and a ':' before a bracket or comma belongs
/// to it (scannerc.go, `yaml_parser_scan_plain_scalar`).
fn flow_plain(source: &str, after: &str) -> Result<(), Malformed> {
    let key_without_space = after.strip_prefix(':').is_some_and(|rest| rest.starts_with([',', '[', ']', '{', '}']));
    if source.contains('?') || source.starts_with(':') || key_without_space {
        return Err(Malformed::FlowPlain);
    }
    Ok(())
}

/// JSON's pairs of surrogate escapes are no YAML 1.1: go-yaml refuses each half.
fn surrogates(source: &str) -> Result<(), Malformed> {
    let mut rest = source;
    while let Some(backslash) = rest.find('\\') {
        let escape = &rest[backslash + 1..];
        let digits = if escape.starts_with('u') { escape.get(1..5) } else { None };
        if digits.is_some_and(|d| d.starts_with(['d', 'D']) && d.as_bytes()[1].to_ascii_lowercase() >= b'8') {
            return Err(Malformed::Escape);
        }
        // Past the backslash and what it escapes, which may be another backslash.
        let escaped = escape.chars().next().map_or(0, char::len_utf8);
        rest = &escape[escaped..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::error::Malformed;
    use super::super::yaml::first_document;

    #[test]
    fn what_kubectl_does_not_take_is_refused() {
        // All refused by kubectl v1.37.2, all YAML 1.2.
        let table = [
            ("a: [x?]", Malformed::FlowPlain),
            ("a: [:x]", Malformed::FlowPlain),
            ("a: {b:}", Malformed::FlowPlain),
            ("a: [::1]", Malformed::FlowPlain),
            ("a: {\n  b\n  c: d}", Malformed::KeyLine),
            ("a: &b.c d", Malformed::AnchorName),
            ("a: \"\\ud83d\\ude00\"", Malformed::Escape),
            ("a: b\u{2028}c", Malformed::LineSeparator),
            ("\ta: b", Malformed::Tab),
            ("a:\n- \tb", Malformed::Tab),
            ("a:\n  \tb: c", Malformed::Tab),
            ("a: | # 1\n\n  \tb", Malformed::Tab),
        ];
        for (text, want) in table {
            assert_eq!(first_document(text, 1).map_err(|fault| fault.why).err(), Some(want), "{text:?}");
        }
    }

    #[test]
    fn what_kubectl_takes_is_taken() {
        let table = [
            "a: x?",
            "a: ['x?', \":x\", x:y, http://x:80/]",
            "a: {\"b\":c, 'd':e, f: }",
            "a: \"\\\\ud83d\"",
            "a: 'b\u{2028}c'",
            "a:\tb\t# c",
            "a: |\n  c\n  \tb",
            "a: 'b\n\tc'",
            "a: b\n \tc",
            "a: |1 # x\n\n  \tb",
            "a: >+2\n  \tb",
            "a: b\n\t\n",
        ];
        for text in table {
            assert_eq!(first_document(text, 1).err(), None, "{text:?}");
        }
    }
}
