//! A connection that wipes the free part of its reader's buffer whenever it has nothing to read.
//!
//! hyper reads all answers of a connection into one buffer, and what it has handed on stays there until something longer
//! comes: on the connection of a watch, the object before the last one for as long as nothing changes.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};

/// See the module's documentation.
pub struct Wiping<S>(pub S);

impl<S: Read + Unpin> Read for Wiping<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // SAFETY: Nothing that was initialised is made uninitialised: zeros and what was read is all that gets there.
        let free = unsafe { cursor.as_mut() };
        let mut buffer = ReadBuf::uninit(free);
        let outcome = Pin::new(&mut self.0).poll_read(context, buffer.unfilled());
        let read = buffer.filled().len();
        if outcome.is_pending() {
            free.fill(MaybeUninit::new(0));
        }
        // SAFETY: As many bytes at its beginning were filled just now.
        unsafe { cursor.advance(read) };
        outcome
    }
}

impl<S: Write + Unpin> Write for Wiping<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, pieces)
    }
}

impl<S: Connection> Connection for Wiping<S> {
    fn connected(&self) -> Connected {
        self.0.connected()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives what it has, then nothing for ever.
    struct Scripted(Option<&'static [u8]>);

    impl Read for Scripted {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            mut cursor: ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            match self.0.take() {
                Some(bytes) => {
                    cursor.put_slice(bytes);
                    Poll::Ready(Ok(()))
                }
                None => Poll::Pending,
            }
        }
    }

    #[test]
    fn what_was_read_is_kept_and_what_lay_behind_it_is_wiped() {
        let mut memory = [7; 16];
        let mut buffer = ReadBuf::new(&mut memory);
        let mut connection = Wiping(Scripted(Some(b"hello")));
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut read = |buffer: &mut ReadBuf| Pin::new(&mut connection).poll_read(&mut context, buffer.unfilled());
        assert!(read(&mut buffer).is_ready());
        assert!(read(&mut buffer).is_pending());
        assert_eq!(buffer.filled(), b"hello");
        assert_eq!(&memory, b"hello\0\0\0\0\0\0\0\0\0\0\0");
    }
}
