//! One mount from beginning to end.

use std::future::Future;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::background::Ready;
use super::control::{Kept, Socket, Status};
use super::log::Log;
use super::notify::Notify;
use super::plan::Plan;
use super::signals::in_thread;
use crate::exit::{Code, Failure};
use crate::fuse::{Counts, Policy, Session};
use crate::mount::{self, Announce, Attached, Seen, Watch};
use crate::publisher::{Place, Publisher, Supplied};

/// How long the end of a session may take after its mount is gone.
const FAREWELL: Duration = Duration::from_secs(5);

/// Makes the mount, reports it usable, serves it until it is unmounted or what `until` gives ends, and removes all traces.
/// `until` is called just before anybody can see the mount, for [`Signals::listen`]; what it gives begins when the mount
/// is usable.
///
/// Errors: what kept the mount from being made; nothing is left of it then.
pub async fn serve<U: Future<Output = ()>>(
    plan: Plan,
    ready: &mut Ready,
    log: &Log,
    until: impl FnOnce() -> U,
) -> Result<(), Failure> {
    plan.view.load().await?;
    let until = until();
    let mounted = Mounted::make(&plan)?;
    let socket = Socket::bind();
    if let Err(error) = &socket {
        tracing::warn!("secretfs status will not know this mount: {error}");
    }
    let mut notify = Notify::default();
    match ready.usable() {
        Ok(true) => log.detach(),
        Ok(false) => {
            let mountpoint = mountpoint(&plan, &mounted.attached);
            tracing::info!(?mountpoint, source = plan.name, "mounted");
            notify = Notify::of_environment();
            notify.ready(&format!("{} at {}", plan.name, mountpoint.display()));
        }
        Err(error) => {
            mounted.run(&plan, socket.ok(), &notify, std::future::ready(())).await?;
            return Err(Failure::new(Code::Failed, format!("cannot go to the background: {error}")));
        }
    }
    mounted.run(&plan, socket.ok(), &notify, until).await
}

/// A mount that people see.
struct Mounted {
    attached: Attached,
    /// Writable, in nobody's tree: open as long as the publisher works below it.
    door: Option<OwnedFd>,
    session: Session,
    announced: bool,
    since: SystemTime,
}

fn no_fuse(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::new(Code::NoFuse, format!("{what}: {error}"))
}

impl Mounted {
    fn make(plan: &Plan) -> Result<Self, Failure> {
        let prepared = mount::prepare(&plan.request)?;
        let fuse = prepared.fuse.try_clone().map_err(|error| no_fuse("no descriptor left", error))?;
        let policy = Policy { id_mapped: plan.request.allow_other && plan.request.default_permissions };
        let session = Session::start(fuse, plan.view.tree(), policy)
            .map_err(|error| no_fuse("the kernel did not take up the FUSE connection", error))?;
        let attached = prepared.attach()?;
        let mut mounted = Mounted { door: None, announced: false, session, since: SystemTime::now(), attached };
        let publisher = match mounted.start_publisher() {
            Ok(publisher) => publisher,
            Err(failure) => {
                mounted.attached.detach()?;
                return Err(failure);
            }
        };
        if publisher.is_none() {
            mounted.session.keep_nothing_long();
            tracing::warn!("the mount cannot be reached from here: updates show within a second, without events");
        }
        mounted.announced = publisher.is_some();
        plan.view.go_live(publisher, Arc::new(mounted.session.notices()));
        Ok(mounted)
    }

    /// Starts the publisher, if the mount can be reached.
    fn start_publisher(&mut self) -> Result<Option<Publisher>, Failure> {
        let place = match self.attached.take_announce() {
            Announce::Private(door) => Place::Fd((*self.door.insert(door)).as_fd()),
            Announce::Path(path) => {
                let found =
                    rustix::fs::stat(&path).map_err(|error| no_fuse("the new mount cannot be reached", error))?;
                Place::Path { path, device: found.st_dev }
            }
            Announce::Nowhere => return Ok(None),
        };
        let publisher = Publisher::start(&place, Some(self.session.probe()), Box::new(Supplied))
            .map_err(|error| no_fuse("updates cannot be announced", error))?;
        Ok(self.session.knows_publisher().then_some(publisher))
    }

    async fn run(
        self,
        plan: &Plan,
        socket: Option<Socket>,
        notify: &Notify,
        until: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        let Mounted { attached, door, session, announced, since } = self;
        let counts = session.counts();
        let mut ended = in_thread(move || session.wait());
        let watch = attached.watch()?;
        let waker = watch.as_ref().map(Watch::waker);
        let gone = in_thread(move || watch.map(|mut watch| watch.wait()));
        let gone = async {
            // Without a watch only the end of the session tells.
            if !matches!(gone.await, Ok(Some(Ok(Seen::Unmounted)))) {
                std::future::pending::<()>().await;
            }
        };
        let answer = async {
            match &socket {
                Some(socket) => socket.answer(|| status(plan, &attached, &counts, announced, since)).await,
                None => std::future::pending().await,
            }
        };
        let on_change = async {
            match plan.on_change.commands.is_empty() {
                true => std::future::pending().await,
                false => plan.on_change.follow(mountpoint(plan, &attached), plan.view.updates()).await,
            }
        };
        tokio::select! {
            () = on_change => {}
            () = notify.keep_alive() => {}
            _ = &mut ended => {}
            () = gone => {}
            () = until => {}
            () = plan.view.clone().run() => {}
            () = answer => {}
        }
        notify.stopping();
        drop(socket);
        plan.view.retire();
        if let Some(waker) = waker {
            waker.wake();
        }
        let detached = attached.detach();
        // The last thing that keeps the file system alive, unless somebody has a file open.
        drop(door);
        if tokio::time::timeout(FAREWELL, ended).await.is_err() {
            tracing::warn!("somebody still uses the file system; it goes when they let go of it");
        }
        Ok(detached?)
    }
}

/// Where people see the mount, as far as is known.
fn mountpoint(plan: &Plan, attached: &Attached) -> PathBuf {
    attached.place.as_ref().map_or_else(|| plan.request.target.clone(), |place| place.path.clone())
}

fn status(plan: &Plan, attached: &Attached, counts: &Counts, announced: bool, since: SystemTime) -> Status {
    let kept = Kept { source: &*plan.source, store: &plan.store, view: &plan.view, name: &plan.name, since };
    Status {
        method: format!("{:?}", attached.method).to_lowercase(),
        announced,
        requests: counts.all().into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
        requests_answered: counts.answered(),
        ..kept.status(&mountpoint(plan, attached))
    }
}
