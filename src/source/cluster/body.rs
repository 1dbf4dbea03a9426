//! The body of an answer, whichever HTTP it came by.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::failure::{Failure, classify};
use super::http2::Received;
use super::transport::{Counted, Moved};

/// What carries the pieces.
enum Pieces {
    Http1(Incoming),
    Http2(Received),
}

/// See the module's documentation.
pub struct Body {
    pieces: Pieces,
    _counted: Option<Counted>,
    /// When a watch is to go on by another connection.
    pub moved: Option<Moved>,
}

impl Body {
    pub fn of_http1(body: Incoming, counted: Option<Counted>, moved: Option<Moved>) -> Self {
        Body { pieces: Pieces::Http1(body), _counted: counted, moved }
    }

    pub fn of_http2(body: Received, counted: Option<Counted>) -> Self {
        Body { pieces: Pieces::Http2(body), _counted: counted, moved: None }
    }

    /// The next piece; `None` at the end that the server has set.
    pub async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        match &mut self.pieces {
            Pieces::Http1(body) => loop {
                match body.frame().await?.map(|frame| frame.into_data()) {
                    Ok(Ok(data)) => return Some(Ok(data)),
                    // Trailers.
                    Ok(Err(_)) => {}
                    Err(error) => return Some(Err(classify(&error))),
                }
            },
            Pieces::Http2(body) => Some(body.next().await?.map_err(|error| classify(&error))),
        }
    }

    /// Nothing came in time: whatever shares the connection is to look for another.
    pub fn condemn(&self) {
        // That of HTTP/1.1 has it for itself and closes it when it is dropped.
        if let Pieces::Http2(body) = &self.pieces {
            body.condemn();
        }
    }
}
