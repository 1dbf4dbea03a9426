//! HTTP/2 for many watches: they are spread over connections, each with room for some and a reserve for requests.
//!
//! A server takes a limited number of streams on one connection (kube-apiserver 100, unless told otherwise); what is begun
//! beyond it waits for another to end, which a watch does not do. So streams are counted here, and a new connection is made
//! where none has room:
//!
//! 1. A watch takes at most three quarters of what the server allows, 64 at most: requests find room beside the watches.
//! 2. One connection is made at a time, by whoever needs it; the others wait and use it too. One that takes long does not
//!    hold up the next attempt.
//! 3. A connection is asked for a sign of life (PING) when nothing has come for 20 s, but only while it has streams. One that
//!    gives none within 5 s is closed, and so is one on which a watch did not end when it should have: all its watches move.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use h2::client::{Builder, SendRequest};
use h2::{Ping, PingPong, RecvStream};
use http::{Request, Response, Uri};
use hyper_util::client::legacy::connect::Connection as _;
use hyper_util::rt::TokioIo;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tower_service::Service;

use super::transport::{BoxError, Purpose, Socket};

/// The most watches on one connection.
const WATCHES: usize = 64;
/// How long nothing may come before a PING is sent.
const SILENCE: Duration = Duration::from_secs(20);
/// How long the answer to a PING may take.
const PONG: Duration = Duration::from_secs(5);
/// How long the next attempt to connect waits for one that is under way.
const STAGGER: Duration = Duration::from_millis(1500);
/// What may be on its way to us unread, in one stream and in all of a connection: an object, and many of them.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// The use of one connection.
#[derive(Default)]
struct Load {
    watches: AtomicUsize,
    streams: AtomicUsize,
    /// No stream can be begun on it any more.
    closed: AtomicBool,
    /// Something has come since this was last looked at.
    heard: AtomicBool,
    used: Notify,
}

struct Line {
    sender: SendRequest<Bytes>,
    load: Arc<Load>,
    task: AbortHandle,
}

/// Room for one stream, until it is dropped.
pub struct Room {
    sender: SendRequest<Bytes>,
    load: Arc<Load>,
    purpose: Purpose,
    task: AbortHandle,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.load.streams.fetch_sub(1, Relaxed);
        if self.purpose == Purpose::Watch {
            self.load.watches.fetch_sub(1, Relaxed);
        }
    }
}

/// The body of an answer.
pub struct Received {
    stream: RecvStream,
    room: Room,
}

type Connected = Result<Option<Line>, BoxError>;

/// See the module's documentation.
pub struct Lines {
    lines: Mutex<Vec<Line>>,
    turn: Semaphore,
    connect: Arc<dyn Fn() -> BoxFuture<'static, Connected> + Send + Sync>,
}

impl Lines {
    /// Over connections to `server` that `connector` makes, offering HTTP/2.
    pub fn new<C>(connector: C, server: Uri) -> Arc<Self>
    where
        C: Service<Uri, Response: Socket, Error: Into<BoxError>, Future: Send> + Clone + Send + Sync + 'static,
    {
        let connect = move || line(connector.clone(), server.clone()).boxed();
        Arc::new(Lines { lines: Mutex::default(), turn: Semaphore::new(1), connect: Arc::new(connect) })
    }

