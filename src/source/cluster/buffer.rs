//! Buffers for what a server sends: bounded, and wiped when they are dropped or when they grow into new memory.

use zeroize::{Zeroize as _, Zeroizing};

/// Indicates that a server sent more than a buffer may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge {
    pub limit: usize,
}

/// Bytes that arrive in pieces.
pub struct Buffer {
    bytes: Zeroizing<Vec<u8>>,
    limit: usize,
}

impl Buffer {
    /// An empty buffer that holds up to `limit` bytes; it takes memory as bytes arrive.
    pub fn new(limit: usize) -> Self {
        Buffer { bytes: Zeroizing::default(), limit }
    }

    /// Makes room for `length` bytes in all. Growing by `Vec` itself would free the old memory without wiping it.
    pub fn reserve(&mut self, length: usize) -> Result<(), TooLarge> {
        if length > self.limit {
            return Err(TooLarge { limit: self.limit });
        }
        if length > self.bytes.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(length));
            larger.extend_from_slice(&self.bytes);
            self.bytes = larger;
        }
        Ok(())
    }

    pub fn extend(&mut self, more: &[u8]) -> Result<(), TooLarge> {
        let length = self.bytes.len() + more.len();
        if length > self.bytes.capacity() {
            let roomy = length.max(self.bytes.capacity() * 2).max(4096).min(self.limit);
            self.reserve(roomy.max(length))?;
        }
        if length > self.limit {
            return Err(TooLarge { limit: self.limit });
        }
        self.bytes.extend_from_slice(more);
        Ok(())
    }

    /// Wipes what is there. Memory is kept only if it is little.
    pub fn clear(&mut self) {
        self.bytes.zeroize();
        if self.bytes.capacity() > 64 << 10 {
            self.bytes = Zeroizing::default();
        }
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Cuts a stream into lines. A line that arrives in one piece is handed on without being copied.
pub struct Lines {
    partial: Buffer,
}

impl Lines {
    pub fn new(longest: usize) -> Self {
        Lines { partial: Buffer::new(longest) }
    }

    /// Takes the next piece of the stream and hands each line that ends in it to `each`, without its line feed. Blank
    /// lines are left out.
    pub fn feed<E: From<TooLarge>>(
        &mut self,
        mut piece: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = (&piece[..end], &piece[end + 1..]);
            piece = rest;
            if self.partial.is_empty() {
                if line.len() > self.partial.limit {
                    return Err(TooLarge { limit: self.partial.limit }.into());
                }
                if !line.trim_ascii().is_empty() {
                    each(line)?;
                }
                continue;
            }
            self.partial.extend(line)?;
            let result = if self.is_partial() { each(self.partial.as_slice()) } else { Ok(()) };
            self.partial.clear();
            result?;
        }
        self.partial.extend(piece)?;
        Ok(())
    }

    /// Whether the stream stopped inside a line.
    pub fn is_partial(&self) -> bool {
        !self.partial.as_slice().trim_ascii().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines_of(pieces: &[&[u8]], longest: usize) -> Result<(Vec<Vec<u8>>, bool), TooLarge> {
        let mut lines = Lines::new(longest);
        let mut found = Vec::new();
        for piece in pieces {
            lines.feed(piece, |line| {
                found.push(line.to_vec());
                Ok::<_, TooLarge>(())
            })?;
        }
        Ok((found, lines.is_partial()))
    }

    #[test]
    fn lines_may_be_split_anywhere() {
        let (lines, partial) = lines_of(&[b"o", b"ne\ntw", b"o\n", b"\r\n", b"\nthr"], 10).unwrap();
        assert_eq!(lines, [b"one".to_vec(), b"two".to_vec()]);
        assert!(partial);
    }

    #[test]
    fn a_line_that_is_too_long_is_an_error_at_once() {
        assert_eq!(lines_of(&[b"12345", b"678"], 7), Err(TooLarge { limit: 7 }));
        assert_eq!(lines_of(&[b"12345678\n"], 7), Err(TooLarge { limit: 7 }));
        assert!(lines_of(&[b"1234567\n1234567\n"], 7).is_ok());
    }

    #[test]
    fn a_buffer_never_takes_more_than_its_limit() {
        let mut buffer = Buffer::new(10);
        assert!(buffer.extend(b"12345678").is_ok() && buffer.extend(b"9").is_ok());
        assert_eq!(buffer.extend(b"01"), Err(TooLarge { limit: 10 }));
        assert_eq!(buffer.as_slice(), b"123456789");
        assert_eq!(buffer.reserve(11), Err(TooLarge { limit: 10 }));
    }

    mod properties {
        use super::*;

        proptest! {
            #[test]
            fn any_cut_of_a_stream_gives_the_same_lines(
                lines in proptest::collection::vec("[a-z{}\" ]{0,30}x", 0..20),
                cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..10),
            ) {
                let stream: Vec<u8> = lines.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect();
                let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
                places.extend([0, stream.len()]);
                places.sort();
                let pieces: Vec<&[u8]> = places.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
                let (found, partial) = lines_of(&pieces, 64).unwrap();
                prop_assert_eq!(found, lines.iter().map(|line| line.clone().into_bytes()).collect::<Vec<_>>());
                prop_assert!(!partial);
            }
        }
    }
}
