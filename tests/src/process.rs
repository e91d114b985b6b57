//! What `/proc` says of processes. Of one that has ended it says nothing, so every answer can be
//! empty.
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use rustix::process::{Resource, Rlimit, prlimit};
use std::{collections::BTreeMap, fs};
use system::proc;
pub use system::proc::state;

/// Sends a signal; `false` if there is no such process.
pub fn kill(pid: u32, signal: Signal) -> bool {
    i32::try_from(pid).is_ok_and(|pid| pid > 0 && signal::kill(Pid::from_raw(pid), signal).is_ok())
}

/// The pids of a process's children, zombies included.
pub fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// The templates and workers that were started by the daemon `pid`, whoever is their parent now.
/// They all have the command line that their template was started with. Zombies have none.
pub fn started_by(pid: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    let option = format!("\0template\0--supervisor\0{pid}\0");
    // Pids come round again: what was started before this process is left over from another daemon
    // of that pid.
    let earliest = started_at(std::process::id());
    let is_ours = |pid: &u32| {
        started_at(*pid) >= earliest
            && fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).ends_with(&option))
    };
    pids.filter(is_ours).collect()
}

/// When a process was started, in the kernel's ticks.
fn started_at(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = text.rsplit_once(") ")?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Whether a process lives; a zombie does not.
pub fn lives(pid: u32) -> bool {
    state(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Bytes of memory that a process has in core.
pub fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    proc::bytes(&status, "VmRSS:")
}

/// Whether this process may look into that one, as a debugger may; if not, it says that what needs
/// this is skipped.
pub fn may_look_into(pid: u32) -> bool {
    let looked = fs::read_dir(format!("/proc/{pid}/fd"));
    if let Err(error) = &looked {
        crate::skipped(&format!("nobody here may look into a worker: {error}"));
    }
    looked.is_ok()
}

/// A process's open descriptors and what they are.
pub fn descriptors(pid: u32) -> BTreeMap<u32, String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let entries = entries.filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        Some((number, fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned()))
    });
    entries.collect()
}

/// Sets how many descriptors a process may have: how many it might before. It can have as many
/// again.
///
/// # Panics
///
/// If this process may not do that, or there is no such process.
pub fn limit_descriptors(pid: u32, limit: u64) -> u64 {
    let process = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let maximum = line.and_then(|line| line.split_ascii_whitespace().nth(1)?.parse().ok());
    let before = prlimit(process, Resource::Nofile, Rlimit { current: Some(limit), maximum });
    let before = before.unwrap_or_else(|error| panic!("cannot limit the descriptors of {pid}: {error}"));
    before.current.or(maximum).unwrap_or(limit)
}
