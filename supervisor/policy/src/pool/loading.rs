//! When a pool's model is loaded and when it is let go.
//!
//! An eager model is loaded from the start, a lazy one when a request comes. Either goes when there
//! was no request for as long as its `idle_unload` says, and comes back with the next one. A lazy
//! one that cannot be loaded is not tried again before a request comes, and then only when its
//! back-off is over.
//!
//! A model is loaded once, however many requests come meanwhile; they wait in the queue. While
//! there is no worker that could be late, their wait costs no time: it is the load that has a limit
//! then. What waits when the load has ended, well or not, may wait for as long as the queue allows
//! from then on.
use crate::context::Context;
use crate::event::{Load, Time};
use crate::lifecycle::Lifecycle;
use crate::pool::Pool;

impl Pool {
    /// Loads the model if it may be and is wanted, and notes what follows from how loading went.
    pub(crate) fn keep_loaded(&mut self, context: &mut Context) {
        if self.limits.load == Load::Lazy && self.template.unavailable_until(context.now).is_some() {
            self.is_resident = false;
        }
        if self.wants_model(context) {
            self.load_if_due(context);
        }
        if self.is_clock_stopped && !self.template.is_loading() {
            self.is_clock_stopped = false;
            for request in self.queue.all_newcomers() {
                if let Some(record) = context.requests.get_mut(&request) {
                    self.has_mixed_waits |= record.begin_wait(context.now, self.limits.queue_timeout);
                }
            }
            // Clients may have given up meanwhile.
            self.end_waits(context);
        }
    }

    /// Whether the model is to be there.
    pub(crate) fn wants_model(&self, context: &Context) -> bool {
        self.may_load_again() && self.has_use(context) && (self.is_resident || self.has_requests())
    }

    pub(crate) fn load_if_due(&mut self, context: &mut Context) {
        if self.template.load_at().is_some_and(|time| time <= context.now) {
            self.load(context);
        }
    }

    pub(crate) fn load(&mut self, context: &mut Context) {
        self.is_resident = true;
        let is_first = self.workers().next().is_none();
        self.is_clock_stopped = is_first;
        self.template.load(context);
    }

    /// Notes since when there is nothing to do.
    pub(crate) fn note_idleness(&mut self, context: &Context) {
        let is_asked_for = self.lifecycle == Lifecycle::Serving && !context.closing;
        let is_idle = self.template.is_warm() && !self.has_requests() && is_asked_for;
        self.idle_from = if is_idle { self.idle_from.or(Some(context.now)) } else { None };
    }

    /// When the model is let go if no request comes before.
    pub(crate) fn unload_at(&self) -> Option<Time> {
        Some(self.idle_from?.after(self.limits.idle_unload?))
    }

    /// Lets the model go if no request came for so long.
    pub(crate) fn unload_if_idle(&mut self, context: &mut Context) {
        if self.unload_at().is_some_and(|time| time <= context.now) {
            self.is_resident = false;
            self.idle_from = None;
            self.end_unneeded(context);
            self.template.unload(context);
        }
    }
}
