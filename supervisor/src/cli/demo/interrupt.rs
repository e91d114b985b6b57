//! Signals that end the demonstration: noticed between events, so that it ends its daemon first.
use super::CliError;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Which of them has come.
pub(super) struct Interrupt {
    /// The exit status that says so; 0 if none has come.
    status: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Catches them from now on.
    pub(super) fn watch() -> Result<Interrupt, CliError> {
        let status = Arc::new(AtomicUsize::new(0));
        for (signal, code) in [(SIGHUP, 129), (SIGINT, 130), (SIGTERM, 143)] {
            flag::register_usize(signal, Arc::clone(&status), code).map_err(CliError::Signal)?;
        }
        Ok(Interrupt { status })
    }

    /// Fails once one of them has come.
    pub(super) fn check(&self) -> Result<(), CliError> {
        match u8::try_from(self.status.load(Ordering::Relaxed)) {
            Ok(0) => Ok(()),
            status => Err(CliError::Interrupted(status.unwrap_or(1))),
        }
    }
}
