//! What memory this machine has for the daemon, as the kernel and the daemon's control group say.
//! It decides nothing.
use super::bytes;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostMemory {
    /// What there is: the machine's, or less if a control group allows less.
    pub total: u64,
    /// What could be taken now without taking it from others.
    pub available: u64,
}

impl HostMemory {
    /// What the kernel says now; no limit where it says nothing.
    pub fn now() -> HostMemory {
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let mut memory = HostMemory {
            total: bytes(&text, "MemTotal:").unwrap_or(u64::MAX),
            available: bytes(&text, "MemAvailable:").unwrap_or(u64::MAX),
        };
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        for folder in folders(&groups, Path::new("/sys/fs/cgroup")) {
            let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
            let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
            // No number is no limit: "max".
            let Some(most) = number("memory.max") else { continue };
            let reclaimable = read("memory.stat").and_then(|text| plain(&text, "inactive_file")).unwrap_or(0);
            let taken = number("memory.current").unwrap_or(0).saturating_sub(reclaimable);
            memory.total = memory.total.min(most);
            memory.available = memory.available.min(most.saturating_sub(taken));
        }
        memory
    }
}

/// The folders of this process's control group and of those around it, each of which may have a
/// limit.
fn folders(groups: &str, root: &Path) -> Vec<PathBuf> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let own = own.into_iter().flat_map(|path| Path::new(path).ancestors());
    own.map(|path| root.join(path)).collect()
}

/// A field of a control group's `memory.stat`.
fn plain(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory() {
        let memory = HostMemory::now();
        assert!((1 << 20..1 << 60).contains(&memory.total), "{memory:?}");
        assert!(memory.available > 0 && memory.available <= memory.total, "{memory:?}");
    }

    #[test]
    fn numbers_are_read_where_they_stand() {
        let text = "MemTotal:       16000 kB\nMemFree:            7 kB\nMemAvailable:    9000 kB\n";
        assert_eq!(bytes(text, "MemTotal:"), Some(16000 * 1024));
        assert_eq!(bytes(text, "MemAvailable:"), Some(9000 * 1024));
        assert_eq!(bytes(text, "Swap:"), None);
        let text = "file 1\ninactive_file_x 3\ninactive_file 2\n";
        assert_eq!(plain(text, "inactive_file"), Some(2));
    }

    #[test]
    fn the_groups_around_count_too() {
        let root = Path::new("/r");
        let found = folders("1:name=x:/y\n0::/a/b\n", root);
        assert_eq!(found, [Path::new("/r/a/b"), Path::new("/r/a"), Path::new("/r/")]);
        assert_eq!(folders("0::/\n", root), [Path::new("/r/")]);
        assert!(folders("1:name=x:/y\n", root).is_empty());
    }
}
