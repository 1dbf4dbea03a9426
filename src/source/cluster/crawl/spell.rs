//! What has been read for the first time lately: the evidence on which crawls begin, and the account of what they bring.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::object::{Kind, Namespace, ObjectId};

/// A pause after which reading begins anew, from an answer to the next question. A crawler asks at once; a pause is measured
/// without the time that the server takes, so that a server far away makes no difference.
const PAUSE: Duration = Duration::from_secs(1);
/// So many first reads in one namespace are no crawl yet: a program that reads its few Secrets at its start gets no others.
const FIRST_READS: usize = 4;
/// So many namespaces that were gone through, with so many first reads in all, show that others will be.
const NAMESPACES: usize = 2;
const READS: usize = 16;

#[derive(Debug)]
struct Place {
    reads: usize,
    last: Instant,
}

/// First reads with no pause between them. See the module's documentation.
#[derive(Debug, Default)]
pub struct Spell {
    last: Option<Instant>,
    reads: usize,
    /// Objects that came in pages, and those of them that were asked for.
    brought: usize,
    taken: usize,
    places: HashMap<(Namespace, Kind), Place>,
    /// Where more than half of the names have been read.
    gone_through: HashMap<Kind, BTreeSet<Namespace>>,
}

impl Spell {
    /// An object is read for the first time, one of `names` in its namespace.
    pub fn read(&mut self, id: &ObjectId, names: usize, now: Instant) {
        if self.last.is_none_or(|last| now - last > PAUSE) {
            *self = Spell::default();
        }
        self.last = Some(now);
        self.reads += 1;
        let place = self.places.entry((id.namespace.clone(), id.kind)).or_insert(Place { reads: 0, last: now });
        // More reads than names: what was read has been dropped, and somebody begins once more.
        if now - place.last > PAUSE || place.reads >= names {
            place.reads = 0;
        }
        place.reads += 1;
        place.last = now;
        if place.reads * 2 > names {
            self.gone_through.entry(id.kind).or_default().insert(id.namespace.clone());
        }
    }

    /// Somebody has been answered who asked for this object.
    pub fn answered(&mut self, id: &ObjectId, now: Instant) {
        self.last = Some(now);
        if let Some(place) = self.places.get_mut(&(id.namespace.clone(), id.kind)) {
            place.last = now;
        }
    }

    pub fn is_idle_for(&self, time: Duration, now: Instant) -> bool {
        self.last.is_none_or(|last| now - last >= time)
    }

    pub fn brought(&mut self, objects: usize) {
        self.brought += objects;
    }

    pub fn taken(&mut self) {
        self.taken += 1;
    }

    /// How many objects may come in vain from now on: as many as have been read, and `more`. However somebody reads, pages
    /// bring at most about twice what is wanted.
    pub fn credit(&self, more: usize) -> usize {
        let in_vain = self.brought.saturating_sub(self.taken);
        (self.reads + more).saturating_sub(in_vain)
    }

    /// Whether this object's namespace is being read from one end to the other.
    pub fn is_crawl_of(&self, id: &ObjectId) -> bool {
        self.reads_beside(id) > FIRST_READS
    }

    /// Whether this is the first read in its namespace, after others that were gone through.
    pub fn enters(&self, id: &ObjectId) -> bool {
        let others = self.gone_through.get(&id.kind).map_or(0, BTreeSet::len);
        self.reads_beside(id) == 1 && self.reads >= READS && others >= NAMESPACES
    }

    /// Whether these others are before it in the order of the names, in which directories are listed.
    pub fn goes_forward(&self, id: &ObjectId) -> bool {
        let mut all = self.gone_through.get(&id.kind).into_iter().flatten();
        all.nth(NAMESPACES - 1).is_some_and(|namespace| *namespace < id.namespace)
    }

    /// The first reads in the object's namespace.
    fn reads_beside(&self, id: &ObjectId) -> usize {
        self.places.get(&(id.namespace.clone(), id.kind)).map_or(0, |place| place.reads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Name;

    fn id(namespace: &str, number: usize) -> ObjectId {
        let (namespace, name) = (Namespace::new(namespace).unwrap(), Name::new(&format!("s{number}")).unwrap());
        ObjectId { namespace, kind: Kind::Secret, name }
    }

    fn read(spell: &mut Spell, namespace: &str, names: usize, now: Instant) {
        (0..names).for_each(|number| spell.read(&id(namespace, number), names, now));
    }

    #[test]
    fn five_reads_in_a_namespace_are_a_crawl_unless_there_is_a_pause() {
        let mut spell = Spell::default();
        let mut now = Instant::now();
        for number in 0..4 {
            spell.read(&id("a", number), 100, now);
            // The server's time does not count.
            now += 3 * PAUSE;
            spell.answered(&id("a", number), now);
            now += PAUSE;
        }
        assert!(!spell.is_crawl_of(&id("a", 4)));
        spell.read(&id("a", 4), 100, now);
        assert!(spell.is_crawl_of(&id("a", 4)) && !spell.is_crawl_of(&id("b", 0)));
        spell.answered(&id("a", 4), now);
        spell.read(&id("a", 5), 100, now + PAUSE + Duration::from_millis(1));
        assert!(!spell.is_crawl_of(&id("a", 5)));
    }

    #[test]
    fn whole_namespaces_show_that_others_will_be_read() {
        let now = Instant::now();
        let mut spell = Spell::default();
        read(&mut spell, "b", 8, now);
        read(&mut spell, "d", 8, now);
        let mut enters = |namespace: &str| {
            spell.read(&id(namespace, 0), 100, now);
            (spell.enters(&id(namespace, 0)), spell.goes_forward(&id(namespace, 0)))
        };
        assert_eq!([enters("a"), enters("c"), enters("e")], [(true, false), (true, false), (true, true)]);
        assert!(!enters("e").0, "it has been entered");
    }

    #[test]
    fn a_second_round_enters_namespaces_again() {
        let now = Instant::now();
        let mut spell = Spell::default();
        let all = ["a", "b", "c"];
        all.iter().for_each(|namespace| read(&mut spell, namespace, 8, now));
        let again = all.map(|namespace| {
            spell.read(&id(namespace, 0), 8, now);
            let entered = (spell.enters(&id(namespace, 0)), spell.goes_forward(&id(namespace, 0)));
            (1..8).for_each(|number| spell.read(&id(namespace, number), 8, now));
            entered
        });
        assert_eq!(again, [(true, false), (true, false), (true, true)]);
    }

    #[test]
    fn few_reads_in_each_of_many_namespaces_show_nothing() {
        let now = Instant::now();
        let mut spell = Spell::default();
        for namespace in 10..99 {
            (0..4).for_each(|number| spell.read(&id(&format!("n{namespace}"), number), 8, now));
        }
        spell.read(&id("z", 0), 8, now);
        assert!(!spell.enters(&id("z", 0)) && !spell.is_crawl_of(&id("z", 0)));
        let mut small = Spell::default();
        (10..24).for_each(|namespace| read(&mut small, &format!("n{namespace}"), 1, now));
        small.read(&id("z", 0), 1, now);
        assert!(!small.enters(&id("z", 0)), "whole namespaces, but of one Secret each");
    }

    #[test]
    fn what_comes_in_vain_is_bounded_by_what_is_read() {
        let mut spell = Spell::default();
        read(&mut spell, "a", 10, Instant::now());
        assert_eq!(spell.credit(5), 15);
        spell.brought(12);
        (0..3).for_each(|_| spell.taken());
        assert_eq!(spell.credit(5), 6);
        spell.brought(100);
        assert_eq!(spell.credit(5), 0);
    }
}
