//! An allocator that wipes what is given back to it: for the copies of values that are not ours to wipe.
//!
//! Our own buffers are wiped by their types. hyper, rustls, serde and saphyr have theirs, through which the answers of the
//! API server and the text of manifests pass; what they free would lie in the heap until something else is written there.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{Ordering, compiler_fence};

/// The system's allocator, but memory is zeroed before it is given back. The binary installs it.
pub struct Wiping;

fn wipe(start: *mut u8, len: usize) {
    // SAFETY: Both callers own these bytes, and nobody else has an address in them any more.
    unsafe { ptr::write_bytes(start, 0, len) };
    // The address escapes into a call that the compiler cannot look into, so that it must believe that somebody reads
    // the zeros: without it, writing to memory that is freed next is left out.
    std::hint::black_box(start);
    compiler_fence(Ordering::SeqCst);
}

// SAFETY: All memory is the system allocator's, with the layouts that the callers give.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: The caller's promise is the system allocator's condition.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: As before.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        wipe(start, layout.size());
        // SAFETY: As before.
        unsafe { System.dealloc(start, layout) }
    }

    /// Never by the system's own realloc, which may leave the old bytes where they were.
    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: The caller promises that `size` is not zero and does not overflow when rounded up to the alignment.
        let new = unsafe { System.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !new.is_null() {
            // SAFETY: Both are allocations of at least that size, and not the same one.
            unsafe { ptr::copy_nonoverlapping(start, new, layout.size().min(size)) };
            // SAFETY: The caller gives `start` away with its layout.
            unsafe { self.dealloc(start, layout) };
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_grows_or_shrinks_keeps_its_bytes() {
        let layout = Layout::array::<u8>(100).unwrap();
        // SAFETY: Layouts are right, and each address is used until it is given back.
        unsafe {
            let start = Wiping.alloc(layout);
            ptr::write_bytes(start, 7, 100);
            let larger = Wiping.realloc(start, layout, 5000);
            assert!((0..100).all(|at| *larger.add(at) == 7));
            let smaller = Wiping.realloc(larger, Layout::array::<u8>(5000).unwrap(), 10);
            assert!((0..10).all(|at| *smaller.add(at) == 7));
            Wiping.dealloc(smaller, Layout::array::<u8>(10).unwrap());
        }
    }

    #[test]
    fn what_is_given_back_is_zero() {
        let mut bytes = [7_u8; 64];
        wipe(bytes.as_mut_ptr(), bytes.len());
        assert_eq!(bytes, [0; 64]);
    }
}
