//! What `/proc` and the control group say: of this process, of its children, of the host. It
//! decides nothing.
mod control_groups;
mod host_memory;
mod process_memory;

pub use host_memory::HostMemory;
pub use process_memory::{Sample, anonymous, faults, read};

use nix::{dir::Dir, errno::Errno, fcntl::OFlag, sys::stat::Mode};
use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    process,
};

/// A field of `/proc/meminfo`, `/proc/PID/status` or `smaps_rollup`, whose name ends with a colon,
/// in bytes.
pub fn bytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What `/proc` says of this process, opened while it may still open something.
pub struct OwnProcess {
    /// Its threads.
    pub tasks: Dir,
    status: File,
}

impl OwnProcess {
    /// Opens it.
    pub fn open() -> io::Result<OwnProcess> {
        let folder = format!("/proc/{}", process::id());
        let tasks = Dir::open(format!("{folder}/task").as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let status = File::open(format!("{folder}/status"))?;
        Ok(OwnProcess { tasks, status })
    }

    /// Bytes of writable private memory, and bytes of addresses that are mapped.
    pub fn data_and_addresses(&self) -> io::Result<(u64, u64)> {
        let mut text = [0; 4096];
        let length = self.status.read_at(&mut text, 0)?;
        let text = String::from_utf8_lossy(&text[..length]);
        let field = |name| bytes(&text, name).ok_or_else(|| io::Error::other(format!("it has no {name}")));
        Ok((field("VmData:")?, field("VmSize:")?))
    }
}

/// What [`read`] reads of a process's memory, opened while it is known to be that process.
pub fn open_memory(pid: u32) -> io::Result<File> {
    File::open(format!("/proc/{pid}/smaps_rollup"))
}

/// What [`faults`] reads of a process, opened while it is known to be that process.
pub fn open_faults(pid: u32) -> io::Result<File> {
    File::open(format!("/proc/{pid}/stat"))
}

/// How gladly the kernel ends a process when there is no memory left: -1000 to 1000.
pub fn set_oom_score(pid: u32, score: i16) -> io::Result<()> {
    fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string())
}

/// The letter of a process's state, as in proc_pid_stat(5); `None` if it has gone.
pub fn state(pid: u32) -> Option<char> {
    stat(pid)?.chars().next()
}

/// The pid of a process's parent; `None` if it has gone.
pub fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// What proc_pid_stat(5) has behind the process's name, which may hold anything, parentheses too.
fn stat(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(") ")?.1.to_owned())
}

/// How many threads this process has; 0 if that cannot be known.
pub fn thread_count() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// The pids of this process's children, of whichever thread.
pub fn children() -> io::Result<Vec<u32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir("/proc/self/task")? {
        match fs::read_to_string(thread?.path().join("children")) {
            Ok(list) => children.extend(list.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok())),
            // The thread has ended.
            Err(error) => match Errno::try_from(error) {
                Ok(Errno::ENOENT | Errno::ESRCH) => {}
                Ok(errno) => return Err(errno.into()),
                Err(error) => return Err(error),
            },
        }
    }
    Ok(children)
}
