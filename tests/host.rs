//! At home on a host: mount(8), fstab, kubectl, shells, systemd.

mod doctor;
mod fstab;
mod kubectl;
mod on_change;
mod scripts;
mod shells;