    /// The same without the connections of these.
    pub fn afresh(&self) -> Arc<Self> {
        Arc::new(Lines { lines: Mutex::default(), turn: Semaphore::new(1), connect: self.connect.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Line>> {
        self.lines.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Finds room for a stream, on a new connection if need be. `None`: the server speaks no HTTP/2.
    pub async fn room(self: &Arc<Self>, purpose: Purpose) -> Result<Option<Room>, BoxError> {
        loop {
            if let Some(room) = self.take(purpose) {
                return Ok(Some(room));
            }
            let turn = self.turn.acquire().await.expect("the semaphore is never closed");
            if let Some(room) = self.take(purpose) {
                return Ok(Some(room));
            }
            let lines = self.clone();
            // It is of use to others even if whoever needed it first has given up.
            let mut connecting = tokio::spawn(async move {
                let line = (lines.connect)().await?;
                let spoken = line.is_some();
                lines.lock().extend(line);
                Ok::<_, BoxError>(spoken)
            });
            let connected = match timeout(STAGGER, &mut connecting).await {
                Ok(connected) => connected,
                Err(_) => {
                    drop(turn);
                    connecting.await
                }
            };
            if !connected?? {
                return Ok(None);
            }
        }
    }

    /// Takes room where there is some: on the connection that was made first, so that the others can come to an end.
    fn take(&self, purpose: Purpose) -> Option<Room> {
        let mut lines = self.lock();
        lines.retain(|line| !line.load.closed.load(Relaxed));
        let at = lines.iter().position(|line| line.has_room(purpose))?;
        let room = lines[at].take(purpose);
        // An unused one behind it is one too many.
        let mut seen = 0;
        lines.retain(|line| {
            seen += 1;
            seen <= at + 1 || line.load.streams.load(Relaxed) > 0
        });
        Some(room)
    }
}

impl Line {
    fn has_room(&self, purpose: Purpose) -> bool {
        let most = self.sender.current_max_send_streams();
        let (streams, watches) = (self.load.streams.load(Relaxed), self.load.watches.load(Relaxed));
        streams < most && (purpose == Purpose::Request || watches < (most - most / 4).min(WATCHES))
    }

    fn take(&self, purpose: Purpose) -> Room {
        self.load.streams.fetch_add(1, Relaxed);
        if purpose == Purpose::Watch {
            self.load.watches.fetch_add(1, Relaxed);
        }
        self.load.used.notify_one();
        Room { sender: self.sender.clone(), load: self.load.clone(), purpose, task: self.task.clone() }
    }
}

impl Room {
    /// Sends a request and waits for the head of the answer. `Err(None)`: the connection takes no more, and nothing was sent.
    pub async fn send(self, request: Request<Bytes>) -> Result<Response<Received>, Option<BoxError>> {
        let (head, body) = request.into_parts();
        let closed = |_| {
            self.load.closed.store(true, Relaxed);
            None
        };
        let mut sender = self.sender.clone().ready().await.map_err(closed)?;
        let (answer, mut rest) = sender.send_request(Request::from_parts(head, ()), body.is_empty()).map_err(closed)?;
        if !body.is_empty() {
            rest.send_data(body, true).map_err(|error| Some(error.into()))?;
        }
        let answer = answer.await.map_err(|error| Some(error.into()))?;
        self.load.heard.store(true, Relaxed);
        Ok(answer.map(|stream| Received { stream, room: self }))
    }
}

impl Received {
    /// The next piece.
    pub async fn next(&mut self) -> Option<Result<Bytes, h2::Error>> {
        let data = poll_fn(|context| self.stream.poll_data(context)).await?;
        self.room.load.heard.store(true, Relaxed);
        Some(data.and_then(|data| {
            self.stream.flow_control().release_capacity(data.len())?;
            Ok(data)
        }))
    }

    /// Closes the connection with all that is on it: nothing comes any more.
    pub fn condemn(&self) {
        self.room.load.closed.store(true, Relaxed);
        self.room.task.abort();
    }
}

/// Makes a connection that is ready for streams: the server has said how many it takes.
async fn line<C>(mut connector: C, server: Uri) -> Connected
where
    C: Service<Uri, Response: Socket, Error: Into<BoxError>, Future: Send> + Send + 'static,
{
    poll_fn(|context| connector.poll_ready(context)).await.map_err(Into::into)?;
    let socket = connector.call(server).await.map_err(Into::into)?;
    if !socket.connected().is_negotiated_h2() {
        return Ok(None);
    }
    let mut builder = Builder::new();
    builder.enable_push(false).initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
    let (sender, mut connection) = builder.handshake(TokioIo::new(socket)).await?;
    let pings = connection.ping_pong().expect("it is taken once");
    let load = Arc::<Load>::default();
    let (settled, ready) = oneshot::channel();
    let shared = load.clone();
    let task = tokio::spawn(async move {
        tokio::select! {
            ended = connection => if let Err(error) = ended {
                tracing::debug!("a connection ended: {error}");
            },
            () = watch_over(pings, &shared, settled) => tracing::debug!("a connection gives no sign of life"),
        }
        shared.closed.store(true, Relaxed);
    });
    let line = Line { sender, load, task: task.abort_handle() };
    match timeout(PONG, ready).await {
        Ok(Ok(())) => Ok(Some(line)),
        _ => {
            line.task.abort();
            Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into())
        }
    }
}

/// Returns when the other side gives no sign of life.
async fn watch_over(mut pings: PingPong, load: &Load, settled: oneshot::Sender<()>) {
    // A server's first word are its settings, so they are known when it answers.
    if pings.ping(Ping::opaque()).await.is_err() || settled.send(()).is_err() {
        return;
    }
    loop {
        while load.streams.load(Relaxed) == 0 {
            load.used.notified().await;
        }
        sleep(SILENCE).await;
        if load.heard.swap(false, Relaxed) || load.streams.load(Relaxed) == 0 {
            continue;
        }
        if !matches!(timeout(PONG, pings.ping(Ping::opaque())).await, Ok(Ok(_))) {
            return;
        }
    }
}
