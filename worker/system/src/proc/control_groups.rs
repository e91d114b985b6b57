//! Where the control groups lie that limit this process's memory, of either version, and what they
//! say. It decides nothing.
//!
//! `/proc/self/cgroup` names the group in each hierarchy, and `/proc/self/mountinfo` where a
//! hierarchy can be seen. In a container it is often only a part that can be seen, whose root is
//! the container's own group; then what is above it is known, if at all, by what version 1 says in
//! `hierarchical_memory_limit`. On a hybrid host both versions are mounted, and the memory belongs
//! to one of them.
use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// A version of control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Where a hierarchy, or a part of it, can be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    version: Version,
    /// The group that is seen at the mount point.
    root: String,
    point: PathBuf,
}

/// What one group says of memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupMemory {
    /// The most that it may take.
    pub(super) most: u64,
    /// What it takes and could not give up at once.
    pub(super) taken: u64,
}

/// What this process's groups, and those around them, say of memory now; none of those without a
/// limit.
pub(super) fn now() -> Vec<GroupMemory> {
    // A host may have thousands of mounts, and those of control groups do not move under a daemon.
    static MOUNTS: OnceLock<Vec<Mount>> = OnceLock::new();
    let mounts = MOUNTS.get_or_init(|| mounts(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let folders = mounts.iter().flat_map(|mount| folders(&groups, mount).into_iter().map(|at| (mount.version, at)));
    folders.filter_map(|(version, folder)| read(version, &folder)).collect()
}

/// The mounts of hierarchies that may have the memory, from the text of `mountinfo`.
fn mounts(text: &str) -> Vec<Mount> {
    let mount = |line: &str| {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, point) = (unescaped(place.next()?), unescaped(place.next()?));
        let mut kind = kind.split(' ');
        let version = match kind.next()? {
            "cgroup2" => Version::Two,
            "cgroup" if kind.nth(1)?.split(',').any(|option| option == "memory") => Version::One,
            _ => return None,
        };
        Some(Mount { version, root, point: point.into() })
    };
    text.lines().filter_map(mount).collect()
}

/// A field of `mountinfo`, in which white space and the backslash are written as three octal
/// digits.
fn unescaped(field: &str) -> String {
    let pairs = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    pairs.iter().fold(field.to_owned(), |text, (written, meant)| text.replace(written, meant))
}

/// The folders of the group that the text of `/proc/self/cgroup` names in this hierarchy and of
/// those around it, as far as they can be seen, the innermost first.
fn folders(groups: &str, mount: &Mount) -> Vec<PathBuf> {
    let own = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let is_it = match mount.version {
            Version::One => controllers.split(',').any(|controller| controller == "memory"),
            Version::Two => number == "0" && controllers.is_empty(),
        };
        is_it.then_some(path)
    });
    let Some(own) = own else { return Vec::new() };
    // A group that is not below what can be seen: the container's own is all that there is.
    let seen = Path::new(own).strip_prefix(&mount.root).unwrap_or(Path::new(""));
    let seen = if seen.components().any(|part| part.as_os_str() == "..") { Path::new("") } else { seen };
    seen.ancestors().map(|path| mount.point.join(path)).collect()
}

/// What the group at `folder` says; `None` if it has no limit.
fn read(version: Version, folder: &Path) -> Option<GroupMemory> {
    let text = |name: &str| fs::read_to_string(folder.join(name)).ok();
    // No number is no limit: "max".
    let number = |name: &str| text(name)?.trim().parse::<u64>().ok();
    let stat = text("memory.stat").unwrap_or_default();
    let (most, taken, reclaimable) = match version {
        Version::Two => (number("memory.max")?, number("memory.current"), field(&stat, "inactive_file")),
        Version::One => {
            let own = number("memory.limit_in_bytes")?;
            let around = field(&stat, "hierarchical_memory_limit").unwrap_or(u64::MAX);
            let inactive = field(&stat, "total_inactive_file").or_else(|| field(&stat, "inactive_file"));
            (own.min(around), number("memory.usage_in_bytes"), inactive)
        }
    };
    // Version 1 writes no limit as the most that the kernel can count in pages.
    const NONE: u64 = 1 << 62;
    let taken = taken.unwrap_or(0).saturating_sub(reclaimable.unwrap_or(0));
    (most < NONE).then_some(GroupMemory { most, taken })
}

