//! The pages that a worker shares with its template, and writing to them.
use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    ops::Range,
};

/// Smaller mappings are not worth writing to.
const LEAST: u64 = 1 << 20;
/// No page is smaller.
const PAGE: usize = 4096;

/// This process's own memory, as a file. It is opened before the process is confined.
#[derive(Debug)]
pub(crate) struct Pages {
    memory: File,
    mappings: Vec<Range<u64>>,
}

impl Pages {
    /// Finds the mappings that the template wrote to.
    pub(crate) fn find() -> io::Result<Pages> {
        let memory = File::options().read(true).write(true).open("/proc/self/mem")?;
        let text = fs::read_to_string("/proc/self/maps")?;
        Ok(Pages { memory, mappings: text.lines().filter_map(mapping).collect() })
    }

    /// Writes to each page what is there, which makes it this process's own.
    pub(crate) fn write(mut self) -> io::Result<()> {
        for mapping in &self.mappings {
            for place in mapping.clone().step_by(PAGE) {
                let mut byte = [0];
                self.memory.seek(SeekFrom::Start(place))?;
                self.memory.read_exact(&mut byte)?;
                self.memory.seek(SeekFrom::Start(place))?;
                self.memory.write_all(&byte)?;
            }
        }
        Ok(())
    }
}

/// The addresses of a large mapping that is private, writable and of no file.
fn mapping(line: &str) -> Option<Range<u64>> {
    let mut words = line.split_ascii_whitespace();
    let (addresses, rights) = (words.next()?, words.next()?);
    let (begin, end) = addresses.split_once('-')?;
    let mapping = u64::from_str_radix(begin, 16).ok()?..u64::from_str_radix(end, 16).ok()?;
    let is_anonymous = words.nth(2) == Some("0") && words.next().is_none_or(|name| name == "[heap]");
    (rights == "rw-p" && is_anonymous && mapping.end - mapping.start >= LEAST).then_some(mapping)
}
