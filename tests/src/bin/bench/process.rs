//! What `/proc` says of the processes that are measured: their memory, as the kernel accounts for
//! it, and their environment.
use crate::Result;
use ipc::status::ModelStatus;
use std::{ffi::OsString, fs, os::unix::ffi::OsStringExt};

/// Memory of one process, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Pages that no other process has mapped.
    pub(crate) private: u64,
    /// All mapped pages, each divided by the number of processes that share it.
    pub(crate) proportional: u64,
    /// All mapped pages.
    pub(crate) resident: u64,
    /// Those of them that are parts of huge pages, which cost a fork much less.
    pub(crate) huge: u64,
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
            huge: sum(&pages, &["AnonHugePages:"]),
            page_tables: sum(&status, &["VmPTE:"]),
        })
    }
}

/// The environment that a model's template was started with: what is compared with a worker gets
/// the same.
pub(crate) fn environment(model: &ModelStatus) -> Result<Vec<(OsString, OsString)>> {
    let pid = model.template.as_ref().ok_or("the model has no template")?.pid;
    let block = fs::read(format!("/proc/{pid}/environ"))?;
    let entries = block.split(|byte| *byte == 0).filter_map(|entry| {
        let equals = entry.iter().position(|byte| *byte == b'=')?;
        Some((OsString::from_vec(entry[..equals].to_vec()), OsString::from_vec(entry[equals + 1..].to_vec())))
    });
    Ok(entries.collect())
}

/// The sum of the lines with these names.
fn sum(text: &str, names: &[&str]) -> u64 {
    let kibibytes = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        words.next().filter(|name| names.contains(name)).and_then(|_| words.next()?.parse::<u64>().ok())
    };
    text.lines().filter_map(kibibytes).sum::<u64>() * 1024
}
