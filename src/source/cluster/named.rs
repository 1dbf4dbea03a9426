//! Follows one object by named requests only: the least rights that can keep it current.
//!
//! At first: GET, then a watch of that name without a version, which begins with the object as it is then, so that no
//! change in between is lost. Where many objects are asked for at once, all are fetched before the first is watched, since only
//! for the former somebody waits. If it begins with anything else, the object was deleted in between: GET again. A watch that
//! ends in order goes on from where it was. After a failure the order is turned round (watch first, held back until a GET has
//! answered), since only the watch can be retried side by side ([`Client::reopen`](super::client::Client::reopen)), and the
//! GET heals whatever happened meanwhile: a deletion, another object under the name, versions that went backwards.
//! Where the name may be read but not watched it is polled.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::core::{Before, Core, Denials, Pace, not_found};
use super::failure::Failure;
use super::request;
use super::watch::{Event, read};
use crate::object::{DecodeError, Object, ObjectId, object_from_json, object_meta_from_json};
use crate::source::freshness::{Freshness, Heard, State};
use crate::store::{Known, Refusal};

/// How many polls pass before a refused watch is tried again: rights may have been given.
const POLLS_BEFORE_WATCH: u32 = 10;

/// What can be told about an object that is not in the store.
#[derive(Clone, Debug)]
enum Answer {
    /// The server is being asked.
    Pending,
    /// The store is right.
    Known,
    /// The store was right until the watch failed: the server must be asked.
    Unsure,
    /// The server was asked in vain.
    Refused(Refusal),
    /// This object is no longer followed by name.
    Ended,
}

/// What to do about an object that is not there or cannot be read at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// Wait for it: it was asked for explicitly.
    Wait,
    /// Leave it: it is one of any number of names that somebody may try.
    Leave,
}

/// Whether an object is followed, and for how long if it is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    On(Absence),
    /// The task has said its last word.
    Ended,
}

/// One followed object, for those who ask for it.
pub struct Named {
    core: Arc<Core>,
    id: ObjectId,
    course: Mutex<Course>,
    answer: watch::Sender<Answer>,
    asked: Notify,
    denials: Mutex<Denials>,
    heard: Heard,
    task: OnceLock<AbortHandle>,
}

impl Named {
    /// Begins to follow `id`.
    pub fn start(core: &Arc<Core>, id: ObjectId, absence: Absence) -> Arc<Self> {
        let answer = watch::Sender::new(Answer::Pending);
        let (denials, task, course) = (Mutex::default(), OnceLock::new(), Mutex::new(Course::On(absence)));
        let (asked, heard) = (Notify::new(), Heard::default());
        let named = Named { core: core.clone(), id, course, answer, asked, denials, heard, task };
        let named = Arc::new(named);
        let running = named.clone();
        let _ = named.task.set(core.spawn(async move { running.run().await }));
        named
    }

    /// Follows it no longer. Who waits is sent back to where they came from.
    pub fn end(&self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
        *self.course() = Course::Ended;
        self.answer.send_replace(Answer::Ended);
    }

