//! Reads one watch: frames its lines, tells events apart, remembers the version to go on from, and notices silence.
//!
//! How a stalled watch is noticed. A watch is silent while nothing changes, and bookmarks come about once a minute, so
//! silence alone says nothing. Each watch is therefore asked to end by itself after 20 to 24 s (`timeoutSeconds`), and a
//! client-side deadline 5 s later notices one that does not: a stall shows within 29 s, wherever it sits (a dead peer, a
//! stopped API server, a gateway that holds the connection and forwards nothing). The price is one small request for each
//! watch every 22 s, on the same connection, from the version that the closing bookmark gives. TCP keepalive
//! ([`super::transport`]) costs no wake-up at all but sees only dead peers: a SIGSTOPped server's kernel still answers.
//! Pings need HTTP/2. Between these moments nothing here wakes the process but the server's own events.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use super::buffer::Lines;
use super::client::{Client, Stream};
use super::failure::{Failure, status_failure};
use super::transport::Moved;
use crate::chance;
use crate::object::{DecodeError, MAX_OBJECT_JSON, version_from_json};
use crate::source::freshness::Heard;

/// A watch that ends sooner than this did not end because it was asked to: without a pause, the next might follow at once
/// and for ever.
const TOO_SHORT: Duration = Duration::from_millis(500);

/// For how long watches are asked for, and how much later than asked they may end.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub shortest: u64,
    pub spread: u64,
    pub grace: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        // A timer of tokio's that is far away wakes its thread once more up to 4.096 s before it is due, to be put where the
        // next ones are (the third level of its wheel): with less grace, watches that end as asked would wake us in vain.
        Timing { shortest: 20, spread: 5, grace: Duration::from_secs(5) }
    }
}

impl Timing {
    /// Seconds for the next watch: they differ, so that many watches do not end at once.
    pub fn seconds(&self) -> u64 {
        self.shortest + (chance::fraction() * self.spread as f64) as u64
    }

    /// When a watch that was asked for `seconds` is given up.
    pub fn limit(&self, seconds: u64) -> Duration {
        Duration::from_secs(seconds) + self.grace
    }
}

/// What an event says about its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is there, in this version.
    Present,
    Deleted,
    /// Nothing but the version that the watch has come to.
    Bookmark,
}

#[derive(Deserialize)]
struct EventJson<'a> {
    #[serde(rename = "type")]
    event: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// Hands each event to `take`, which gives its resourceVersion back, until the server ends the watch in order, which it must
/// do within `length`. `version` is always that of the last event taken, so that another watch can go on from there. Every
/// sign of life is noted in `heard`.
pub async fn read(
    client: &Client,
    mut stream: Stream,
    length: Duration,
    version: &mut Option<Arc<str>>,
    heard: &Heard,
    take: impl FnMut(Event, &[u8]) -> Result<Arc<str>, DecodeError>,
) -> Result<(), Failure> {
    heard.now();
    let result = read_until(&mut stream, Instant::now() + length, version, heard, take).await;
    if result.is_err() {
        client.note(&result);
    }
    if result == Err(Failure::TimedOut) {
        stream.body.condemn();
    }
    result
}

async fn read_until(
    stream: &mut Stream,
    deadline: Instant,
    version: &mut Option<Arc<str>>,
    heard: &Heard,
    mut take: impl FnMut(Event, &[u8]) -> Result<Arc<str>, DecodeError>,
) -> Result<(), Failure> {
    // An event is a little longer than its object.
    let mut lines = Lines::new(MAX_OBJECT_JSON + 1024);
    let began = Instant::now();
    loop {
        let piece = tokio::select! {
            biased;
            piece = timeout_at(deadline, stream.body.next()) => piece,
            // It goes on from the version of the last event.
            () = moved(&mut stream.moved), if !lines.is_partial() => return Ok(()),
        };
        let Ok(piece) = piece else { return Err(Failure::TimedOut) };
        let Some(piece) = piece else {
            let orderly = !lines.is_partial() && began.elapsed() > TOO_SHORT;
            return if orderly { Ok(()) } else { Err(Failure::Cut) };
        };
        lines.feed(&piece?, |line| {
            *version = Some(take_line(line, &mut take)?);
            Ok::<_, Failure>(())
        })?;
        heard.now();
    }
}

async fn moved(moved: &mut Option<Moved>) {
    match moved {
        Some(moved) => moved.wait().await,
        None => std::future::pending().await,
    }
}

