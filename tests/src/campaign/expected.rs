//! Who may have died under whom: no request may cost as many workers as it may, or its refusal
//! would be right.
//!
//! Which request a killed worker served is known only afterwards, and not always: it may have been
//! given another one between the look at the status and the signal. So every request that is open
//! while a blow falls is charged with it.
use std::{
    collections::HashMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// Workers that may die under one request, as the campaign configures it.
pub(crate) const MAX_ATTEMPTS: u32 = 3;

/// The open requests of one model.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// Blows that may have hit each.
    open: HashMap<u64, u32>,
    /// Blows whose consequences are not over.
    falling: u32,
}

impl Expected {
    /// Notes a request that is about to be sent, until what is returned is dropped.
    pub(crate) fn begin(&self) -> Open<'_> {
        let mut state = self.lock();
        state.next += 1;
        let (number, charged) = (state.next, state.falling);
        state.open.insert(number, charged);
        Open { expected: self, number }
    }

    /// Waits until each open request can bear so many blows more, and charges them. They are over
    /// when what is returned is dropped.
    pub(crate) fn strike(&self, blows: u32) -> Strike<'_> {
        let is_fatal = |state: &mut State| {
            let most = state.open.values().copied().max().unwrap_or(0).max(state.falling);
            most + blows >= MAX_ATTEMPTS
        };
        let mut state = self.changed.wait_while(self.lock(), is_fatal).unwrap_or_else(PoisonError::into_inner);
        state.open.values_mut().for_each(|charged| *charged += blows);
        state.falling += blows;
        Strike { expected: self, blows }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that has no outcome yet.
#[derive(Debug)]
pub(crate) struct Open<'a> {
    expected: &'a Expected,
    number: u64,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.expected.lock().open.remove(&self.number);
        self.expected.changed.notify_all();
    }
}

/// Blows whose consequences are not over.
#[derive(Debug)]
pub(crate) struct Strike<'a> {
    expected: &'a Expected,
    blows: u32,
}

impl Drop for Strike<'_> {
    fn drop(&mut self) {
        self.expected.lock().falling -= self.blows;
        self.expected.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_charged_with_every_blow_that_falls_while_it_is_open() {
        let expected = Expected::default();
        let (early, strike) = (expected.begin(), expected.strike(1));
        let late = expected.begin();
        drop(strike);
        let after = expected.begin();
        let charged = |open: &Open<'_>| expected.lock().open[&open.number];
        assert_eq!((charged(&early), charged(&late), charged(&after)), (1, 1, 0));
        drop(expected.strike(1));
        assert_eq!((charged(&early), charged(&late), charged(&after)), (2, 2, 1));
        // The next blow waits until none is left that it could be the last for.
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| drop(expected.strike(1)));
            drop(early);
            assert!(!waiting.is_finished(), "one is left");
            drop(late);
        });
        assert_eq!(charged(&after), 2);
    }
}
