//! What memory this machine has for the daemon, as the kernel and the daemon's control group say.
//! It decides nothing.
use super::{bytes, control_groups};
use std::fs;

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
        for group in control_groups::now() {
            memory.total = memory.total.min(group.most);
            memory.available = memory.available.min(group.most.saturating_sub(group.taken));
        }
        memory
    }
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
    }
}
