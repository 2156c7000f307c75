//! How often the kernel left a program out.
//!
//! A program does not run inside itself: where one is interrupted, and what
//! interrupts it comes by the same tracepoint on the same processor, the second
//! call is skipped (`__bpf_trace_run` in kernel/trace/bpf_trace.c).

use std::os::fd::{AsRawFd, BorrowedFd};

/// Calls of a program that were skipped since it was loaded (0 before Linux
/// 5.12, which does not say); none if that is no program.
#[expect(unsafe_code, reason = "the system call writes into a buffer")]
pub fn misses(program: BorrowedFd<'_>) -> Option<u64> {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut size = u32::try_from(size_of_val(&info)).expect("it has some 200 bytes");
    // SAFETY: `info` has room for `size` bytes, each of which may hold anything.
    // No array is asked for in it, so the kernel writes nowhere else.
    let result = unsafe {
        libbpf_sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &raw mut info, &raw mut size)
    };
    (result == 0).then_some(info.recursion_misses)
}
