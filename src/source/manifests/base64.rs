//! Base64 as Go reads it: standard alphabet, padding required, line breaks anywhere, spare bits at the end ignored
//! (encoding/base64 `StdEncoding`, not `Strict`). What comes out never lies in a buffer that is not wiped.

use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine as _, GeneralPurpose, GeneralPurposeConfig};

use crate::memory::Wiped;

const GO: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// Indicates text that is not base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotBase64;

/// How many bytes `text` decodes to, if every other character of it is a line break; there are never more.
pub(super) fn least_decoded(text: &str) -> usize {
    (text.len() / 8 * 3).saturating_sub(2)
}

/// Decodes `text`.
pub(super) fn decode(text: &str) -> Result<Wiped, NotBase64> {
    let mut joined;
    let encoded = if text.contains(['\r', '\n']) {
        joined = Wiped::zeroed(text.len());
        let mut len = 0;
        for byte in text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')) {
            joined[len] = byte;
            len += 1;
        }
        &joined[..len]
    } else {
        text.as_bytes()
    };
    let mut bytes = Wiped::zeroed(base64::decoded_len_estimate(encoded.len()));
    let len = GO.decode_slice(encoded, &mut bytes).map_err(|_| NotBase64)?;
    bytes.truncate(len);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_what_go_accepts() {
        let good = [("", ""), ("aGk=", "hi"), ("aG\r\nk=\n", "hi"), ("aGk\n=", "hi"), ("aGl=", "hi"), ("YWJj", "abc")];
        for (text, want) in good {
            assert_eq!(decode(text).as_deref(), Ok(want.as_bytes()), "{text:?}");
        }
        for bad in ["aGk", "aGk==", "a", "=", "aG k=", "aGk=YWJj", "_-==", "aGk=\t"] {
            assert_eq!(decode(bad), Err(NotBase64), "{bad:?}");
        }
    }
}
