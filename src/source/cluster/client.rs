//! A thin client of the API server: bytes for requests, one deadline for everything, failures told apart.
//!
//! It knows paths and statuses, not objects. Bodies are read into wiped buffers of bounded size, and no body, header or
//! token is ever logged. The only logs are this module's and its neighbours' own, under `secretfs::source::cluster`; a
//! binary that shows logs of other crates should still pass `warn,hyper=off,h2=off,rustls=off,kube=off` as its default filter,
//! since those are free to change what they print.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE, RETRY_AFTER, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Response, Uri};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

use super::backoff::Backoff;
use super::body::Body;
use super::buffer::Buffer;
use super::config::{ConnectError, Login, Target, without_slash};
use super::failure::{Failure, classify, printable, status_failure};
use super::request::{Request, Verb};
use super::session::{Session, Sessions};
use super::transport::{Moved, Purpose};

/// Requests for single objects and tokens that may be under way at once; the others wait, inside their deadlines.
const GETS: usize = 8;
/// Watches that may be started again at once: many that lost the server do not return to it together.
const RECONNECTS: usize = 4;
/// How long one attempt of a reconnect is waited for before another is started beside it.
const STAGGER: Duration = Duration::from_millis(1500);
/// How long a reconnect goes on before it lets others try.
const RECONNECT_TURN: Duration = Duration::from_secs(10);

/// How many requests were made. `status` shows it; tests count on it.
#[derive(Debug, Default)]
pub struct Counts {
    gets: AtomicU64,
    lists: AtomicU64,
    watches: AtomicU64,
    tokens: AtomicU64,
    /// Those that the server did not answer, or not as an API server does.
    failures: AtomicU64,
    open_watches: AtomicU64,
}

/// A reading of [`Counts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestCounts {
    pub gets: u64,
    pub lists: u64,
    pub watches: u64,
    pub tokens: u64,
    pub failures: u64,
    pub open_watches: u64,
}

/// Since when requests fail, and how the last one failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub since: SystemTime,
    pub why: String,
}

/// See the module's documentation.
pub struct Client {
    target: Arc<Target>,
    server: String,
    sessions: Sessions,
    timeout: Duration,
    gets: Semaphore,
    reconnects: Semaphore,
    counts: Arc<Counts>,
    trouble: Mutex<Option<Trouble>>,
    /// Whether the server has ever answered: before, whoever waits for the first answer says what is wrong.
    answered: AtomicBool,
    /// By how many seconds the server's clock was ahead of ours in its last answer; `i64::MIN` before the first.
    clock_ahead: AtomicI64,
}

/// The body of a watch that the server has accepted.
pub struct Stream {
    pub body: Body,
    /// When it is to go on by another connection.
    pub moved: Option<Moved>,
    counts: Arc<Counts>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.counts.open_watches.fetch_sub(1, Relaxed);
    }
}

impl Client {
    /// Reads the credentials and makes a client. Talks to no server.
    pub async fn new(target: Target, login: Login, timeout: Duration) -> Result<Self, ConnectError> {
        let target = Arc::new(target);
        let sessions = Sessions::start(target.clone(), login, timeout).await?;
        Ok(Client {
            server: without_slash(&target.server),
            target,
            sessions,
            timeout,
            gets: Semaphore::new(GETS),
            reconnects: Semaphore::new(RECONNECTS),
            counts: Arc::default(),
            trouble: Mutex::default(),
            answered: AtomicBool::new(false),
            clock_ahead: AtomicI64::new(i64::MIN),
        })
    }

