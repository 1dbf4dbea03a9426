//! Keeps the names of one collection current by their metadata: a paginated list, then one watch.
//!
//! No value is ever asked for. The watch goes on from the list's version; it is listed again only when the server no longer
//! has that version (410) or when versions have gone backwards (an etcd that was restored: a watch from a version of the
//! future is accepted and then silent, so after an interruption one page of one name tells the current version).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::core::{Before, Core, Denials, Pace};
use super::failure::Failure;
use super::places::Places;
use super::request::{Collection, PAGE};
use super::watch::{Event, is_older, read};
use crate::object::{
    DecodeError, Kind, Meta, Namespace, Page, meta_from_json, meta_page_from_json, namespace_from_json,
    namespace_page_from_json,
};
use crate::source::freshness::{Freshness, Heard, State};
use crate::store::Refusal;

/// How often a list is begun anew whose pages went out of date while it was read.
const RESTARTS: u32 = 3;

/// Where a collection's names go.
pub trait Names: Send + Sync + 'static {
    type Item: Send;
    fn page(&self, body: &[u8]) -> Result<Page<Self::Item>, DecodeError>;
    /// Takes the complete list.
    fn replace(&self, all: Vec<Self::Item>);
    /// Nothing may be listed: so it has been from the start, or for a while.
    fn refused(&self);
    /// Takes one event other than a bookmark and gives the version that it brings the watch to.
    fn take(&self, event: Event, object: &[u8]) -> Result<Arc<str>, DecodeError>;
}

/// How far a listing has come.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// A part of a list has come, and more is to come.
    pub begun: bool,
    /// The store has had a complete list.
    pub complete: bool,
    /// The store's names are those of the server, but for what is on its way.
    pub live: bool,
    /// Why the last attempt failed.
    pub refusal: Option<Refusal>,
    /// Nobody keeps it current any more.
    pub ended: bool,
}

/// One listing that goes on until the source is dropped.
pub struct Listing {
    pub collection: Collection,
    progress: watch::Sender<Progress>,
    heard: Heard,
    task: OnceLock<AbortHandle>,
}

impl Listing {
    pub fn start(core: &Arc<Core>, collection: Collection, names: impl Names) -> Arc<Self> {
        let (progress, heard) = (watch::Sender::default(), Heard::default());
        let listing = Arc::new(Listing { collection, progress, heard, task: OnceLock::new() });
        let running = listing.clone();
        let shared = core.clone();
        let _ = listing.task.set(core.spawn(async move { running.run(&shared, &names).await }));
        listing
    }

    /// Keeps nothing current any more. Who waits for it is told.
    pub fn end(&self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
        let what = self.collection.name();
        self.stalled(Refusal::NotFound { what });
        self.progress.send_modify(|progress| progress.ended = true);
    }

    pub fn is_running(&self) -> bool {
        !self.progress.borrow().ended
    }

    pub fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    pub fn freshness(&self) -> Freshness {
        let progress = self.progress.borrow();
        let state = match &progress.refusal {
            _ if progress.live => State::Live,
            Some(Refusal::Forbidden { .. }) if !progress.complete => State::Forbidden,
            _ if progress.complete => State::Stale,
            _ => State::Unknown,
        };
        Freshness { state, confirmed: self.heard.last() }
    }

    /// Waits until the store has had a complete list, or until that was refused.
    pub async fn first(&self) -> Result<(), Refusal> {
        let mut progress = self.progress.subscribe();
        let done = progress.wait_for(|progress| progress.complete || progress.refusal.is_some()).await;
        match done.map(|progress| (progress.complete, progress.refusal.clone())) {
            Ok((false, Some(refusal))) => Err(refusal),
            // The sender lives as long as self.
            _ => Ok(()),
        }
    }

    /// The same, but after `patience` it is enough that a part of the list has come.
    pub async fn first_or_begun(&self, patience: Duration) -> Result<(), Refusal> {
        if let Ok(first) = timeout(patience, self.first()).await {
            return first;
        }
        let mut progress = self.progress.subscribe();
        tokio::select! {
            first = self.first() => first,
            _ = progress.wait_for(|progress| progress.begun) => Ok(()),
        }
    }

    async fn run(&self, core: &Arc<Core>, names: &impl Names) {
        let mut pace = Pace::new(core.poll);
        let mut denials = Denials::default();
        let mut refused = false;
        let mut interrupted = false;
        let mut version: Option<Arc<str>> = None;
        loop {
            let ended = self.live(core, names, &mut version, interrupted, (&mut pace, &mut denials)).await;
            let Err(failure) = ended else { continue };
            tracing::debug!("{}: {failure}", self.collection.name());
            interrupted = failure.is_outage();
            if !interrupted {
                // The watch cannot go on from there, or its content cannot be trusted.
                version = None;
            }
            let before = if self.progress.borrow().complete { Before::Answered } else { Before::Never };
            let pause = pace.after(&failure, before);
            let persists = denials.persist(&failure, core.poll);
            if before == Before::Answered {
                refused = false;
            }
            if failure.is_forbidden() && !refused && (before == Before::Never || persists) {
                refused = true;
                if before == Before::Answered {
                    tracing::warn!("{}: access has been denied for a while: it is withdrawn", self.collection.name());
                    self.progress.send_modify(|progress| progress.complete = false);
                }
                names.refused();
            }
            if failure != Failure::Gone {
                self.stalled(failure.refusal(self.collection.name(), core.client.server()));
            }
            sleep(pause).await;
        }
    }

