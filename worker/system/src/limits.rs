//! Limits of a process (getrlimit(2)). They are kept or lowered here, and never raised: whoever has
//! set one that is lower has meant it, and only root could raise it again.
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// Where the number of processes and threads is limited.
pub const TASKS: &str = "ulimit -u, TasksMax= of a unit, a container's limit of pids";

/// Leaves this process at most so much of something, and no more than it has now.
pub fn lower(resource: Resource, most: u64) -> nix::Result<()> {
    let (now, hard) = getrlimit(resource)?;
    let most = rlim_t::try_from(most).unwrap_or(rlim_t::MAX);
    setrlimit(resource, now.min(most), hard.min(most))
}

/// Most bytes that a file of this process may have, which the memory is counted as that it hands to
/// others; `None` if there is no limit.
pub fn file_size() -> Option<u64> {
    limit(Resource::RLIMIT_FSIZE)
}

/// Most bytes of addresses that a process like this one may map; `None` if there is no limit.
pub fn addresses() -> Option<u64> {
    limit(Resource::RLIMIT_AS)
}

fn limit(resource: Resource) -> Option<u64> {
    let (now, _) = getrlimit(resource).ok()?;
    (now != nix::libc::RLIM_INFINITY).then_some(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_lowered_and_never_raised() {
        let resource = Resource::RLIMIT_CORE;
        let (_, hard) = getrlimit(resource).unwrap();
        // Nothing here dumps its core.
        setrlimit(resource, hard.min(4096), hard.min(1 << 20)).unwrap();
        let before = getrlimit(resource).unwrap();
        lower(resource, u64::MAX).unwrap();
        assert_eq!(getrlimit(resource).unwrap(), before);
        lower(resource, 8192).unwrap();
        assert_eq!(getrlimit(resource).unwrap(), (before.0.min(4096), before.1.min(8192)));
        lower(resource, 0).unwrap();
        assert_eq!(getrlimit(resource).unwrap(), (0, 0));
    }
}