    /// Somebody else asks for it. Whether it is followed still, and will be waited for if that is asked for.
    pub fn join(&self, absence: Absence) -> bool {
        let mut course = self.course();
        match *course {
            Course::Ended => false,
            Course::On(_) => {
                if absence == Absence::Wait {
                    *course = Course::On(Absence::Wait);
                }
                true
            }
        }
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The object, or why there is none. Waits for the first answer only, or for a new attempt if the last one failed.
    /// `None`: it is no longer followed here.
    pub async fn wait(&self) -> Option<Result<Arc<Object>, Refusal>> {
        if self.has_ended() {
            return None;
        }
        match self.core.store.get(&self.id) {
            Some(Known::Loaded(object)) => return Some(Ok(object)),
            // Its values were let go of, and nothing has changed since.
            Some(Known::Named(_)) if matches!(*self.answer.borrow(), Answer::Known) => return Some(self.fetch().await),
            _ => {}
        }
        let mut answer = self.answer.subscribe();
        let ask_again = self.answer.send_if_modified(|answer| {
            let again = matches!(answer, Answer::Unsure | Answer::Refused(_));
            if again {
                *answer = Answer::Pending;
            }
            again
        });
        if ask_again {
            self.asked.notify_one();
        }
        // The request has a deadline of its own: its answer tells more than the end of this one.
        let limit = self.core.client.timeout() + Duration::from_millis(200);
        let answer = timeout(limit, answer.wait_for(|answer| !matches!(answer, Answer::Pending))).await;
        match answer.map(|answer| answer.map(|answer| answer.clone())) {
            Ok(Ok(Answer::Refused(refusal))) => Some(Err(refusal)),
            Ok(Ok(Answer::Ended)) => None,
            Ok(Ok(_)) => Some(self.core.loaded(&self.id).ok_or_else(|| not_found(&self.id))),
            Ok(Err(_)) | Err(_) => Some(Err(self.core.refusal(&self.id, Failure::TimedOut))),
        }
    }

    /// `None`: only its name is kept.
    pub fn freshness(&self) -> Option<Freshness> {
        let store = &self.core.store;
        let known = store.get(&self.id);
        let state = match (&known, &*self.answer.borrow()) {
            (Some(Known::Named(_)), _) => return None,
            (Some(Known::Loaded(_)), Answer::Known) => State::Live,
            (Some(Known::Loaded(_)), _) => State::Stale,
            (None, Answer::Refused(Refusal::Forbidden { .. })) => State::Forbidden,
            (None, _) if store.is_withdrawn(&self.id) => State::Forbidden,
            // An outage does not bring it back.
            (None, _) if self.heard.last().is_some() => State::Gone,
            (None, _) => State::Unknown,
        };
        Some(Freshness { state, confirmed: self.heard.last() })
    }

    /// Asks beside the watch.
    async fn fetch(&self) -> Result<Arc<Object>, Refusal> {
        let object = self.core.get(&self.id).await.map_err(|failure| self.core.refusal(&self.id, failure))?;
        self.core.put(object);
        self.core.loaded(&self.id).ok_or_else(|| not_found(&self.id))
    }

    /// Whether nobody keeps it current any more.
    pub fn has_ended(&self) -> bool {
        *self.course() == Course::Ended
    }

    fn denials(&self) -> MutexGuard<'_, Denials> {
        self.denials.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    async fn run(&self) {
        let mut pace = Pace::new(self.core.poll);
        let mut interrupted = false;
        loop {
            let ended = self.live(interrupted, &mut pace).await;
            if self.leave() {
                // Who asks for it again begins anew; those who wait have their answer.
                return self.conclude(ended.err());
            }
            let Err(failure) = ended else {
                interrupted = false;
                continue;
            };
            interrupted = failure.is_outage();
            self.answer.send_if_modified(|answer| {
                *answer = match answer {
                    Answer::Pending => Answer::Refused(self.core.refusal(&self.id, failure.clone())),
                    Answer::Known => Answer::Unsure,
                    Answer::Unsure | Answer::Refused(_) | Answer::Ended => return false,
                };
                true
            });
            tracing::debug!("{}: {failure}", self.id);
            let before = if self.core.loaded(&self.id).is_some() { Before::Answered } else { Before::Never };
            let pause = pace.after(&failure, before);
            tokio::select! {
                () = sleep(pause) => {}
                // Somebody waits: first the object, then the watch.
                () = self.asked.notified() => interrupted = false,
            }
        }
    }

    /// The last word about an object that is left alone.
    fn conclude(&self, failure: Option<Failure>) {
        let refusal = failure.map_or_else(|| not_found(&self.id), |failure| self.core.refusal(&self.id, failure));
        self.answer.send_replace(Answer::Refused(refusal));
    }

    /// Ends if there is nothing to follow and nothing to wait for. From then on nobody can [`join`](Named::join).
    fn leave(&self) -> bool {
        let mut course = self.course();
        let left = *course == Course::On(Absence::Leave) && self.core.store.get(&self.id).is_none();
        if left {
            *course = Course::Ended;
        }
        left
    }

    /// Whether there is nothing to follow, and nothing to wait for.
    fn is_left(&self) -> bool {
        *self.course() == Course::On(Absence::Leave) && self.core.store.get(&self.id).is_none()
    }

    /// Learns about the object and keeps up with it until something fails.
    async fn live(&self, interrupted: bool, pace: &mut Pace) -> Result<(), Failure> {
        let timing = &self.core.timing;
        let mut seconds = timing.seconds();
        let request = |version: Option<&str>, seconds| request::object_watch(&self.id, version, seconds);
        let client = &self.core.client;
        if !interrupted {
            self.learn().await?;
            if self.is_left() {
                return Ok(());
            }
        }
        let first = request(None, seconds);
        let opened = match interrupted {
            false => client.open_after_fetches(&first).await,
            true => {
                let mut reopening = pin!(client.reopen(&first));
                loop {
                    tokio::select! {
                        opened = &mut reopening => break opened,
                        // Somebody waits for an answer, which a GET may give although no watch can be started.
                        () = self.asked.notified() => self.learn().await?,
                    }
                }
            }
        };
        let mut stream = match opened {
            Err(failure) if failure.is_forbidden() => return self.poll(interrupted).await,
            Err(failure) => {
                // A proxy that holds back what it has not read to the end lets answers pass, but no watch.
                if interrupted && failure == Failure::TimedOut {
                    self.learn().await?;
                }
                return Err(failure);
            }
            Ok(stream) => stream,
        };
        if interrupted {
            self.learn().await?;
        }
        let mut version = None;
        let mut met = false;
        loop {
            let take = |event, object: &[u8]| {
                met |= event == Event::Present;
                self.take(event, object)
            };
            read(client, stream, timing.limit(seconds), &mut version, &self.heard, take).await?;
            pace.reset();
            if self.is_left() {
                return Ok(());
            }
            if !met && self.core.loaded(&self.id).is_some() {
                self.learn().await?;
            }
            met = true;
            seconds = timing.seconds();
            stream = client.reopen(&request(version.as_deref(), seconds)).await?;
        }
    }

    /// Asks for the object at intervals. Returns when it is time to try the watch again.
    async fn poll(&self, interrupted: bool) -> Result<(), Failure> {
        tracing::debug!("{}: may not be watched: polling", self.id);
        if interrupted {
            self.learn().await?;
        }
        for _ in 0..POLLS_BEFORE_WATCH {
            tokio::select! {
                () = sleep(self.core.poll) => {}
                () = self.asked.notified() => {}
            }
            self.learn().await?;
            if self.is_left() {
                break;
            }
        }
        Ok(())
    }

    /// Asks for the object once.
    async fn learn(&self) -> Result<(), Failure> {
        match self.core.get(&self.id).await {
            Ok(object) => self.put(object),
            Err(failure) if failure.is_not_found(self.id.name.as_str()) => self.removed(),
            Err(failure) => {
                if self.denials().persist(&failure, self.core.poll) && self.core.store.get(&self.id).is_some() {
                    tracing::warn!("{}: access has been denied for a while: what was shown is withdrawn", self.id);
                    self.core.store.withdraw(&self.id);
                }
                self.answer.send_replace(Answer::Refused(self.core.refusal(&self.id, failure.clone())));
                return Err(failure);
            }
        }
        Ok(())
    }

    fn take(&self, event: Event, object: &[u8]) -> Result<Arc<str>, DecodeError> {
        match event {
            Event::Bookmark => Ok("".into()),
            Event::Deleted => {
                let meta = object_meta_from_json(self.id.kind, object)?;
                self.check(&meta.id)?;
                self.removed();
                Ok(meta.version)
            }
            Event::Present => {
                let object = object_from_json(self.id.kind, object)?;
                self.check(object.id())?;
                let version = object.meta.version.clone();
                self.denials().reset();
                self.core.put_newer(object);
                self.answer.send_replace(Answer::Known);
                Ok(version)
            }
        }
    }

    fn check(&self, id: &ObjectId) -> Result<(), DecodeError> {
        if *id == self.id {
            return Ok(());
        }
        Err(DecodeError::Invalid { kind: self.id.kind.api_kind(), field: "metadata.name (it was not asked for)" })
    }

    fn put(&self, object: Object) {
        self.heard.now();
        self.denials().reset();
        self.core.put_changed(object);
        self.answer.send_replace(Answer::Known);
    }

    fn removed(&self) {
        self.heard.now();
        self.core.store.remove(&self.id);
        let before = self.answer.send_replace(Answer::Known);
        if matches!(before, Answer::Refused(_)) {
            // Who was refused can now be told that there is none.
            self.core.store.look_again(self.id.clone());
        }
    }
}
