//! What must hold of budgets: who may compute with how many threads.
use super::super::super::Policy;
use super::super::super::event::WorkerId;
use super::{Rules, Worker};
use std::time::Duration;

impl Rules {
    pub(super) fn budget_set(&mut self, id: WorkerId, threads: u32) {
        let computes = self.computes(&self.workers[&id]);
        let most = self.most(id);
        let worker = self.worker(id);
        assert!(worker.killed.is_none() && worker.retires.is_none(), "{id:?} needs no budget");
        assert_ne!(worker.granted, threads, "it has that budget already");
        assert!((1..=most).contains(&threads), "{id:?} cannot use {threads}");
        assert!(computes || threads == 1, "{id:?} computes nothing");
        let is_more = threads > worker.held;
        worker.granted = threads;
        worker.held = if computes { worker.held.max(threads) } else { 1 };
        self.has_granted |= is_more;
    }

    /// Whether it computes for a request, or for one that it has been asked to stop.
    fn computes(&self, worker: &Worker) -> bool {
        worker.killed.is_none() && (worker.part.is_some() || worker.stops.is_some())
    }

    /// Most threads that it can use for what it does.
    fn most(&self, id: WorkerId) -> u32 {
        let part = self.workers[&id].part;
        part.map_or(1, |part| self.pools[id.pool.0].limits.threads.min(self.requests[&part.request].work.threads))
    }

    pub(super) fn check_threads(&mut self, policy: &Policy) {
        let computing: Vec<_> = self.workers.iter().filter(|(_, worker)| self.computes(worker)).collect();
        let idle = self.workers.iter().filter(|(_, worker)| !self.computes(worker) && worker.retires.is_none());
        for (id, worker) in idle.filter(|(_, worker)| worker.killed.is_none()) {
            assert_eq!(worker.granted, 1, "{id:?} computes nothing");
        }
        let sum = |of: fn(&Worker) -> u32| computing.iter().map(|(_, worker)| of(worker)).sum::<u32>();
        let (granted, held) = (sum(|worker| worker.granted), sum(|worker| worker.held));
        let most = self.limits.cores.max(computing.len() as u32);
        assert!(granted <= most, "{granted} threads are granted: {computing:?}");
        assert!(!self.has_granted || held <= most, "granted before it was given back: {computing:?}");
        let useful: u32 = computing.iter().map(|(id, _)| self.most(**id)).sum();
        assert!(held >= most || granted == useful.min(most), "a core is left over: {computing:?}");
        if computing.iter().any(|(_, worker)| worker.held > worker.granted) {
            let soon = self.now.after(Duration::from_millis(16));
            assert!(policy.next_deadline().is_some_and(|time| time <= soon), "nobody looks");
        } else {
            let richest = computing.iter().map(|(_, worker)| worker.granted).max().unwrap_or(0);
            let is_fair = |id, worker: &Worker| worker.granted + 1 >= richest || worker.granted == self.most(id);
            assert!(computing.iter().all(|(id, worker)| is_fair(**id, worker)), "unfair: {computing:?}");
        }
        self.has_granted = false;
    }
}
