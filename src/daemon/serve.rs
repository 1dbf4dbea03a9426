//! One mount from beginning to end.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::background::Ready;
use super::control::{Socket, Status};
use super::log::Log;
use crate::exit::{Code, Failure};
use crate::fuse::{Counts, Policy, Session};
use crate::mount::{self, Announce, Attached};
use crate::publisher::{Place, Publisher, Supplied};
use crate::source::Source;
use crate::store::Store;
use crate::view::View;

/// How long the end of a session may take after its mount is gone.
const FAREWELL: Duration = Duration::from_secs(5);

/// All that a mount needs to be made.
pub struct Plan {
    pub request: mount::Request,
    pub view: Arc<View>,
    pub source: Arc<dyn Source>,
    pub store: Arc<Store>,
    /// SOURCE in the fstab form.
    pub name: String,
}

/// Makes the mount, reports it usable, serves it until it is unmounted or `until` ends, and removes all traces.
/// `until` is first polled when the mount is usable.
///
/// Errors: what kept the mount from being made; nothing is left of it then.
pub async fn serve(plan: Plan, ready: &mut Ready, log: &Log, until: impl Future<Output = ()>) -> Result<(), Failure> {
    plan.view.load().await?;
    let mounted = Mounted::make(&plan)?;
    match ready.usable() {
        Ok(true) => log.detach(),
        Ok(false) => tracing::info!(mountpoint = %mounted.attached.path().display(), source = plan.name, "mounted"),
        Err(error) => return Err(Failure::new(Code::Failed, format!("cannot go to the background: {error}"))),
    }
    mounted.run(&plan, until).await
}

/// A mount that people see.
struct Mounted {
    attached: Attached,
    session: Session,
    counts: Arc<Counts>,
    announced: bool,
    since: SystemTime,
}

fn no_fuse(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::new(Code::NoFuse, format!("{what}: {error}"))
}

impl Mounted {
    fn make(plan: &Plan) -> Result<Self, Failure> {
        let mut prepared = mount::prepare(&plan.request)?;
        let ttl = match prepared.announce() {
            Announce::Nowhere => Policy::SHORT,
            _ => Policy::LONG,
        };
        let policy = Policy { ttl, id_mapped: plan.request.allow_other && plan.request.default_permissions };
        let session = Session::start(prepared.take_fuse(), plan.view.tree(), policy)
            .map_err(|error| no_fuse("the kernel did not take up the FUSE connection", error))?;
        let publisher = publisher(prepared.announce(), &session)?;
        let announced = publisher.is_some();
        if !announced {
            tracing::warn!("the mount cannot be reached by path: updates show after a second, without events");
        }
        plan.view.go_live(publisher, session.notices());
        let attached = prepared.attach()?;
        Ok(Mounted { counts: session.counts(), attached, session, announced, since: SystemTime::now() })
    }

    async fn run(self, plan: &Plan, until: impl Future<Output = ()>) -> Result<(), Failure> {
        let Mounted { attached, session, counts, announced, since } = self;
        let attached = Arc::new(attached);
        let mut ended = in_thread(move || session.wait());
        let gone = {
            let attached = attached.clone();
            in_thread(move || attached.wait_gone())
        };
        let status = || status(plan, &attached, &counts, announced, since);
        let socket = Socket::bind();
        if let Err(error) = &socket {
            tracing::warn!("secretfs status will not know this mount: {error}");
        }
        let answer = async {
            match &socket {
                Ok(socket) => socket.answer(status).await,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = &mut ended => {}
            _ = gone => {}
            () = until => {}
            () = plan.view.clone().run() => {}
            () = answer => {}
        }
        drop(socket);
        plan.view.retire();
        let detached = attached.detach();
        drop(attached);
        if tokio::time::timeout(FAREWELL, ended).await.is_err() {
            tracing::warn!("somebody still uses the file system; it goes when they let go of it");
        }
        Ok(detached?)
    }
}

fn publisher(announce: &Announce, session: &Session) -> Result<Option<Publisher>, Failure> {
    use std::os::fd::AsFd;
    let place = match announce {
        Announce::Private(fd) => Place::Fd(fd.as_fd()),
        Announce::Path(path) => {
            let found = rustix::fs::stat(path).map_err(|error| no_fuse("the new mount cannot be reached", error))?;
            Place::Path { path: path.clone(), device: found.st_dev }
        }
        Announce::Nowhere => return Ok(None),
    };
    let publisher = Publisher::start(&place, Some(session.probe()), Box::new(Supplied))
        .map_err(|error| no_fuse("updates cannot be announced", error))?;
    Ok(session.knows_publisher().then_some(publisher))
}

/// Runs something that blocks in a thread of its own. Dropping the receiver leaves the thread alone.
pub fn in_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
    let (send, receive) = oneshot::channel();
    std::thread::spawn(move || send.send(work()));
    receive
}

/// What told the process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Terminate,
    Interrupt,
}

/// Waits until the process is told to end: SIGTERM or SIGINT.
pub async fn signalled() -> Signal {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => Signal::Terminate,
        _ = interrupt.recv() => Signal::Interrupt,
    }
}

fn status(plan: &Plan, attached: &Attached, counts: &Counts, announced: bool, since: SystemTime) -> Status {
    let known = plan.store.summary();
    Status {
        mountpoint: PathBuf::from(attached.path()),
        source: plan.name.clone(),
        from: plan.source.describe(),
        pid: std::process::id(),
        uid: rustix::process::getuid().as_raw(),
        version: env!("CARGO_PKG_VERSION").into(),
        since: since.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        method: attached.method().to_string(),
        announced,
        namespaces: known.namespaces,
        objects: known.objects,
        loaded: known.loaded,
        bytes: known.bytes,
        requests: counts.all().into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
        requests_answered: counts.answered(),
    }
}
