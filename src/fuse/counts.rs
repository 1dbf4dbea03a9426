//! How many requests of each kind the kernel has sent: what `status` shows, and the proof that hot reads send none.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counts {
    ($($name:ident),* $(,)?) => {
        /// One counter for each kind of request that reaches the daemon.
        #[derive(Default)]
        pub struct Counts { $(pub(super) $name: Count),* }

        impl Counts {
            /// Names and numbers, those at zero included.
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get())),*]
            }

            /// The sum of all kinds but `forget`, which answers nobody and nobody waits for.
            pub fn answered(&self) -> u64 {
                self.all().iter().filter(|(name, _)| *name != "forget").map(|(_, count)| count).sum()
            }
        }
    };
}

counts!(
    lookup,
    getattr,
    readlink,
    read,
    readdir,
    readdirplus,
    statfs,
    forget,
    open,
    opendir,
    flush,
    access,
    xattr,
    ioctl,
    publish,
    refused,
    other,
);

#[derive(Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn up(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
