//! From the bytes of a file to its text, as kubectl decodes them: byte order marks and UTF-16 understood, bytes that are
//! not UTF-8 replaced by U+FFFD (cli-runtime, resource/visitor.go: `unicode.BOMOverride(unicode.UTF8.NewDecoder())`).

use zeroize::Zeroizing;

/// Decodes the whole of a file.
pub(super) fn decode(mut bytes: Zeroizing<Vec<u8>>) -> Zeroizing<String> {
    match bytes.as_slice() {
        [0xef, 0xbb, 0xbf, rest @ ..] => lossy(rest),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        _ => match String::from_utf8(std::mem::take(&mut *bytes)) {
            Ok(text) => Zeroizing::new(text),
            Err(error) => lossy(&Zeroizing::new(error.into_bytes())),
        },
    }
}

/// Like `String::from_utf8_lossy`, without growing a buffer that holds values.
fn lossy(bytes: &[u8]) -> Zeroizing<String> {
    let replaced = |chunk: &std::str::Utf8Chunk<'_>| if chunk.invalid().is_empty() { "" } else { "\u{fffd}" };
    let len = bytes.utf8_chunks().map(|chunk| chunk.valid().len() + replaced(&chunk).len()).sum();
    let mut text = Zeroizing::new(String::with_capacity(len));
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.push_str(replaced(&chunk));
    }
    text
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Zeroizing<String> {
    let units = || bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    let chars = || char::decode_utf16(units()).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER));
    let odd = if bytes.len() % 2 == 1 { "\u{fffd}" } else { "" };
    let len = chars().map(char::len_utf8).sum::<usize>() + odd.len();
    let mut text = Zeroizing::new(String::with_capacity(len));
    text.extend(chars());
    text.push_str(odd);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn decodes(bytes: &[u8], want: &str) {
        assert_eq!(*decode(Zeroizing::new(bytes.to_vec())), want);
    }

    #[test]
    fn text_is_utf_8_unless_a_byte_order_mark_says_otherwise() {
        decodes(b"a: 1", "a: 1");
        decodes(b"\xef\xbb\xbfa: 1", "a: 1");
        decodes(b"\xff\xfea\0:\0\x3d\xd8\x00\xde", "a:\u{1f600}");
        decodes(b"\xfe\xff\0a\0:", "a:");
    }

    #[test]
    fn what_is_not_text_becomes_the_replacement_character_as_with_kubectl() {
        decodes(b"a: \xff\xfe!", "a: \u{fffd}\u{fffd}!");
        decodes(b"a: \xe2\x82!", "a: \u{fffd}!");
        decodes(b"\xff\xfea\0\x00\xd8b", "a\u{fffd}\u{fffd}");
    }
}
