//! Over a server in memory: how streams are spread, and what is logged.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::join_all;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tower_service::Service;

use super::super::http2::{Lines, Received};
use super::super::transport::{BoxError, Purpose};

/// The client's end of a connection on which HTTP/2 was agreed.
struct Pipe(TokioIo<DuplexStream>);

impl Read for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context, buffer: ReadBufCursor) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl Write for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl Connection for Pipe {
    fn connected(&self) -> Connected {
        Connected::new().negotiated_h2()
    }
}

/// Makes connections to a server in memory.
#[derive(Clone)]
struct Connector {
    streams: u32,
    body: &'static str,
    made: Arc<AtomicUsize>,
}

impl Service<Uri> for Connector {
    type Response = Pipe;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Pipe, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        self.made.fetch_add(1, SeqCst);
        let (near, far) = tokio::io::duplex(1 << 20);
        tokio::spawn(serve(far, self.streams, self.body));
        std::future::ready(Ok(Pipe(TokioIo::new(near))))
    }
}

/// Takes `streams` and answers all with `body`; those of watches have no end.
async fn serve(socket: DuplexStream, streams: u32, body: &'static str) {
    let mut server = h2::server::Builder::new();
    let mut connection = server.max_concurrent_streams(streams).handshake::<_, Bytes>(socket).await.unwrap();
    let mut open = Vec::new();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        let watch = request.uri().path() == "/watch";
        stream.send_data(Bytes::from_static(body.as_bytes()), !watch).unwrap();
        open.extend(watch.then_some(stream));
    }
}

/// Lines to such a server, and how many connections have been made to it.
fn lines(streams: u32, body: &'static str) -> (Arc<Lines>, Arc<AtomicUsize>) {
    let made = Arc::<AtomicUsize>::default();
    let connector = Connector { streams, body, made: made.clone() };
    (Lines::new(connector, Uri::from_static("https://server")), made)
}

async fn send(lines: &Arc<Lines>, purpose: Purpose, token: &'static str) -> Received {
    let path = if purpose == Purpose::Watch { "/watch" } else { "/request" };
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = format!("https://server{path}").parse().unwrap();
    let mut value = HeaderValue::from_static(token);
    value.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, value);
    let room = lines.room(purpose).await.unwrap().expect("it speaks HTTP/2");
    let Ok(answer) = room.send(request).await else { panic!("no answer") };
    answer.into_body()
}

async fn watch(lines: &Arc<Lines>) -> Received {
    let mut body = send(lines, Purpose::Watch, "token").await;
    assert!(body.next().await.is_some());
    body
}

async fn request(lines: &Arc<Lines>) {
    let mut body = send(lines, Purpose::Request, "token").await;
    assert!(body.next().await.is_some() && body.next().await.is_none());
}

#[tokio::test]
async fn watches_leave_room_for_requests_and_begin_another_connection_where_there_is_none() {
    let (lines, made) = lines(8, "{}");
    let mut watches = Vec::new();
    for at in 0..14 {
        watches.push(watch(&lines).await);
        request(&lines).await;
        assert_eq!(made.load(SeqCst), at / 6 + 1, "six watches of eight streams");
    }
    // Where some have ended there is room again.
    watches.drain(..4);
    for _ in 0..4 {
        watches.push(watch(&lines).await);
    }
    assert_eq!(made.load(SeqCst), 3);
}

#[tokio::test]
async fn however_much_a_server_allows_a_connection_has_64_watches() {
    let (lines, made) = lines(1000, "{}");
    let watches = join_all((0..300).map(|_| watch(&lines))).await;
    assert_eq!((watches.len(), made.load(SeqCst)), (300, 5));
}

#[tokio::test]
async fn requests_that_fill_a_connection_have_another() {
    let (lines, made) = lines(1, "{}");
    let rooms: Vec<_> = join_all((0..3).map(|_| lines.room(Purpose::Request))).await;
    assert!(rooms.iter().all(|room| matches!(room, Ok(Some(_)))));
    assert_eq!(made.load(SeqCst), 3);
}

#[tokio::test]
async fn a_condemned_connection_ends_all_its_watches_and_is_not_used_again() {
    let (lines, made) = lines(8, "{}");
    let (mut first, second) = (watch(&lines).await, watch(&lines).await);
    second.condemn();
    assert!(matches!(first.next().await, None | Some(Err(_))));
    request(&lines).await;
    assert_eq!(made.load(SeqCst), 2);
}

/// What may be logged of an exchange in which both are planted.
pub async fn exchange(token: &'static str, value: &'static str) {
    let (lines, _) = lines(8, value);
    for purpose in [Purpose::Request, Purpose::Watch] {
        assert!(send(&lines, purpose, token).await.next().await.is_some());
    }
}
