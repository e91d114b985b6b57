//! What memory a process takes, from `/proc/PID/smaps_rollup`. Reading it walks page tables, so it is done on a blocking thread.
use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
};

/// What was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Bytes that are this process's alone.
    pub(crate) private: u64,
    /// Bytes of memory files, those shared by n processes counted 1/n: a request's cache, and a page of the board.
    pub(crate) files: u64,
    /// Bytes, those shared by n processes counted 1/n.
    pub(crate) proportional: u64,
}

impl Sample {
    /// Bytes that it has taken for itself. What others cannot see of a request's cache is its alone, too, but not its doing.
    pub(crate) fn own(&self) -> u64 {
        self.private.saturating_sub(self.files)
    }
}

/// Reads an open `smaps_rollup`, from its beginning.
pub(crate) fn read(mut file: &File) -> io::Result<Sample> {
    // Each read of this file walks the tables again.
    let mut text = String::with_capacity(8 << 10);
    file.seek(SeekFrom::Start(0))?;
    file.read_to_string(&mut text)?;
    Ok(parse(&text))
}

/// Bytes of a process that are of no file, without walking its tables; 0 if it has gone.
pub(crate) fn anonymous(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kibibytes.unwrap_or(0).saturating_mul(1024)
}

fn parse(text: &str) -> Sample {
    let mut sample = Sample::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(name), Some(kibibytes)) = (words.next(), words.next().and_then(|word| word.parse::<u64>().ok()))
        else {
            continue;
        };
        match name {
            "Pss_Shmem:" => sample.files += kibibytes * 1024,
            "Pss:" => sample.proportional += kibibytes * 1024,
            "Private_Clean:" | "Private_Dirty:" => sample.private += kibibytes * 1024,
            _ => {}
        }
    }
    sample
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
    fn private_is_clean_and_dirty() {
        let text = "a-b ---p [rollup]\nRss: 900 kB\nPss: 100 kB\nPss_Dirty: 5 kB\nPss_Shmem: 2 kB\nPrivate_Clean: 3 kB\n\
                    Private_Dirty: 4 kB\n";
        let sample = parse(text);
        assert_eq!(sample, Sample { private: 7 * 1024, files: 2 * 1024, proportional: 100 * 1024 });
        assert_eq!(sample.own(), 5 * 1024);
        assert_eq!(Sample { private: 1, files: 2, proportional: 3 }.own(), 0);
    }
}