    /// Lists unless `version` says where to go on, and watches until something fails.
    async fn live(
        &self,
        core: &Arc<Core>,
        names: &impl Names,
        version: &mut Option<Arc<str>>,
        interrupted: bool,
        (pace, denials): (&mut Pace, &mut Denials),
    ) -> Result<(), Failure> {
        if version.is_none() {
            *version = Some(self.list(core, names).await?);
            self.heard.now();
            self.progress.send_replace(Progress { complete: true, live: true, ..Progress::default() });
        }
        let timing = &core.timing;
        let mut seconds = timing.seconds();
        let request = self.collection.watch(version.as_deref(), seconds);
        let mut stream = match interrupted {
            true => core.client.reopen(&request).await?,
            false => core.client.open(&request).await?,
        };
        denials.reset();
        if interrupted {
            self.check_not_restored(core, names, version.as_deref()).await?;
        }
        self.progress.send_replace(Progress { complete: true, live: true, ..Progress::default() });
        loop {
            read(&core.client, stream, timing.limit(seconds), version, &self.heard, |event, object| match event {
                Event::Bookmark => Ok("".into()),
                event => names.take(event, object),
            })
            .await?;
            pace.reset();
            seconds = timing.seconds();
            stream = core.client.reopen(&self.collection.watch(version.as_deref(), seconds)).await?;
        }
    }

    /// Reads all pages and hands them on. Gives the version that the list shows.
    async fn list(&self, core: &Core, names: &impl Names) -> Result<Arc<str>, Failure> {
        let mut restarts = 0;
        let mut size = PAGE;
        let mut all = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let body = match core.client.read(&self.collection.page(size, next.as_deref())).await {
                Ok(body) => body,
                // Large annotations: the same names in smaller portions.
                Err(Failure::TooLarge { .. }) if size > 1 => {
                    size = (size / 10).max(1);
                    continue;
                }
                Err(Failure::Gone) if next.is_some() && restarts < RESTARTS => {
                    restarts += 1;
                    all.clear();
                    next = None;
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            let page = names.page(body.as_slice())?;
            all.extend(page.items);
            if page.next.is_none() {
                names.replace(all);
                return Ok(page.version);
            }
            if page.next == next {
                return Err(Failure::BadStream("the same page of a list twice"));
            }
            next = page.next;
            self.progress.send_modify(|progress| progress.begun = true);
        }
    }

    async fn check_not_restored(&self, core: &Core, names: &impl Names, version: Option<&str>) -> Result<(), Failure> {
        let body = core.client.read(&self.collection.page(1, None)).await?;
        let current = names.page(body.as_slice())?.version;
        match version {
            Some(version) if is_older(&current, version) => Err(Failure::Gone),
            _ => Ok(()),
        }
    }

    fn stalled(&self, refusal: Refusal) {
        self.progress.send_modify(|progress| {
            progress.live = false;
            progress.refusal = Some(refusal);
        });
    }
}

/// The names of namespaces.
pub struct NamespaceNames {
    pub places: Arc<Places>,
}

impl Names for NamespaceNames {
    type Item = Namespace;

    fn page(&self, body: &[u8]) -> Result<Page<Namespace>, DecodeError> {
        namespace_page_from_json(body)
    }

    fn replace(&self, all: Vec<Namespace>) {
        self.places.namespaces_listed(all);
    }

    fn refused(&self) {
        self.places.namespaces_refused();
    }

    fn take(&self, event: Event, object: &[u8]) -> Result<Arc<str>, DecodeError> {
        let namespace = namespace_from_json(object)?;
        match event {
            Event::Deleted => self.places.namespace_removed(&namespace.item),
            _ => self.places.namespace_added(namespace.item),
        }
        Ok(namespace.version)
    }
}

/// The names of objects go by the fetcher, which knows whose values are wanted.
pub struct ObjectNames {
    pub kind: Kind,
    pub namespace: Option<Namespace>,
    pub places: Arc<Places>,
}

impl ObjectNames {
    /// A server that mixes namespaces up is not believed.
    fn check(&self, meta: &Meta) -> Result<(), DecodeError> {
        if self.namespace.as_ref().is_none_or(|wanted| *wanted == meta.id.namespace) {
            return Ok(());
        }
        Err(DecodeError::Invalid { kind: self.kind.api_kind(), field: "metadata.namespace (it was not asked for)" })
    }
}

impl Names for ObjectNames {
    type Item = Meta;

    fn page(&self, body: &[u8]) -> Result<Page<Meta>, DecodeError> {
        let page = meta_page_from_json(self.kind, body)?;
        page.items.iter().try_for_each(|meta| self.check(meta))?;
        Ok(page)
    }

    fn replace(&self, all: Vec<Meta>) {
        self.places.listed(self.kind, self.namespace.as_ref(), all);
    }

    fn refused(&self) {
        self.places.refused(self.kind, self.namespace.as_ref());
    }

    fn take(&self, event: Event, object: &[u8]) -> Result<Arc<str>, DecodeError> {
        let meta = meta_from_json(self.kind, object)?;
        self.check(&meta)?;
        let version = meta.version.clone();
        match event {
            Event::Deleted => self.places.removed(&meta.id),
            _ => self.places.present(meta),
        }
        Ok(version)
    }
}
