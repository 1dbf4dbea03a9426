//! Notices when somebody reads one object of a namespace after the other (`grep -r`, `rsync`, `tar`), and fetches the rest
//! by pages of whole objects instead of a GET for each.
//!
//! A page is asked for when somebody wants an object that lies behind the last one: whoever stops reading stops the crawl.
//! Pages come in the order of the names, which is also the order of the directory. What a page does not have, because it
//! has just come or changed, and what cannot be had by pages at all, is fetched by its name as usual.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::core::Core;
use super::failure::Failure;
use super::request::Collection;
use crate::object::{Kind, Name, Namespace, Object, ObjectId, object_page_from_json};

/// So many first reads in one namespace within [`WINDOW`] are no crawl yet.
const FIRST_READS: usize = 4;
const WINDOW: Duration = Duration::from_secs(1);
/// Objects per page: two requests for 1 000 objects.
const PAGE: usize = 500;
/// A crawl ends when nobody has wanted anything for so long. A continue token lives for five minutes.
const IDLE: Duration = Duration::from_secs(10);

/// How far a crawl has come.
#[derive(Clone, Debug, Default)]
struct Reached {
    /// The last name of the pages so far.
    name: Option<Name>,
    ended: bool,
}

/// One crawl of one namespace and kind.
pub struct Crawl {
    collection: Collection,
    kind: Kind,
    namespace: Namespace,
    reached: watch::Sender<Reached>,
    /// The last name that anybody wants.
    wanted: watch::Sender<Option<Name>>,
}

impl Crawl {
    /// Waits until the pages have come to this name, or will not.
    pub async fn pass(&self, name: &Name) {
        self.wanted.send_if_modified(|wanted| {
            let further = wanted.as_ref().is_none_or(|wanted| wanted < name);
            if further {
                *wanted = Some(name.clone());
            }
            further
        });
        let mut reached = self.reached.subscribe();
        let _ = reached.wait_for(|reached| reached.ended || reached.name.as_ref() >= Some(name)).await;
    }

    fn has_ended(&self) -> bool {
        self.reached.borrow().ended
    }

    /// Hands the objects to `take` until there are no more, nobody wants more, or something fails.
    async fn run(&self, core: &Core, take: impl Fn(Object)) {
        if let Err(failure) = self.read(core, take).await {
            tracing::debug!("a crawl of {} ends early: {failure}", self.collection.name());
        }
        self.reached.send_modify(|reached| reached.ended = true);
    }

    async fn read(&self, core: &Core, take: impl Fn(Object)) -> Result<(), Failure> {
        let mut size = PAGE;
        let mut next: Option<String> = None;
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
            let last = page.items.iter().map(|object| &object.id().name).max().cloned();
            let ours = page.items.into_iter().filter(|object| object.id().namespace == self.namespace);
            ours.for_each(&take);
            if page.next.is_none() || page.next == next {
                return Ok(());
            }
            next = page.next;
            self.reached.send_modify(|reached| reached.name = last.clone().max(reached.name.take()));
            let more = wanted.wait_for(|wanted| *wanted > last);
            if !matches!(timeout(IDLE, more).await, Ok(Ok(_))) {
                return Ok(());
            }
        }
    }
}

#[derive(Default)]
struct Place {
    /// When objects were first read lately.
    reads: VecDeque<Instant>,
    crawl: Option<Arc<Crawl>>,
}

/// The crawls that are going on.
#[derive(Default)]
pub struct Crawls(Mutex<HashMap<(Namespace, Kind), Place>>);

impl Crawls {
    /// The crawl that will bring this object, which is about to be read for the first time; it is started if there have been
    /// enough such reads.
    pub fn join(
        &self,
        core: &Arc<Core>,
        id: &ObjectId,
        selector: Option<String>,
        take: impl Fn(Object) + Send + Sync + 'static,
    ) -> Option<Arc<Crawl>> {
        let mut places = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // What is over is forgotten: the map is never longer than there are places in use.
        places.retain(|_, place| {
            place.crawl.take_if(|crawl| crawl.has_ended());
            place.reads.retain(|read| read.elapsed() < WINDOW);
            place.crawl.is_some() || !place.reads.is_empty()
        });
        let place = places.entry((id.namespace.clone(), id.kind)).or_default();
        if let Some(crawl) = &place.crawl {
            return Some(crawl.clone());
        }
        place.reads.push_back(Instant::now());
        if place.reads.len() <= FIRST_READS {
            return None;
        }
        place.reads.clear();
        let (kind, namespace) = (id.kind, id.namespace.clone());
        let collection = Collection::Objects { kind, namespace: Some(namespace.clone()), selector };
        let (reached, wanted) = (watch::Sender::default(), watch::Sender::default());
        let crawl = Arc::new(Crawl { collection, kind, namespace, reached, wanted });
        place.crawl = Some(crawl.clone());
        let (task, shared) = (crawl.clone(), core.clone());
        core.spawn(async move { task.run(&shared, take).await });
        Some(crawl)
    }
}
