//! One crawl: pages of whole objects, each asked for when somebody wants an object that lies behind the last one. Whoever
//! stops reading stops the crawl.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::position::Position;
use crate::object::{Kind, Namespace, Object, ObjectId, meta_page_from_json, object_page_from_json};
use crate::source::cluster::core::Core;
use crate::source::cluster::failure::Failure;
use crate::source::cluster::request::Collection;

/// Objects per page at most: two requests for 1 000 objects, twenty for 10 000. Larger pages would save little and bring
/// more in vain. It is also what kubectl asks for.
pub const PAGE: usize = 500;
/// How long a page is meant to be, in bytes of JSON. Pages of large objects have fewer of them, by the page before.
const PAGE_BYTES: usize = 4 << 20;
/// A crawl ends when nobody has wanted anything for so long. A continue token lives for five minutes.
pub const IDLE: Duration = Duration::from_secs(10);

/// How far a crawl has come.
#[derive(Clone, Debug)]
struct Reached {
    /// The last place of the pages so far, or that before which they begin; `None` is the very beginning.
    place: Option<Position>,
    ended: bool,
}

/// See the module's documentation.
pub struct Crawl {
    collection: Collection,
    kind: Kind,
    /// `None` is the whole cluster.
    namespace: Option<Namespace>,
    /// How many objects of the list are before the first page.
    skipped: usize,
    /// How many objects a page has at most.
    page: usize,
    reached: watch::Sender<Reached>,
    /// The last place that anybody wants.
    wanted: watch::Sender<Option<Position>>,
}

impl Crawl {
    /// A crawl of an object's namespace, in which there are so many names.
    pub fn of_namespace(id: &ObjectId, selector: Option<String>, names: usize) -> Self {
        let namespace = Some(id.namespace.clone());
        let collection = Collection::Objects { kind: id.kind, namespace: namespace.clone(), selector };
        let reached = watch::Sender::new(Reached { place: None, ended: false });
        let page = names.min(PAGE);
        Crawl { collection, kind: id.kind, namespace, skipped: 0, page, reached, wanted: watch::Sender::default() }
    }

    /// A crawl of the cluster from a place on that `skipped` objects precede.
    pub fn of_cluster(kind: Kind, selector: Option<String>, start: Position, skipped: usize) -> Self {
        let collection = Collection::Objects { kind, namespace: None, selector };
        let reached = watch::Sender::new(Reached { place: Some(start), ended: false });
        Crawl { collection, kind, namespace: None, skipped, page: PAGE, reached, wanted: watch::Sender::default() }
    }

    pub fn namespace(&self) -> Option<&Namespace> {
        self.namespace.as_ref()
    }

    pub fn covers(&self, id: &ObjectId) -> bool {
        id.kind == self.kind && self.namespace.as_ref().is_none_or(|namespace| *namespace == id.namespace)
    }

    pub fn has_ended(&self) -> bool {
        self.reached.borrow().ended
    }

    /// Where the pages end that have come or that somebody waits for.
    pub fn frontier(&self) -> Option<Position> {
        self.reached.borrow().place.clone().max(self.wanted.borrow().clone())
    }

    /// Whether the pages have passed this place, or begin behind it.
    pub fn is_past(&self, place: &Position) -> bool {
        self.reached.borrow().place.as_ref() >= Some(place)
    }

    /// How many objects are to be expected of what somebody waits for.
    pub fn awaited(&self) -> usize {
        let reached = self.reached.borrow();
        let waits = !reached.ended && *self.wanted.borrow() > reached.place;
        if waits { self.page } else { 0 }
    }

    /// Has the pages go on to this place.
    pub fn want(&self, place: Position) {
        self.wanted.send_if_modified(|wanted| {
            let further = wanted.as_ref() < Some(&place);
            if further {
                *wanted = Some(place);
            }
            further
        });
    }

    /// Waits until the pages have come to this place, or will not.
    pub async fn pass(&self, place: &Position) {
        let mut reached = self.reached.subscribe();
        let _ = reached.wait_for(|reached| reached.ended || reached.place.as_ref() >= Some(place)).await;
    }

    /// A page is where it is looked for: those who wait for it may look.
    pub fn arrived(&self, last: Option<Position>) {
        self.reached.send_modify(|reached| reached.place = last.max(reached.place.take()));
    }

    /// Hands pages to `deliver`, with the place of the last object, until there are no more, nobody wants more, or something
    /// fails.
    pub async fn run(&self, core: &Core, deliver: impl Fn(Vec<Object>, Option<Position>)) {
        if let Err(failure) = self.read(core, deliver).await {
            tracing::debug!("a crawl of {} ends early: {failure}", self.collection.name());
        }
        self.reached.send_modify(|reached| reached.ended = true);
    }

    async fn read(&self, core: &Core, deliver: impl Fn(Vec<Object>, Option<Position>)) -> Result<(), Failure> {
        let mut size = PAGE;
        let mut next = None;
        if self.skipped > 0 {
            next = self.skip(core).await?;
            if next.is_none() {
                return Ok(());
            }
        }
        let mut wanted = self.wanted.subscribe();
        loop {
            let body = match core.client.read(&self.collection.values_page(size, next.as_deref())).await {
                Err(Failure::TooLarge { .. }) if size > 1 => {
                    size = (size / 10).max(1);
                    continue;
                }
                body => body?,
            };
            let page = object_page_from_json(self.kind, body.as_slice())?;
            let fitting = size * PAGE_BYTES / body.as_slice().len().max(1);
            size = fitting.clamp(1, PAGE);
            drop(body);
            let last = page.items.iter().map(|object| Position::of(object.id())).max();
            deliver(page.items.into_iter().filter(|object| self.covers(object.id())).collect(), last.clone());
            if page.next.is_none() || page.next == next {
                return Ok(());
            }
            next = page.next;
            let more = wanted.wait_for(|wanted| *wanted > last);
            if !matches!(timeout(IDLE, more).await, Ok(Ok(_))) {
                return Ok(());
            }
        }
    }

    /// Gets the continue token of the place where the pages are to begin: by a list of the names before it, which is short
    /// beside their values. The token is the server's own; it says where in the list to go on, not what is shown of it.
    async fn skip(&self, core: &Core) -> Result<Option<String>, Failure> {
        let names = core.client.read(&self.collection.page(self.skipped, None)).await?;
        Ok(meta_page_from_json(self.kind, names.as_slice())?.next)
    }
}
