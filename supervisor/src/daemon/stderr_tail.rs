//! The last lines that a child writes to its stderr. However much it writes, it is read and only so
//! much is kept.
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{io::AsyncReadExt, net::unix::pipe::Receiver, task::JoinHandle};

const MOST_LINES: usize = 20;
const LONGEST_LINE: usize = 400;

/// Reads a child's stderr until its end.
#[derive(Debug)]
pub(crate) struct StderrTail {
    lines: Arc<Mutex<Lines>>,
    reading: JoinHandle<()>,
}

impl StderrTail {
    /// Begins to read.
    pub(crate) fn follow(mut stderr: Receiver) -> StderrTail {
        let lines = Arc::new(Mutex::new(Lines::default()));
        let kept = Arc::clone(&lines);
        let reading = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
                kept.lock().unwrap_or_else(PoisonError::into_inner).add(&buffer[..count]);
            }
        });
        StderrTail { lines, reading }
    }

    /// The last lines, when the child has ended; bounded, because a stranger may hold its stderr
    /// open.
    pub(crate) async fn finish(mut self) -> Vec<String> {
        let _still_open = tokio::time::timeout(std::time::Duration::from_millis(200), &mut self.reading).await;
        self.reading.abort();
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).all()
    }
}

#[derive(Debug, Default)]
struct Lines {
    whole: VecDeque<Vec<u8>>,
    /// The line that has not ended yet.
    open: Vec<u8>,
}

impl Lines {
    fn add(&mut self, bytes: &[u8]) {
        for (index, part) in bytes.split(|byte| *byte == b'\n').enumerate() {
            if index > 0 {
                self.whole.push_back(std::mem::take(&mut self.open));
                if self.whole.len() > MOST_LINES {
                    self.whole.pop_front();
                }
            }
            let room = LONGEST_LINE.saturating_sub(self.open.len());
            self.open.extend_from_slice(&part[..part.len().min(room)]);
        }
    }

    fn all(&self) -> Vec<String> {
        let lines = self.whole.iter().chain([&self.open]).filter(|line| !line.is_empty());
        let mut texts: Vec<String> = lines.map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        texts.drain(..texts.len().saturating_sub(MOST_LINES));
        texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_however_they_arrive_and_however_long_they_are() {
        let text: String = (0..100).map(|n| format!("line {n}\n")).collect::<String>() + "unfinished";
        for step in [1, 3, 7, 1000] {
            let mut lines = Lines::default();
            text.as_bytes().chunks(step).for_each(|part| lines.add(part));
            let all = lines.all();
            assert_eq!((all.len(), all[0].as_str(), all[19].as_str()), (20, "line 81", "unfinished"));
        }
        let mut lines = Lines::default();
        (0..10_000).for_each(|_| lines.add(&[b'x'; 1000]));
        assert_eq!(lines.all(), ["x".repeat(LONGEST_LINE)]);
    }
}
