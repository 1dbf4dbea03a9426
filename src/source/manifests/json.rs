//! JSON into [`Node`]s, by the rules of Go's encoding/json.
//!
//! serde_json would do, but for three things: it keeps unescaped strings in a buffer that nobody wipes (a key in PEM form
//! is full of escapes), it refuses lone surrogates where Go writes U+FFFD, and it does not say where a value stands.

use std::collections::BTreeMap;

use super::error::{Fault, Malformed};
use super::node::{Content, MAX_DEPTH, MAX_NODES, Map, Node, Place, Text};

/// Reads the first value of `text`, which begins on line `line`. Returns it and how many bytes it took, `None` if there
/// is nothing but white space.
pub(super) fn first_value(text: &str, line: usize) -> Result<Option<(Node, usize)>, Fault> {
    let mut reader = Reader { text, at: 0, line, line_start: 0, depth: 0, nodes: 0 };
    reader.skip_space();
    if reader.peek().is_none() {
        return Ok(None);
    }
    let node = reader.value()?;
    Ok(Some((node, reader.at)))
}

struct Reader<'a> {
    text: &'a str,
    /// The next byte.
    at: usize,
    line: usize,
    /// Where the line begins; before the text if it began earlier.
    line_start: usize,
    depth: usize,
    nodes: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b'\n' => {
                    self.line += 1;
                    self.line_start = self.at + 1;
                }
                b' ' | b'\t' | b'\r' => {}
                _ => return,
            }
            self.at += 1;
        }
    }

    fn place(&self) -> Place {
        // A string can hold no line break, so no value before this one on the line hides one.
        let before = self.text.get(self.line_start..self.at).unwrap_or_default();
        Place::new(self.line, before.chars().count() + 1)
    }

    fn fault<T>(&self, why: Malformed) -> Result<T, Fault> {
        Err(Fault::new(self.place(), why))
    }

    fn expect(&mut self, byte: u8) -> Result<(), Fault> {
        if self.peek() != Some(byte) {
            return self.fault(Malformed::Json);
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self) -> Result<Node, Fault> {
        let line = Place::new(self.line, 1).line;
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return self.fault(Malformed::TooManyValues);
        }
        let content = match self.peek() {
            Some(b'{') => self.nested(Self::map)?,
            Some(b'[') => self.nested(Self::list)?,
            Some(b'"') => Content::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => self.word()?,
        };
        Ok(Node { line, content })
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Content, Fault>) -> Result<Content, Fault> {
        if self.depth == MAX_DEPTH {
            return self.fault(Malformed::TooDeep);
        }
        self.depth += 1;
        self.at += 1;
        self.skip_space();
        let content = read(self)?;
        self.depth -= 1;
        Ok(content)
    }

    fn map(&mut self) -> Result<Content, Fault> {
        let mut map: Map = BTreeMap::new();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Content::Map(map));
        }
        loop {
            let key = self.string()?;
            self.skip_space();
            self.expect(b':')?;
            self.skip_space();
            let value = self.value()?;
            map.insert(key, value);
            if self.ends(b'}')? {
                return Ok(Content::Map(map));
            }
        }
    }

    fn list(&mut self) -> Result<Content, Fault> {
        let mut list = Vec::new();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Content::List(list));
        }
        loop {
            list.push(self.value()?);
            if self.ends(b']')? {
                return Ok(Content::List(list));
            }
        }
    }

    /// Takes the comma or the closing bracket after a member.
    fn ends(&mut self, close: u8) -> Result<bool, Fault> {
        self.skip_space();
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(true);
        }
        self.expect(b',')?;
        self.skip_space();
        Ok(false)
    }

    fn word(&mut self) -> Result<Content, Fault> {
        let words = [("null", Content::Null), ("true", Content::Bool(true)), ("false", Content::Bool(false))];
        for (word, content) in words {
            if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(content);
            }
        }
        self.fault(Malformed::Json)
    }

    fn number(&mut self) -> Result<Content, Fault> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        let mut whole = true;
        if self.peek() == Some(b'.') {
            whole = false;
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            whole = false;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let text = &self.text[start..self.at];
        match text.parse() {
            Ok(int) if whole => Ok(Content::Int(int)),
            _ => match text.parse::<f64>() {
                Ok(float) if float.is_finite() => Ok(Content::Float(float)),
                _ => self.fault(Malformed::NotJsonNumber),
            },
        }
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { self.fault(Malformed::Json) } else { Ok(()) }
    }

    fn string(&mut self) -> Result<Text, Fault> {
        if self.peek() != Some(b'"') {
            return self.fault(Malformed::Json);
        }
        let start = self.at + 1;
        let mut end = start;
        let mut escaped = false;
        loop {
            match self.text.as_bytes().get(end) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    end += 2;
                }
                Some(0x20..) => end += 1,
                Some(_) => {
                    self.at = end;
                    return self.fault(Malformed::ControlCharacter);
                }
                None => return self.fault(Malformed::UnclosedQuote),
            }
        }
        let raw = &self.text[start..end];
        self.at = start;
        let text = if escaped { self.unescaped(raw)? } else { Text::copy_of(raw) };
        self.at = end + 1;
        Ok(text)
    }

    fn unescaped(&mut self, raw: &str) -> Result<Text, Fault> {
        // No escape is shorter than what it stands for, so the buffer never grows.
        let mut bytes = zeroize::Zeroizing::new(String::with_capacity(raw.len()));
        let mut rest = raw;
        while let Some(backslash) = rest.find('\\') {
            bytes.push_str(&rest[..backslash]);
            match unescape(&rest[backslash + 1..]) {
                Some((character, len)) => {
                    bytes.push(character);
                    rest = &rest[backslash + 1 + len..];
                }
                None => {
                    self.at += raw.len() - rest.len() + backslash;
                    return self.fault(Malformed::Json);
                }
            }
        }
        bytes.push_str(rest);
        Ok(Text::copy_of(&bytes))
    }
}

