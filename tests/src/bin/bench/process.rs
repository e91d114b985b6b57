//! What memory a process takes, as the kernel accounts for it.
use crate::Result;
use std::fs;

/// Memory of one process, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Pages that no other process has mapped.
    pub(crate) private: u64,
    /// All mapped pages, each divided by the number of processes that share it.
    pub(crate) proportional: u64,
    /// All mapped pages.
    pub(crate) resident: u64,
    /// The kernel's tables of this process's pages, which `smaps_rollup` does not count.
    pub(crate) page_tables: u64,
}

impl Memory {
    /// Looks at a process.
    pub(crate) fn of(pid: u32) -> Result<Memory> {
        let read = |name: &str| {
            let file = format!("/proc/{pid}/{name}");
            fs::read_to_string(&file).map_err(|error| format!("cannot read {file}: {error}"))
        };
        let (pages, status) = (read("smaps_rollup")?, read("status")?);
        Ok(Memory {
            private: sum(&pages, &["Private_Clean:", "Private_Dirty:"]),
            proportional: sum(&pages, &["Pss:"]),
            resident: sum(&pages, &["Rss:"]),
            page_tables: sum(&status, &["VmPTE:"]),
        })
    }
}

/// The sum of the lines with these names.
fn sum(text: &str, names: &[&str]) -> u64 {
    let kibibytes = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        words.next().filter(|name| names.contains(name)).and_then(|_| words.next()?.parse::<u64>().ok())
    };
    text.lines().filter_map(kibibytes).sum::<u64>() * 1024
}
