//! Book-keeping of the arena: which memory is free. Knows addresses only and touches no memory.
//!
//! Small pieces are slots of a chunk; all slots of a chunk have one size, a power of two. Large pieces have a mapping
//! of their own. What is free holds zeros, always: whoever gives a slot back has wiped it, and new pages are zero. So
//! there is no free list *in* the memory; a bit for each slot says whether it is free.

use std::collections::BTreeSet;
use std::io;
use std::ptr::NonNull;

use super::mapping::Mapping;

const SMALLEST_SHIFT: u32 = 5;
const LARGEST_SHIFT: u32 = 15;
const CLASSES: usize = (LARGEST_SHIFT - SMALLEST_SHIFT + 1) as usize;
/// The largest piece that shares a chunk: 32 KiB. Eight of them still fit.
pub(super) const LARGEST_SLOT: usize = 1 << LARGEST_SHIFT;
/// Small against the usual limit of locked memory (8 MiB), which counts whole chunks.
pub(super) const CHUNK: usize = 256 << 10;

/// Where a piece of memory belongs.
#[derive(Debug)]
pub(super) enum Place {
    Slot { chunk: u32, slot: u32 },
    Own(Mapping),
}

#[derive(Debug)]
struct Chunk {
    mapping: Mapping,
    class: usize,
    /// One bit for each slot, set where it is free.
    free: Vec<u64>,
    used: usize,
}

impl Chunk {
    fn new(mapping: Mapping, class: usize) -> Self {
        let slots = CHUNK / slot_size(class);
        let free = (0..slots.div_ceil(64)).map(|word| u64::MAX >> (64 - (slots - word * 64).min(64))).collect();
        Chunk { mapping, class, free, used: 0 }
    }

    fn is_full(&self) -> bool {
        self.used == CHUNK / slot_size(self.class)
    }

    fn take(&mut self) -> Option<u32> {
        let (index, word) = self.free.iter_mut().enumerate().find(|(_, word)| **word != 0)?;
        let bit = word.trailing_zeros();
        *word &= !(1 << bit);
        self.used += 1;
        Some(index as u32 * 64 + bit)
    }

    fn give_back(&mut self, slot: u32) {
        let word = &mut self.free[slot as usize / 64];
        debug_assert_eq!(*word >> (slot % 64) & 1, 0, "a slot was given back twice");
        *word |= 1 << (slot % 64);
        self.used -= 1;
    }
}

/// All memory for values.
#[derive(Debug, Default)]
pub(super) struct Slots {
    chunks: Vec<Option<Chunk>>,
    /// Indexes in `chunks` that are `None`.
    vacant: Vec<u32>,
    /// For each class the chunks that have a free slot. The first is taken first, so that the last ones become empty.
    open: [BTreeSet<u32>; CLASSES],
    /// One empty chunk is kept, so that a value that comes and goes does not map and unmap each time.
    spare: Option<Mapping>,
    mapped: usize,
}

impl Slots {
    pub(super) const fn new() -> Self {
        Slots {
            chunks: Vec::new(),
            vacant: Vec::new(),
            open: [const { BTreeSet::new() }; CLASSES],
            spare: None,
            mapped: 0,
        }
    }

    /// Bytes of all mappings, the spare one included.
    pub(super) fn mapped(&self) -> usize {
        self.mapped
    }

    /// Finds `len` zeroed bytes, aligned to 32.
    ///
    /// # Errors
    /// ENOMEM.
    pub(super) fn take(&mut self, len: usize) -> io::Result<(NonNull<u8>, Place)> {
        if len > LARGEST_SLOT {
            let mapping = Mapping::new(len)?;
            self.mapped += mapping.size();
            return Ok((mapping.start(), Place::Own(mapping)));
        }
        let class = class_of(len);
        let chunk = match self.open[class].first() {
            Some(&chunk) => chunk,
            None => self.open_chunk(class)?,
        };
        let found = self.chunks.get_mut(chunk as usize).and_then(Option::as_mut).and_then(|open| {
            let slot = open.take()?;
            let offset = slot as usize * slot_size(class);
            let start = NonNull::new(open.mapping.start().as_ptr().wrapping_add(offset))?;
            Some((start, slot, open.is_full()))
        });
        let (start, slot, is_full) = found.ok_or_else(|| io::Error::other("an open chunk without a free slot"))?;
        if is_full {
            self.open[class].remove(&chunk);
        }
        Ok((start, Place::Slot { chunk, slot }))
    }

