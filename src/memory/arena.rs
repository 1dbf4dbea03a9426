//! The memory that values of Secrets live in: locked, never dumped, wiped when it is let go.
#![allow(unsafe_code)]

use std::alloc::{Layout, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use zeroize::Zeroize;

use super::slots::{Place, Slots};

static SLOTS: Mutex<Slots> = Mutex::new(Slots::new());
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// Nothing panics while it holds the lock; were it to, the book-keeping is still whole between two calls.
fn slots() -> MutexGuard<'static, Slots> {
    SLOTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes mapped for values, free ones included: what they can occupy at most. Pages that nothing was written to take no
/// memory.
pub fn resident_bytes() -> usize {
    slots().mapped()
}

/// Bytes in all [`Wiped`] that are alive now.
pub fn live_bytes() -> usize {
    LIVE.load(Ordering::Relaxed)
}

/// Bytes that are wiped when they are dropped.
///
/// Their memory is locked where the limit allows it (a warning says once that it does not), is left out of core dumps,
/// and does not exist in a forked child, which dies if it touches it: fork before values are loaded. They have no
/// `Clone`, and their `Debug` tells their number only. As `AsRef<[u8]>` they can become `bytes::Bytes` without a copy.
///
/// Their number never grows, since growing would leave a copy behind; decode into [`Wiped::zeroed`] with the largest
/// possible length and [`Wiped::truncate`].
pub struct Wiped {
    start: NonNull<u8>,
    len: usize,
    /// `None` when it is empty, or on its way back.
    place: Option<Place>,
}

// SAFETY: It owns its bytes alone, as a Box<[u8]> does; shared access is read-only, and the arena has its own lock.
unsafe impl Send for Wiped {}
// SAFETY: As before.
unsafe impl Sync for Wiped {}

impl Wiped {
    /// `len` bytes of zero.
    ///
    /// # Panics
    /// Like every allocation it ends the process when there is no memory.
    pub fn zeroed(len: usize) -> Self {
        if len == 0 {
            return Wiped { start: NonNull::dangling(), len: 0, place: None };
        }
        let taken = slots().take(len);
        let Ok((start, place)) = taken else {
            handle_alloc_error(Layout::from_size_align(len, 1).unwrap_or(Layout::new::<u8>()))
        };
        LIVE.fetch_add(len, Ordering::Relaxed);
        Wiped { start, len, place: Some(place) }
    }

    /// A copy of `bytes`; whoever owns the original wipes it.
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut copy = Self::zeroed(bytes.len());
        copy.copy_from_slice(bytes);
        copy
    }

    /// Shortens it to `len` bytes and wipes the rest, whose whole pages go back to the kernel. Does nothing when it is
    /// not longer.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.len {
            return;
        }
        self[len..].zeroize();
        LIVE.fetch_sub(self.len - len, Ordering::Relaxed);
        self.len = len;
        match &mut self.place {
            Some(_) if len == 0 => self.give_back(),
            Some(place) => slots().truncate(place, len),
            None => {}
        }
    }

    /// Its bytes are zero by now.
    fn give_back(&mut self) {
        self.start = NonNull::dangling();
        self.len = 0;
        if let Some(place) = self.place.take() {
            slots().give_back(place);
        }
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        self.zeroize();
        LIVE.fetch_sub(self.len, Ordering::Relaxed);
        self.give_back();
    }
}