    /// The server's address, for messages.
    pub fn server(&self) -> &str {
        &self.server
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    pub fn counts(&self) -> RequestCounts {
        let counts = &self.counts;
        RequestCounts {
            gets: counts.gets.load(Relaxed),
            lists: counts.lists.load(Relaxed),
            watches: counts.watches.load(Relaxed),
            tokens: counts.tokens.load(Relaxed),
            failures: counts.failures.load(Relaxed),
            open_watches: counts.open_watches.load(Relaxed),
        }
    }

    /// By how many seconds the server's clock was ahead of ours in its last answer.
    pub fn clock_ahead(&self) -> Option<i64> {
        Some(self.clock_ahead.load(Relaxed)).filter(|seconds| *seconds != i64::MIN)
    }

    /// Why the server cannot be asked now, if the last request failed for that.
    pub fn trouble(&self) -> Option<Trouble> {
        self.trouble_lock().clone()
    }

    /// Asks and reads the whole answer before the deadline. A busy server is asked again while there is time.
    pub async fn read(&self, request: &Request) -> Result<Buffer, Failure> {
        let deadline = Instant::now() + self.timeout;
        let mut used = None;
        let result = timeout_at(deadline, self.read_until(request, deadline, &mut used)).await;
        let result = result.unwrap_or(Err(Failure::TimedOut));
        self.conclude(&result, used);
        result
    }

    /// Draws the conclusions from how a request ended.
    fn conclude<T>(&self, result: &Result<T, Failure>, used: Option<Arc<Session>>) {
        if let (Err(Failure::TimedOut), Some(session)) = (result, used) {
            self.sessions.distrust(&session);
        }
        self.note(result);
    }

    async fn read_until(
        &self,
        request: &Request,
        deadline: Instant,
        used: &mut Option<Arc<Session>>,
    ) -> Result<Buffer, Failure> {
        let _slot = match request.verb {
            Verb::Get | Verb::Create => Some(self.gets.acquire().await.expect("the semaphore is never closed")),
            Verb::List | Verb::Watch => None,
        };
        let mut pace = Backoff::for_busy();
        let mut cut_before = false;
        loop {
            let failure = match self.ask(request, used).await {
                Ok(response) => match read_body(response, request.limit).await {
                    Ok(body) => return Ok(body),
                    Err(failure) => failure,
                },
                Err(failure) => failure,
            };
            if failure == Failure::Cut && !cut_before {
                // A pooled connection that the server was closing just then: asking again is harmless: a
                // token that nobody has got is none.
                cut_before = true;
                continue;
            }
            let Some(wait) = failure.busy() else { return Err(failure) };
            let wait = wait.unwrap_or_else(|| pace.delay());
            if Instant::now() + wait >= deadline {
                return Err(failure);
            }
            sleep(wait).await;
        }
    }

    /// Starts a watch: resolves when the server has accepted it.
    pub async fn open(&self, request: &Request) -> Result<Stream, Failure> {
        let mut used = None;
        let attempts = async {
            match self.ask(request, &mut used).await {
                // A pooled connection that the server was closing just then.
                Err(Failure::Cut) => self.ask(request, &mut used).await,
                other => other,
            }
        };
        let result = timeout_at(Instant::now() + self.timeout, attempts).await.unwrap_or(Err(Failure::TimedOut));
        self.conclude(&result, used);
        let mut body = result?.into_body();
        self.counts.open_watches.fetch_add(1, Relaxed);
        let moved = body.moved.take();
        Ok(Stream { body, moved, counts: self.counts.clone() })
    }

    /// Starts a watch of an object that has been fetched, after all fetches that wait now: of many objects, all are here
    /// before the first is watched. It takes nobody's place meanwhile, however long it is held back on its way.
    pub async fn open_after_fetches(&self, request: &Request) -> Result<Stream, Failure> {
        drop(self.gets.acquire().await.expect("the semaphore is never closed"));
        self.open(request).await
    }

    /// Starts a watch that follows another one, perhaps after an outage. While attempts only time out, a new one is started every 1.5 s beside those still
    /// under way: one of them meets the server soon after its return, however long the deadline of each is and however far
    /// the server is away. Only a few watches try at once; the others follow when these have found the server.
    pub async fn reopen(self: &Arc<Self>, request: &Request) -> Result<Stream, Failure> {
        let _turn = self.reconnects.acquire().await.expect("the semaphore is never closed");
        let turn_ends = Instant::now() + RECONNECT_TURN;
        let mut attempts = tokio::task::JoinSet::new();
        loop {
            let (client, request) = (self.clone(), request.clone());
            attempts.spawn(async move { client.open(&request).await });
            let next = Instant::now() + STAGGER;
            while let Ok(Some(attempt)) = timeout_at(next, attempts.join_next()).await {
                match attempt.unwrap_or(Err(Failure::TimedOut)) {
                    Err(Failure::TimedOut) => {}
                    other => return other,
                }
            }
            if Instant::now() >= turn_ends {
                return Err(Failure::TimedOut);
            }
            tokio::time::sleep_until(next).await;
        }
    }

    /// Sends the request and looks at the status; once more with new credentials if these are refused, or with new certificate
    /// authorities if the server's is not known.
    async fn ask(&self, request: &Request, used: &mut Option<Arc<Session>>) -> Result<Response<Body>, Failure> {
        let session = self.sessions.current().await?;
        *used = Some(session.clone());
        let refused = match self.ask_with(&session, request).await {
            Err(failure) if failure.is_unauthorized() => failure,
            Err(Failure::Tls(why)) => {
                // Its authority may have been replaced, and the file that names it too.
                let Some(trusting) = self.sessions.retrust(&session).await else { return Err(Failure::Tls(why)) };
                *used = Some(trusting.clone());
                return self.ask_with(&trusting, request).await;
            }
            other => return other,
        };
        let session = self.sessions.renew(&session).await?;
        *used = Some(session.clone());
        match self.ask_with(&session, request).await {
            Err(failure) if failure.is_unauthorized() => Err(refused),
            other => other,
        }
    }

    async fn ask_with(&self, session: &Session, request: &Request) -> Result<Response<Body>, Failure> {
        let counter = match request.verb {
            Verb::Get => &self.counts.gets,
            Verb::List => &self.counts.lists,
            Verb::Watch => &self.counts.watches,
            Verb::Create => &self.counts.tokens,
        };
        counter.fetch_add(1, Relaxed);
        let purpose = if request.verb == Verb::Watch { Purpose::Watch } else { Purpose::Request };
        let response = session.transport().send(self.build(session, request)?, purpose).await;
        let response = response.map_err(|error| classify(&*error))?;
        if let Some(ahead) = clock_ahead(&response) {
            self.clock_ahead.store(ahead, Relaxed);
        }
        let json = content_type(&response).starts_with("application/json");
        match (response.status().as_u16(), request.verb) {
            (200, Verb::Get | Verb::List | Verb::Watch) | (201, Verb::Create) if json => Ok(response),
            _ => Err(refused(response).await),
        }
    }

    fn build(&self, session: &Session, request: &Request) -> Result<http::Request<Bytes>, Failure> {
        let mut parts = self.target.server.clone().into_parts();
        // A server behind a gateway has a path of its own (Rancher does that).
        let prefix = parts.path_and_query.as_ref().map_or("", |path| path.path()).trim_end_matches('/');
        let path: PathAndQuery = format!("{prefix}{}", request.target)
            .parse()
            .map_err(|_| Failure::BadStream("a continue token that is no text"))?;
        parts.path_and_query = Some(path);
        let uri = Uri::from_parts(parts).map_err(|_| Failure::BadStream("a server address without a host"))?;
        let mut built = http::Request::new(request.body.clone().unwrap_or_default());
        *built.uri_mut() = uri;
        if request.verb == Verb::Create {
            *built.method_mut() = Method::POST;
        }
        let headers = built.headers_mut();
        *headers = self.target.headers.clone();
        headers.insert(ACCEPT, HeaderValue::from_static(request.accept));
        if request.body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("secretfs/", env!("CARGO_PKG_VERSION"))));
        if let Some(authorization) = session.authorization() {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        Ok(built)
    }

