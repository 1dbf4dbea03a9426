//! Go's `strconv.Quote`, in which the kubelet writes the values of labels and annotations.

mod printable;

use printable::PRINTABLE;

/// The most that quoting adds: one byte becomes four at most (`\x00`), and the quotes.
pub(super) fn longest(bytes: usize) -> usize {
    4 * bytes + 2
}

/// Appends `text` as a literal of Go, as `strconv.AppendQuote` does.
pub(super) fn quote(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        chunk.valid().chars().for_each(|c| escape(out, c));
        chunk.invalid().iter().for_each(|byte| hex(out, 'x', u32::from(*byte), 2));
    }
    out.push(b'"');
}

fn escape(out: &mut Vec<u8>, c: char) {
    match c {
        '"' | '\\' => out.extend([b'\\', c as u8]),
        '\x07' => out.extend(b"\\a"),
        '\x08' => out.extend(b"\\b"),
        '\x0c' => out.extend(b"\\f"),
        '\n' => out.extend(b"\\n"),
        '\r' => out.extend(b"\\r"),
        '\t' => out.extend(b"\\t"),
        '\x0b' => out.extend(b"\\v"),
        c if is_printable(c) => out.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
        c if c.is_ascii() => hex(out, 'x', c as u32, 2),
        c if (c as u32) < 0x10000 => hex(out, 'u', c as u32, 4),
        c => hex(out, 'U', c as u32, 8),
    }
}

fn hex(out: &mut Vec<u8>, letter: char, number: u32, digits: u32) {
    out.extend([b'\\', letter as u8]);
    out.extend((0..digits).rev().map(|digit| b"0123456789abcdef"[(number >> (4 * digit) & 0xf) as usize]));
}

/// Go's `strconv.IsPrint`: letters, marks, numbers, punctuation, symbols, and of all spaces the ASCII one.
fn is_printable(c: char) -> bool {
    let c = c as u32;
    if c < 0x80 {
        return (0x20..0x7f).contains(&c);
    }
    let after = PRINTABLE.partition_point(|(first, _)| *first <= c);
    after > 0 && c <= PRINTABLE[after - 1].1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quoted(text: &[u8]) -> String {
        let mut out = Vec::new();
        quote(&mut out, text);
        assert!(out.len() <= longest(text.len()));
        String::from_utf8(out).unwrap()
    }

    /// Of Go's src/strconv/quote_test.go.
    #[test]
    fn text_is_quoted_as_go_quotes_it() {
        let table: &[(&[u8], &str)] = &[
            (b"\x07\x08\x0c\r\n\t\x0b", r#""\a\b\f\r\n\t\v""#),
            (b"\\", r#""\\""#),
            (b"abc\xffdef", r#""abc\xffdef""#),
            ("\u{263a}".as_bytes(), "\"\u{263a}\""),
            ("\u{10ffff}".as_bytes(), r#""\U0010ffff""#),
            (b"\x04", r#""\x04""#),
            (b"\x7f", r#""\x7f""#),
            ("!\u{a0}!\u{2000}!\u{3000}!".as_bytes(), r#""!\u00a0!\u2000!\u3000!""#),
            ("\u{ad}".as_bytes(), r#""\u00ad""#),
            ("\u{feff}".as_bytes(), r#""\ufeff""#),
            ("\u{fffd}".as_bytes(), "\"\u{fffd}\""),
            (b"", r#""""#),
            (br#"{"VNI":1}"#, r#""{\"VNI\":1}""#),
            (b"it's", r#""it's""#),
        ];
        for (text, expected) in table {
            assert_eq!(quoted(text), *expected);
        }
    }

    /// The number is that of Go's own `IsPrint` over all characters.
    #[test]
    fn as_many_characters_are_printable_as_in_go() {
        let printable = (0x80..=0x10ffff).filter_map(char::from_u32).filter(|c| is_printable(*c)).count();
        assert_eq!(printable, 148_903);
        assert!(PRINTABLE.windows(2).all(|pair| pair[0].0 <= pair[0].1 && pair[0].1 + 1 < pair[1].0));
    }

    /// Reads a literal by the table of escapes in Go's language specification.
    fn unquoted(literal: &str) -> Vec<u8> {
        let inner = literal.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).expect("quotes");
        let mut chars = inner.chars();
        let mut out = Vec::new();
        while let Some(c) = chars.next() {
            assert!(c != '"' && !c.is_control() && c != '\u{a0}', "{literal}");
            if c != '\\' {
                out.extend(c.to_string().bytes());
                continue;
            }
            let escaped = chars.next().expect("an escape");
            let mut number = |digits: usize| {
                let text: String = chars.by_ref().take(digits).collect();
                u32::from_str_radix(&text, 16).expect("a number")
            };
            match escaped {
                'a' => out.push(7),
                'b' => out.push(8),
                'f' => out.push(12),
                'n' => out.push(10),
                'r' => out.push(13),
                't' => out.push(9),
                'v' => out.push(11),
                '\\' | '"' => out.push(escaped as u8),
                'x' => out.push(number(2) as u8),
                'u' => out.extend(char::from_u32(number(4)).expect("a character").to_string().bytes()),
                'U' => out.extend(char::from_u32(number(8)).expect("a character").to_string().bytes()),
                other => panic!("\\{other} in {literal}"),
            }
        }
        out
    }

    proptest! {
        #[test]
        fn what_is_quoted_can_be_read_back(text in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(unquoted(&quoted(&text)), text);
        }

        #[test]
        fn so_can_any_text(text in "\\PC*|.*") {
            prop_assert_eq!(unquoted(&quoted(text.as_bytes())), text.as_bytes());
        }
    }
}