impl Deref for Wiped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` and `len` are what the arena gave, or a dangling pointer and 0; the bytes are initialised
        // (zero at first), belong to this value alone until it is dropped, and the result borrows from it.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Wiped {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: As in `deref`; and `&mut self` says that nobody else looks.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Default for Wiped {
    fn default() -> Self {
        Wiped::zeroed(0)
    }
}

impl PartialEq for Wiped {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Wiped {}

impl fmt::Debug for Wiped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wiped({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use rustix::process::{Resource, Rlimit};

    use super::super::slots::{CHUNK, LARGEST_SLOT};
    use super::*;
    use crate::mount::testing::{NOBODY, child, given_directory, is_root};

    #[test]
    fn nothing_needs_no_memory() {
        let mut nothing = Wiped::zeroed(0);
        assert!(nothing.is_empty() && nothing.place.is_none());
        nothing.truncate(0);
        assert_eq!(nothing, Wiped::default());
    }

    #[test]
    fn debug_shows_the_length_only() {
        assert_eq!(format!("{:?}", Wiped::copy_of(b"planted")), "Wiped(7 bytes)");
    }

    #[test]
    fn it_can_be_shared_and_sent() {
        fn check<T: Send + Sync + 'static>() {}
        check::<Wiped>();
        assert_eq!(bytes::Bytes::from_owner(Wiped::copy_of(b"shared")), "shared");
    }

    #[test]
    fn what_is_cut_off_and_what_is_dropped_is_wiped_in_place() {
        const NAME: &str = "memory::arena::tests::what_is_cut_off_and_what_is_dropped_is_wiped_in_place";
        // Alone, so that nobody gets the memory between dropping and looking.
        if given_directory().is_none() {
            return child(NAME, Path::new("/"), 0).succeeds();
        }
        assert_eq!((resident_bytes(), live_bytes()), (0, 0));
        let neighbour = Wiped::copy_of(&[1; 3000]);
        let mut value = Wiped::copy_of(&[0xAA; 3000]);
        let start = value.start.as_ptr();
        // SAFETY: The neighbour keeps the chunk mapped, and nobody else has memory in it.
        let count = |len| unsafe { slice::from_raw_parts(start, len) }.iter().filter(|&&byte| byte == 0xAA).count();
        assert_eq!((count(3000), live_bytes()), (3000, 6000));
        value.truncate(1000);
        assert_eq!((value.len(), count(3000), live_bytes()), (1000, 1000, 4000));
        drop(value);
        assert_eq!((count(3000), live_bytes()), (0, 3000));
        drop(neighbour);
        assert_eq!((resident_bytes(), live_bytes()), (CHUNK, 0));
    }

    #[test]
    fn a_limit_of_locked_memory_is_no_reason_to_stop() {
        const NAME: &str = "memory::arena::tests::a_limit_of_locked_memory_is_no_reason_to_stop";
        if given_directory().is_none() {
            // Root may lock beyond all limits.
            let uid = if is_root() { NOBODY } else { 0 };
            return child(NAME, Path::new("/"), uid).succeeds();
        }
        let nothing = Rlimit { current: Some(0), maximum: Some(0) };
        rustix::process::setrlimit(Resource::Memlock, nothing).unwrap();
        assert_eq!(&*Wiped::copy_of(b"small"), b"small");
        assert_eq!(Wiped::zeroed(1 << 20).len(), 1 << 20);
    }

    #[test]
    fn threads_do_not_get_each_others_memory() {
        std::thread::scope(|scope| {
            for id in 1..=4u8 {
                scope.spawn(move || {
                    let mut held = Vec::new();
                    for round in 0..2000usize {
                        let mut value = Wiped::zeroed(1 + round * 37 % 3000);
                        assert!(value.iter().all(|&byte| byte == 0));
                        value.fill(id);
                        held.push(value);
                        if round % 3 == 0 {
                            let gone = held.swap_remove(round * 7 % held.len());
                            assert!(gone.iter().all(|&byte| byte == id));
                        }
                    }
                });
            }
        });
    }

    #[derive(Clone, Debug)]
    enum Step {
        Make { len: usize, fill: u8 },
        Drop { which: usize },
        Truncate { which: usize, len: usize },
    }

    fn lengths() -> impl Strategy<Value = usize> {
        prop_oneof![
            40 => 0usize..5000,
            8 => LARGEST_SLOT - 40..LARGEST_SLOT + 40,
            1 => 0usize..=2 << 20,
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (lengths(), 1u8..).prop_map(|(len, fill)| Step::Make { len, fill }),
            2 => any::<usize>().prop_map(|which| Step::Drop { which }),
            2 => (any::<usize>(), lengths()).prop_map(|(which, len)| Step::Truncate { which, len }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn contents_are_never_mixed_up_and_new_memory_is_zero(steps in prop::collection::vec(step(), 1..120)) {
            let mut real: Vec<Wiped> = Vec::new();
            let mut model: Vec<(u8, usize)> = Vec::new();
            for step in steps {
                match step {
                    Step::Make { len, fill } => {
                        let mut value = Wiped::zeroed(len);
                        prop_assert_eq!(value.len(), len);
                        prop_assert!(value.iter().all(|&byte| byte == 0), "memory of a dropped value shows through");
                        value.fill(fill);
                        real.push(value);
                        model.push((fill, len));
                    }
                    Step::Drop { which } if !real.is_empty() => {
                        let which = which % real.len();
                        let (value, (fill, len)) = (real.swap_remove(which), model.swap_remove(which));
                        prop_assert!(value.len() == len && value.iter().all(|&byte| byte == fill));
                    }
                    Step::Truncate { which, len } if !real.is_empty() => {
                        let which = which % real.len();
                        real[which].truncate(len);
                        model[which].1 = model[which].1.min(len);
                    }
                    _ => {}
                }
            }
            for (value, &(fill, len)) in real.iter().zip(&model) {
                prop_assert_eq!(value.len(), len);
                prop_assert!(value.iter().all(|&byte| byte == fill), "somebody else has written here");
            }
        }
    }
}