    /// Takes back memory that has been wiped.
    pub(super) fn give_back(&mut self, place: Place) {
        match place {
            Place::Own(mapping) => self.mapped -= mapping.size(),
            Place::Slot { chunk: index, slot } => {
                let Some(chunk) = self.chunks.get_mut(index as usize).and_then(Option::as_mut) else { return };
                chunk.give_back(slot);
                let (class, is_empty) = (chunk.class, chunk.used == 0);
                if is_empty {
                    self.close_chunk(index, class);
                } else {
                    self.open[class].insert(index);
                }
            }
        }
    }

    /// Gives the end of a large piece back to the kernel; the end of a slot stays with the slot.
    pub(super) fn truncate(&mut self, place: &mut Place, len: usize) {
        if let Place::Own(mapping) = place {
            self.mapped -= mapping.truncate(len);
        }
    }

    fn open_chunk(&mut self, class: usize) -> io::Result<u32> {
        let mapping = match self.spare.take() {
            Some(spare) => spare,
            None => {
                let mapping = Mapping::new(CHUNK)?;
                self.mapped += mapping.size();
                mapping
            }
        };
        let chunk = Some(Chunk::new(mapping, class));
        let index = match self.vacant.pop() {
            Some(index) => {
                self.chunks[index as usize] = chunk;
                index
            }
            None => {
                self.chunks.push(chunk);
                self.chunks.len() as u32 - 1
            }
        };
        self.open[class].insert(index);
        Ok(index)
    }

    fn close_chunk(&mut self, index: u32, class: usize) {
        self.open[class].remove(&index);
        self.vacant.push(index);
        if let Some(chunk) = self.chunks[index as usize].take() {
            if self.spare.is_none() {
                self.spare = Some(chunk.mapping);
            } else {
                self.mapped -= chunk.mapping.size();
            }
        }
    }
}

fn class_of(len: usize) -> usize {
    let shift = len.next_power_of_two().trailing_zeros();
    (shift.max(SMALLEST_SHIFT) - SMALLEST_SHIFT) as usize
}

fn slot_size(class: usize) -> usize {
    1 << (class as u32 + SMALLEST_SHIFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_the_next_power_of_two() {
        for (len, size) in [(1, 32), (32, 32), (33, 64), (64, 64), (4097, 8192), (LARGEST_SLOT, LARGEST_SLOT)] {
            assert_eq!(slot_size(class_of(len)), size, "{len}");
        }
    }

    #[test]
    fn slots_do_not_overlap_and_fill_a_chunk() {
        for len in [1, 32, 100, 5000, LARGEST_SLOT] {
            let mut slots = Slots::new();
            let size = slot_size(class_of(len));
            let mut starts: Vec<usize> =
                (0..CHUNK / size).map(|_| slots.take(len).unwrap().0.as_ptr() as usize).collect();
            assert_eq!(slots.mapped(), CHUNK, "{len}");
            starts.sort_unstable();
            assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == size), "{len}");
            slots.take(len).unwrap();
            assert_eq!(slots.mapped(), 2 * CHUNK, "{len}");
        }
    }

    #[test]
    fn empty_chunks_go_and_one_stays_for_any_class() {
        let mut slots = Slots::new();
        let places: Vec<Place> = (0..24).map(|_| slots.take(LARGEST_SLOT).unwrap().1).collect();
        assert_eq!(slots.mapped(), 3 * CHUNK);
        for place in places {
            slots.give_back(place);
        }
        assert_eq!(slots.mapped(), CHUNK);
        let (_, place) = slots.take(1).unwrap();
        assert_eq!(slots.mapped(), CHUNK);
        slots.give_back(place);
        assert_eq!(slots.mapped(), CHUNK);
    }

    #[test]
    fn a_large_piece_goes_at_once_and_its_end_before() {
        let mut slots = Slots::new();
        let (_, mut place) = slots.take(1 << 20).unwrap();
        assert_eq!(slots.mapped(), 1 << 20);
        slots.truncate(&mut place, 1 << 19);
        assert_eq!(slots.mapped(), 1 << 19);
        slots.give_back(place);
        assert_eq!(slots.mapped(), 0);
    }

    #[test]
    fn a_freed_slot_is_used_before_new_memory() {
        let mut slots = Slots::new();
        let mut places: Vec<Place> = (0..16).map(|_| slots.take(LARGEST_SLOT).unwrap().1).collect();
        slots.give_back(places.remove(3));
        slots.take(LARGEST_SLOT).unwrap();
        assert_eq!(slots.mapped(), 2 * CHUNK);
    }
}