/// The character that the escape after a backslash stands for, and the escape's length.
fn unescape(text: &str) -> Option<(char, usize)> {
    let character = match text.as_bytes().first()? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let first = hex4(&text[1..])?;
            if let Some(character) = char::from_u32(first) {
                return Some((character, 5));
            }
            // A pair of surrogates is one character; a lone one is none.
            let second = text.get(5..7).filter(|next| *next == "\\u").and_then(|_| hex4(&text[7..]));
            return match second {
                Some(second @ 0xdc00..=0xdfff) if first < 0xdc00 => {
                    char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)).map(|c| (c, 11))
                }
                _ => Some((char::REPLACEMENT_CHARACTER, 5)),
            };
        }
        _ => return None,
    };
    Some((character, 1))
}

fn hex4(text: &str) -> Option<u32> {
    let digits = text.get(..4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::super::testing::to_json;
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<serde_json::Value, Fault> {
        first_value(text, 1).map(|found| to_json(&found.unwrap().0))
    }

    #[test]
    fn json_means_what_go_says() {
        let table = [
            (r#"{"a": 1, "a": "last wins"}"#, r#"{"a": "last wins"}"#),
            (r#""\ud83d\ude00 \ud83d \udc00x""#, "\"\u{1f600} \u{fffd} \u{fffd}x\""),
            (r#""\/\u0041\n""#, r#""/A\n""#),
            ("[-0, 1e2, 18446744073709551616]", "[0, 100.0, 18446744073709551616.0]"),
        ];
        for (text, want) in table {
            assert_eq!(read(text).unwrap(), serde_json::from_str::<serde_json::Value>(want).unwrap(), "{text}");
        }
    }

    #[test]
    fn a_fault_is_placed_to_the_character() {
        let table = [
            ("{\n  \"ä\": nul}", 2, 8),
            ("{\"a\": \"x\ny\"}", 1, 9),
            ("[01]", 1, 3),
            ("{\"a\": \"\\x\"}", 1, 8),
            ("{\"a\" 1}", 1, 6),
            ("[1,]", 1, 4),
            ("{\"a\": \"b", 1, 7),
        ];
        for (text, line, column) in table {
            assert_eq!(read(text).unwrap_err().place, Place { line, column }, "{text}");
        }
    }

    #[test]
    fn nesting_has_a_limit() {
        let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
        assert!(read(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(read(&nested(MAX_DEPTH + 1)).unwrap_err().why, Malformed::TooDeep);
        assert_eq!(read(&"[".repeat(1 << 20)).unwrap_err().why, Malformed::TooDeep);
    }

    mod properties {
        use super::*;

        proptest! {
            #[test]
            fn what_serde_json_writes_comes_back(value in super::super::super::testing::any_json()) {
                prop_assert_eq!(read(&value.to_string()).unwrap(), value.clone());
                prop_assert_eq!(read(&serde_json::to_string_pretty(&value).unwrap()).unwrap(), value);
            }

            #[test]
            fn any_text_is_read_or_refused(text in r#"[\[\]{}:,"\\0-9eE.+\-untrlfas \n\u{e4}]{0,40}"#) {
                let ours = first_value(&text, 1).ok().flatten().map(|(node, _)| to_json(&node));
                let theirs = serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>().next();
                // Where serde_json reads a value so do we, the same one; only surrogates and such are ours alone.
                if let Some(Ok(theirs)) = theirs {
                    prop_assert_eq!(ours.map(one_zero), Some(one_zero(theirs)));
                }
            }
        }

        /// Go reads -0 as the integer 0, serde_json as a float.
        fn one_zero(value: serde_json::Value) -> serde_json::Value {
            match value {
                serde_json::Value::Number(number) if number.as_f64() == Some(0.0) => 0.into(),
                serde_json::Value::Array(members) => members.into_iter().map(one_zero).collect(),
                serde_json::Value::Object(entries) => {
                    entries.into_iter().map(|(key, value)| (key, one_zero(value))).collect()
                }
                other => other,
            }
        }
    }
}
