//! Memory straight from the kernel, with the properties that values of Secrets need.
#![allow(unsafe_code)]

use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::mm::{Advice, MapFlags, MlockFlags, ProtFlags, madvise, mlock_with, mmap_anonymous, munmap};
use rustix::process::{Resource, getrlimit};

/// Zeroed pages: never in a core dump, never in swap where the limit allows it, and never in a forked child.
///
/// A fork does not get them at all (MADV_DONTFORK): a child that lingers would keep a copy which nobody wipes. It dies
/// when it touches them, so a process that wants to go to the background does that before it loads anything. Starting
/// programs is not concerned: what is run by exec has new memory anyway.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: A mapping owns its pages alone, as a Box owns its allocation, and hands out nothing but their address.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps at least `size` bytes, rounded up to whole pages.
    ///
    /// # Errors
    /// ENOMEM of mmap(2): no memory, or too many mappings.
    pub(super) fn new(size: usize) -> io::Result<Self> {
        let size = whole_pages(size).ok_or(io::ErrorKind::OutOfMemory)?;
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: With no address asked for, the kernel takes a free range; nothing that exists is changed.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), size, access, flags) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let mapping = Mapping { start, size };
        mapping.protect();
        Ok(mapping)
    }

    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Gives back the pages behind the first `size` bytes; at least one page stays. Answers how many bytes went.
    pub(super) fn truncate(&mut self, size: usize) -> usize {
        let keep = whole_pages(size.max(1)).unwrap_or(self.size);
        if keep >= self.size {
            return 0;
        }
        let (tail, length) = (self.start.as_ptr().wrapping_add(keep), self.size - keep);
        // SAFETY: The range is the end of this mapping, on a page boundary. Whoever has an address in it was told by
        // the caller's `&mut` that it is gone.
        match unsafe { munmap(tail.cast(), length) } {
            Ok(()) => {
                self.size = keep;
                length
            }
            // Splitting the mapping would make one too many; the pages stay until the rest goes.
            Err(_) => 0,
        }
    }

    fn protect(&self) {
        let start = self.start.as_ptr().cast();
        // SAFETY: The range is exactly this mapping, and neither advice changes its contents in this process.
        // Both exist on all kernels that have FUSE as we need it, and can fail only for a wrong range.
        let _ = unsafe { madvise(start, self.size, Advice::LinuxDontDump) };
        // SAFETY: As before.
        let _ = unsafe { madvise(start, self.size, Advice::LinuxDontFork) };
        // Only pages that are touched get locked, hence memory that holds nothing costs nothing (mlock2(2), Linux 4.4).
        // SAFETY: The range is exactly this mapping; locking changes no contents.
        if let Err(errno) = unsafe { mlock_with(start, self.size, MlockFlags::ONFAULT) } {
            warn_once(errno.into());
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: This mapping is the only owner of the range, and nobody has an address in it any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.size) };
    }
}

fn whole_pages(size: usize) -> Option<usize> {
    size.max(1).checked_next_multiple_of(rustix::param::page_size()).filter(|&size| size <= isize::MAX as usize)
}

/// Not being able to lock is no reason to stop: most hosts have encrypted swap or none. But it is said, once.
fn warn_once(error: io::Error) {
    static WARNED: AtomicBool = AtomicBool::new(false);
    if !WARNED.swap(true, Ordering::Relaxed) {
        let limit = getrlimit(Resource::Memlock).current;
        tracing::warn!(
            %error,
            limit_bytes = limit,
            "values of Secrets may get into swap, since the limit of locked memory is reached; raise it with \
             LimitMEMLOCK= (systemd) or ulimit -l, or use no swap"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The flags that the kernel has for the mapping at `start` (VmFlags in proc_pid_smaps(5)).
    fn flags_of(start: NonNull<u8>) -> String {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        for line in smaps.lines() {
            if let Some((range, _)) = line.split_once(' ')
                && let Some((from, to)) = range.split_once('-')
                && let (Ok(from), Ok(to)) = (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16))
            {
                inside = (from..to).contains(&(start.as_ptr() as usize));
            } else if inside && let Some(flags) = line.strip_prefix("VmFlags:") {
                return flags.to_owned();
            }
        }
        panic!("no such mapping");
    }

    #[test]
    fn it_is_in_no_core_dump_no_child_and_no_swap() {
        let mapping = Mapping::new(10_000).unwrap();
        assert_eq!(mapping.size() % rustix::param::page_size(), 0);
        let flags = flags_of(mapping.start());
        for (flag, meaning) in
            [("dd", "do not dump"), ("dc", "do not copy on fork"), ("lo", "locked"), ("lf", "locked on fault")]
        {
            assert!(flags.split_whitespace().any(|present| present == flag), "{meaning} is missing from {flags}");
        }
    }

    #[test]
    fn an_impossible_size_is_an_error_not_a_crash() {
        assert!(Mapping::new(usize::MAX).is_err());
        assert!(Mapping::new(isize::MAX as usize).is_err());
    }

    #[test]
    fn the_end_can_be_given_back() {
        let page = rustix::param::page_size();
        let mut mapping = Mapping::new(10 * page).unwrap();
        assert_eq!(mapping.truncate(3 * page + 1), 6 * page);
        assert_eq!(mapping.truncate(3 * page + 1), 0);
        assert_eq!(mapping.truncate(0), 3 * page);
        assert_eq!(mapping.size(), page);
    }
}
