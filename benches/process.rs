//! What the kernel counts of a process: its memory, and what its TCP connections have received.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::machine::field;

/// The memory that it has now (VmRSS).
pub fn resident_bytes(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let resident = field(&status, "VmRSS", ':').and_then(|value| value.split(' ').next()).expect("VmRSS");
    resident.parse::<f64>().expect("a number") * 1024.0
}

/// How far into `struct tcp_info` (linux/tcp.h) the field `tcpi_data_segs_in` is.
const DATA_SEGMENTS_IN: usize = 152;

/// The segments with data that have come in on all TCP connections that the process has open: proof of what an idle daemon was
/// sent. Needs root.
pub fn data_segments_in(pid: u32) -> u64 {
    let pidfd = Pid::from_raw(pid as i32).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let pidfd = pidfd.expect("the daemon runs");
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors");
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let copies = numbers.filter_map(|number| pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()).ok());
    copies.filter_map(|socket| segments(&socket)).sum()
}

/// `None` if it is no TCP socket.
fn segments(socket: &OwnedFd) -> Option<u64> {
    let mut info = [0u8; 512];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `info`, and how many it wrote to `length`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let field = info.get(DATA_SEGMENTS_IN..DATA_SEGMENTS_IN + 4)?;
    (result == 0 && length as usize >= DATA_SEGMENTS_IN + 4)
        .then(|| u32::from_ne_bytes(field.try_into().expect("four bytes")).into())
}
