//! What memory a process takes, from `/proc/PID/smaps_rollup`. Reading it walks page tables, so it
//! is done on a blocking thread. How many page faults it has had, from `/proc/PID/stat`, is known
//! without.
use super::bytes;
use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
};

/// What was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Bytes that are this process's alone.
    pub private: u64,
    /// Bytes of memory files, those shared by n processes counted 1/n: a request's cache, and a
    /// page of the board.
    pub files: u64,
    /// Bytes, those shared by n processes counted 1/n.
    pub proportional: u64,
}

impl Sample {
    /// Bytes that it has taken for itself. What others cannot see of a request's cache is its
    /// alone, too, but not its doing.
    pub fn own(&self) -> u64 {
        self.private.saturating_sub(self.files)
    }
}

/// Reads an open `smaps_rollup`, from its beginning.
pub fn read(mut file: &File) -> io::Result<Sample> {
    // Each read of this file walks the tables again.
    let mut text = String::with_capacity(8 << 10);
    file.seek(SeekFrom::Start(0))?;
    file.read_to_string(&mut text)?;
    Ok(parse(&text))
}

/// Bytes of a process that are of no file, without walking its tables; 0 if it has gone.
pub fn anonymous(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    bytes(&status, "RssAnon:").unwrap_or(0)
}

/// How many page faults a process has had, from its open `stat`.
pub fn faults(file: &File) -> io::Result<u64> {
    let mut text = [0; 1024];
    let length = file.read_at(&mut text, 0)?;
    let text = String::from_utf8_lossy(&text[..length]);
    parse_faults(&text).ok_or_else(|| io::Error::other("it tells of no page faults"))
}

/// The minor and the major ones: the eighth and the tenth field behind the name, which may hold
/// anything.
fn parse_faults(text: &str) -> Option<u64> {
    let (_, fields) = text.rsplit_once(") ")?;
    let mut fields = fields.split_ascii_whitespace();
    let minor: u64 = fields.nth(7)?.parse().ok()?;
    let major: u64 = fields.nth(1)?.parse().ok()?;
    minor.checked_add(major)
}

fn parse(text: &str) -> Sample {
    let of = |name| bytes(text, name).unwrap_or(0);
    Sample {
        private: of("Private_Clean:").saturating_add(of("Private_Dirty:")),
        files: of("Pss_Shmem:"),
        proportional: of("Pss:"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_memory() {
        let sample = read(&File::open("/proc/self/smaps_rollup").unwrap()).unwrap();
        assert!(anonymous(std::process::id()) > 0);
        assert!(sample.private > 0 && sample.proportional >= sample.private / 2, "{sample:?}");
    }

    #[test]
    fn a_page_that_is_written_to_is_a_fault() {
        let file = File::open("/proc/self/stat").unwrap();
        let before = faults(&file).unwrap();
        // So large that it is given back when it is dropped.
        let pages = std::hint::black_box(vec![1_u8; 64 << 20]);
        assert!(faults(&file).unwrap() > before);
        drop(pages);
        let text = "7 (a ) b) S 1 7 7 0 -1 4194560 1000 22 333 4 5 6 7 8 20 0 1 0 99\n";
        assert_eq!(parse_faults(text), Some(1333));
        assert_eq!(parse_faults("7 (a) S 1"), None);
    }

    #[test]
    fn private_is_clean_and_dirty() {
        let text = "a-b ---p [rollup]\nRss: 900 kB\nPss: 100 kB\nPss_Dirty: 5 kB\nPss_Shmem: 2 kB\nPrivate_Clean: 3 kB\n\
                    Private_Dirty: 4 kB\n";
        let sample = parse(text);
        assert_eq!(sample, Sample { private: 7 * 1024, files: 2 * 1024, proportional: 100 * 1024 });
        assert_eq!(sample.own(), 5 * 1024);
        assert_eq!(Sample { private: 1, files: 2, proportional: 3 }.own(), 0);
    }
}
