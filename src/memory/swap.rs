//! Whether the kernel can write memory to a disk.

/// Whether this host has a swap area in use. Source: proc(5), /proc/swaps: a heading, and a line for each area.
pub fn has_swap() -> bool {
    std::fs::read_to_string("/proc/swaps").is_ok_and(|swaps| swaps.lines().count() > 1)
}