    /// Remembers whether the server can be reached.
    pub fn note<T>(&self, result: &Result<T, Failure>) {
        let mut trouble = self.trouble_lock();
        let Err(failure) = result else {
            self.answered.store(true, Relaxed);
            if trouble.take().is_some() {
                tracing::info!("{}: answers again", self.server);
            }
            return;
        };
        if failure.is_outage() || failure.is_unauthorized() || matches!(failure, Failure::Credentials(_)) {
            self.counts.failures.fetch_add(1, Relaxed);
            let why = failure.to_string();
            let since = trouble.as_ref().map_or_else(SystemTime::now, |trouble| trouble.since);
            if trouble.is_none() && self.answered.load(Relaxed) {
                tracing::warn!("{}: {why}", self.server);
            }
            *trouble = Some(Trouble { since, why });
        }
    }

    fn trouble_lock(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Reads a body to its end into memory that is wiped.
async fn read_body(response: Response<Body>, limit: usize) -> Result<Buffer, Failure> {
    let length = response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let mut body = response.into_body();
    let mut buffer = Buffer::new(limit);
    if let Some(length) = length {
        buffer.reserve(length)?;
    }
    while let Some(piece) = body.next().await {
        buffer.extend(&piece?)?;
    }
    Ok(buffer)
}

/// What an answer means that is not the JSON that was asked for.
async fn refused(response: Response<Body>) -> Failure {
    const LONGEST: usize = 64 << 10;
    let code = response.status().as_u16();
    let content = content_type(&response).to_owned();
    let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let retry_after = wait.map(Duration::from_secs);
    let status = match content.starts_with("application/json") && code != 200 {
        // A body that is too long or breaks off is as good as none: the code is known.
        true => read_body(response, LONGEST).await.ok(),
        false => None,
    };
    status.and_then(|body| status_failure(Some(code), body.as_slice(), retry_after)).unwrap_or_else(|| {
        let content = if content.is_empty() { "no content type".to_owned() } else { printable(&content, 40) };
        Failure::Alien { code, content, retry_after }
    })
}

/// The `Date` of an answer less our time, in seconds.
fn clock_ahead(response: &Response<Body>) -> Option<i64> {
    let theirs = httpdate::parse_http_date(response.headers().get(DATE)?.to_str().ok()?).ok()?;
    Some(match theirs.duration_since(SystemTime::now()) {
        Ok(ahead) => ahead.as_secs().cast_signed(),
        Err(behind) => -behind.duration().as_secs().cast_signed(),
    })
}

fn content_type(response: &Response<Body>) -> &str {
    response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("")
}
