//! Every way of mounting against the kernel of this machine: what can be seen, what can be done, and that nothing is
//! left. They need root and /dev/fuse; an ordinary user sees them pass without doing anything.

mod dead;
mod helper;
mod namespace;
mod privileged;
mod unmounting;
