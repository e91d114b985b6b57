//! Faults of what the supervisor itself stands on: its disk, its socket, its descriptors, its
//! clients, its time.
use super::injector::{Injector, Struck};
use crate::{process, wait::pause_for};
use ipc::Request;
use nix::sys::signal::Signal;
use std::{
    fs,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

/// How long the supervisor is stopped: longer than its workers may be without progress.
const STOPPED: Duration = Duration::from_millis(2500);
/// More connections than are served at once.
const CROWD: usize = 300;

impl Injector<'_> {
    /// Sends a part of a frame, and leaves, at once or when somebody else has been served.
    pub(super) fn half_frame(&mut self) -> Struck {
        let frame = crate::Wire::frame(&Request::Status);
        let long = ipc::frame(&[0; 1 << 16], ipc::MAX_REQUEST).map_err(|error| error.to_string())?;
        let frame = if self.random.below(2) == 0 { frame } else { long };
        let part = &frame[..1 + self.random.below(frame.len() - 1)];
        let line = self.harness.connect()?;
        line.write(part);
        if self.random.below(2) == 0 {
            self.watch.status()?;
        }
        drop(line);
        let began = Instant::now();
        self.watch.hang_up();
        self.watch.status()?;
        Ok(Some(began.elapsed()))
    }

    /// Fills the log's disk, until some requests have ended.
    pub(super) fn full_disk(&mut self) -> Struck {
        let Some(disk) = self.disk else { return Ok(None) };
        disk.fill().map_err(|error| format!("cannot fill the disk: {error}"))?;
        let began = Instant::now();
        self.watch.until_whole()?;
        let took = began.elapsed();
        self.let_work();
        disk.empty().map_err(|error| format!("cannot empty the disk: {error}"))?;
        Ok(Some(took))
    }

    pub(super) fn delete_socket(&mut self) -> Struck {
        let socket = self.harness.daemon.socket();
        let mut lock = socket.as_os_str().to_owned();
        lock.push(".lock");
        if self.random.below(2) == 0 {
            fs::remove_file(lock).map_err(|error| format!("cannot delete the lock: {error}"))?;
        }
        fs::remove_file(socket).map_err(|error| format!("cannot delete the socket: {error}"))?;
        let began = Instant::now();
        self.watch.hang_up();
        self.watch.status()?;
        Ok(Some(began.elapsed()))
    }

    /// Lets the supervisor open nothing more for a while.
    pub(super) fn no_descriptors(&mut self) -> Struck {
        let pid = self.harness.daemon.pid();
        // None, or very few: what counts is the highest number.
        let taken = process::descriptors(pid).into_keys().max().unwrap_or(0);
        let limit = if self.random.below(2) == 0 { 0 } else { u64::from(taken) + self.random.below(8) as u64 };
        let usual = process::limit_descriptors(pid, limit);
        pause_for(Duration::from_millis(200 + self.random.below(4000) as u64));
        process::limit_descriptors(pid, usual);
        let began = Instant::now();
        self.watch.until_whole()?;
        self.watch.hang_up();
        self.watch.status()?;
        Ok(Some(began.elapsed()))
    }

    /// Has so many connect that nobody else is let in.
    pub(super) fn crowd(&mut self) -> Struck {
        let connect = |_| UnixStream::connect(self.harness.daemon.socket());
        let crowd: Vec<_> = (0..CROWD).map(connect).collect();
        self.let_work();
        drop(crowd);
        let began = Instant::now();
        self.watch.hang_up();
        self.watch.status()?;
        Ok(Some(began.elapsed()))
    }

    pub(super) fn stop_supervisor(&mut self) -> Struck {
        let daemon = self.harness.daemon;
        daemon.signal(Signal::SIGSTOP);
        pause_for(STOPPED);
        daemon.signal(Signal::SIGCONT);
        let began = Instant::now();
        self.watch.until_whole()?;
        Ok(Some(began.elapsed()))
    }
}
