//! Workers that take more memory than they may, each in one of the two ways that there are.
use super::crash;

#[test]
fn a_worker_cannot_allocate_more_than_it_may() {
    let crash = crash("hog@3?confine=both", "memory_per_worker = \"64MiB\"");
    // There is no signal that it could send itself, so `abort` ends by its trap.
    let trap = if cfg!(target_arch = "x86_64") { "signal 11 (SIGSEGV)" } else { "signal 5 (SIGTRAP)" };
    assert_eq!(crash.cause, trap);
    assert_eq!(crash.stderr[0], "memory allocation of 1048576 bytes failed");
}

#[test]
fn a_worker_that_writes_to_what_it_inherited_is_killed() {
    let crash = crash("write-inherited@3?confine=worker&inherit=512", "memory_per_worker = \"64MiB\"");
    let (begin, end) = ("signal 9 (SIGKILL): it took ", " MiB of memory for itself, and 64.0 MiB are allowed");
    assert!(crash.cause.starts_with(begin) && crash.cause.ends_with(end), "{}", crash.cause);
}