fn take_line(
    line: &[u8],
    take: &mut impl FnMut(Event, &[u8]) -> Result<Arc<str>, DecodeError>,
) -> Result<Arc<str>, Failure> {
    let event: EventJson = serde_json::from_slice(line).map_err(|_| Failure::BadStream("a line that is no event"))?;
    let object = event.object.get().as_bytes();
    match event.event {
        "ADDED" | "MODIFIED" => Ok(take(Event::Present, object)?),
        "DELETED" => Ok(take(Event::Deleted, object)?),
        "BOOKMARK" => {
            let version = version_from_json(object)?;
            take(Event::Bookmark, object)?;
            Ok(version)
        }
        "ERROR" => {
            Err(status_failure(None, object, None).unwrap_or(Failure::BadStream("an ERROR event without a Status")))
        }
        _ => Err(Failure::BadStream("an event of an unknown type")),
    }
}

/// Whether `version` is surely older than `other`. Versions are opaque, but every API server's are numbers (and are
/// documented to compare since KEP-5504); of anything else nothing is said.
pub fn is_older(version: &str, other: &str) -> bool {
    match (version.parse::<u64>(), other.parse::<u64>()) {
        (Ok(version), Ok(other)) => version < other,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn take_all(line: &[u8]) -> Result<(Event, Arc<str>), Failure> {
        let mut seen = None;
        let version = take_line(line, &mut |event, object| {
            seen = Some(event);
            version_from_json(object)
        })?;
        Ok((seen.unwrap(), version))
    }

    #[test]
    fn events_are_told_apart_whatever_their_fields_order() {
        let object = r#"{"kind":"Secret","metadata":{"resourceVersion":"7"}}"#;
        for (name, event) in [
            ("ADDED", Event::Present),
            ("MODIFIED", Event::Present),
            ("DELETED", Event::Deleted),
            ("BOOKMARK", Event::Bookmark),
        ] {
            for line in [
                format!(r#"{{"type":"{name}","object":{object}}}"#),
                format!(r#"{{"object":{object},"type":"{name}"}}"#),
            ] {
                assert_eq!(take_all(line.as_bytes()).unwrap(), (event, "7".into()));
            }
        }
    }

    #[test]
    fn an_error_event_is_a_failure() {
        let gone = br#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}"#;
        assert_eq!(take_all(gone).unwrap_err(), Failure::Gone);
        let other = br#"{"type":"ERROR","object":{"kind":"Status","code":500,"reason":"InternalError"}}"#;
        assert!(take_all(other).unwrap_err().is_outage());
        for bad in ["", "[]", "{}", r#"{"type":"NEW","object":{}}"#, r#"{"type":"ERROR","object":{}}"#, "<html>"] {
            assert!(matches!(take_all(bad.as_bytes()), Err(Failure::BadStream(_))), "{bad}");
        }
    }

    #[test]
    fn versions_are_compared_as_numbers_or_not_at_all() {
        assert!(is_older("9", "10") && !is_older("10", "9") && !is_older("10", "10"));
        assert!(!is_older("a", "b") && !is_older("9", "b"));
    }

    mod properties {
        use super::*;

        proptest! {
            #[test]
            fn arbitrary_lines_never_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
                let _ = take_all(&line);
            }

            /// However the network cuts the stream, and whatever happens to single bytes of it.
            #[test]
            fn any_line_of_a_watch_is_an_event_or_a_failure(
                kinds in proptest::collection::vec(proptest::sample::select(vec!["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]), 1..8),
                cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
                flips in proptest::collection::vec((any::<proptest::sample::Index>(), 1u8..), 0..4),
            ) {
                let line = |(at, kind): (usize, &&str)| {
                    format!(r#"{{"type":"{kind}","object":{{"kind":"Secret","metadata":{{"resourceVersion":"{at}"}}}}}}"#) + "\n"
                };
                let mut stream: Vec<u8> = kinds.iter().enumerate().map(line).collect::<String>().into_bytes();
                for (at, flip) in &flips {
                    let at = at.index(stream.len());
                    stream[at] ^= flip;
                }
                let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
                places.extend([0, stream.len()]);
                places.sort();
                let (mut lines, mut seen) = (Lines::new(1024), Vec::new());
                let fed: Result<(), Failure> = places.windows(2).try_for_each(|pair| {
                    lines.feed(&stream[pair[0]..pair[1]], |line| {
                        seen.push(take_all(line)?);
                        Ok::<_, Failure>(())
                    })
                });
                if flips.is_empty() {
                    prop_assert!(fed.is_ok() && !lines.is_partial());
                    let versions: Vec<&str> = seen.iter().map(|(_, version)| &**version).collect();
                    prop_assert_eq!(versions, (0..kinds.len()).map(|at| at.to_string()).collect::<Vec<_>>());
                } else {
                    prop_assert!(seen.len() <= kinds.len() + flips.len(), "a byte makes at most one more line");
                }
            }
        }
    }
}
