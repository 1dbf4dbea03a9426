//! The one type that carries the value of a key.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroize;

use crate::memory::Wiped;

/// The value of one key, or any file content made of values. Cloning shares it; the last owner wipes it.
/// It has no `Display`, and its `Debug` says only how long it is, so that no value can reach a log.
#[derive(Clone)]
pub struct Value(Arc<Wiped>);

impl Value {
    /// Moves the bytes into the arena and wipes the vector. Whoever made it must not have left copies behind by
    /// growing it.
    pub fn new(mut bytes: Vec<u8>) -> Self {
        let value = Self::copy_of(&bytes);
        bytes.zeroize();
        value
    }

    /// Copies `bytes`; whoever owns the original wipes it.
    pub fn copy_of(bytes: &[u8]) -> Self {
        Value(Arc::new(Wiped::copy_of(bytes)))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Wiped> for Value {
    fn from(bytes: Wiped) -> Self {
        Value(Arc::new(bytes))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Value {}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_the_length_only() {
        assert_eq!(format!("{:?}", Value::copy_of(b"planted")), "Value(7 bytes)");
    }

    #[test]
    fn a_panic_tells_no_value_and_wipes_what_it_passes() {
        let text = String::from("planted");
        let outcome = std::panic::catch_unwind(|| {
            let (value, other) = (Value::copy_of(text.as_bytes()), Value::copy_of(b"planted, but another"));
            assert_eq!(value, other);
        });
        let message = outcome.unwrap_err().downcast::<String>().expect("a message");
        assert!(message.contains("Value(7 bytes)") && !message.contains("planted"), "{message}");
    }
}