/// A field of a group's `memory.stat`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(groups: &str, mountinfo: &str) -> Vec<String> {
        let folders = mounts(mountinfo).iter().flat_map(|mount| folders(groups, mount)).collect::<Vec<_>>();
        folders.iter().map(|folder| folder.display().to_string()).collect()
    }

    #[test]
    fn version_two_and_the_groups_around() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        let here = ["/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup/"];
        assert_eq!(seen("0::/a/b\n", mounts), here);
        assert_eq!(seen("0::/\n", mounts), ["/sys/fs/cgroup/"]);
        // A process that was moved out of the namespace's root sees itself above it.
        assert_eq!(seen("0::/../other\n", mounts), ["/sys/fs/cgroup/"]);
        assert_eq!(seen("1:name=x:/y\n", mounts), [""; 0]);
    }

    #[test]
    fn version_one_has_a_hierarchy_for_memory() {
        let groups = "9:cpu,cpuacct:/no\n4:memory:/a/b\n1:name=systemd:/no\n0::/no\n";
        let mounts = "31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                      32 30 0:28 / /sys/fs/cgroup/memory rw,relatime shared:12 - cgroup cgroup rw,memory\n";
        let here = ["/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/memory/a", "/sys/fs/cgroup/memory/"];
        assert_eq!(seen(groups, mounts), here);
        // Several controllers of one hierarchy, under one name.
        let joined = "32 30 0:28 / /cgroup/of\\040all rw - cgroup none rw,cpu,memory\n";
        assert_eq!(seen("4:cpu,memory:/\n", joined), ["/cgroup/of all/"]);
    }

    #[test]
    fn a_hybrid_host_has_both() {
        let mounts = "32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let here = ["/sys/fs/cgroup/memory/a", "/sys/fs/cgroup/memory/", "/sys/fs/cgroup/unified/"];
        assert_eq!(seen("4:memory:/a\n0::/\n", mounts), here);
    }

    #[test]
    fn a_container_sees_its_own_group_at_the_mount_point() {
        let one = "32 30 0:28 /docker/1f2e /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let groups = "4:memory:/docker/1f2e/inner\n";
        assert_eq!(seen(groups, one), ["/sys/fs/cgroup/memory/inner", "/sys/fs/cgroup/memory/"]);
        // Another container's mount, or one from before the process was moved.
        assert_eq!(seen("4:memory:/docker/other\n", one), ["/sys/fs/cgroup/memory/"]);
        let two = "30 23 0:26 /docker/1f2e /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(seen("0::/docker/1f2e\n", two), ["/sys/fs/cgroup/"]);
    }

    #[test]
    fn lines_that_are_none_are_skipped() {
        for text in ["", "\n", "1 2 3", "a b c d - ", " - cgroup", "1 2 3 / /x rw - cgroup cgroup\n"] {
            assert_eq!(mounts(text), [], "{text:?}");
        }
        let mount = Mount { version: Version::One, root: "/".to_owned(), point: "/x".into() };
        assert!(folders("4\n4:memory\n::\n", &mount).is_empty());
    }

    #[test]
    fn both_versions_say_what_there_is() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(read(Version::Two, folder.path()), None);
        write("memory.max", "max\n");
        assert_eq!(read(Version::Two, folder.path()), None);
        write("memory.max", "1000\n");
        write("memory.current", "700\n");
        write("memory.stat", "file 1\ninactive_file_x 3\ninactive_file 200\ntotal_inactive_file 300\n");
        assert_eq!(read(Version::Two, folder.path()), Some(GroupMemory { most: 1000, taken: 500 }));

        assert_eq!(read(Version::One, folder.path()), None);
        write("memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(read(Version::One, folder.path()), None);
        write("memory.limit_in_bytes", "2000\n");
        write("memory.usage_in_bytes", "900\n");
        assert_eq!(read(Version::One, folder.path()), Some(GroupMemory { most: 2000, taken: 600 }));
        // A group around it that cannot be seen allows less.
        write("memory.stat", "inactive_file 100\nhierarchical_memory_limit 1500\n");
        assert_eq!(read(Version::One, folder.path()), Some(GroupMemory { most: 1500, taken: 800 }));
    }
}
