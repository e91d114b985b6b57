//! The rules of the policy, one by one. What holds for all of them together is in `simulation.rs`.
mod batches;
mod loading;
mod memory;
mod operations;
mod readiness;
mod reloads;
mod requests;
mod shutdown;
mod templates;
mod threads;
mod workers;

use super::event::{
    Effect, Event, Identity, Isolation, KillReason, Load, Loaded, Outcome, Part, PoolId, ReloadRefusal, TemplateId,
    Time, Work, WorkerId,
};
use super::limits::{Limits, PoolLimits};
use super::{Memory, MemoryShortage, Need, Policy, PoolView, TemplateState, WorkerState};
use ipc::{Life, Needs, RequestId};
use std::time::Duration;

/// One policy with one pool, seen through its effects.
struct Rig {
    policy: Policy,
    now: Time,
    /// What it is told when it asks.
    memory: Memory,
    /// Requests that were let in.
    accepted: Vec<RequestId>,
}

impl Rig {
    fn of(policy: Policy) -> Rig {
        Rig { policy, now: Time::default(), memory: PLENTY, accepted: Vec::new() }
    }

    /// A policy whose template begins to load.
    fn cold(limits: Limits, pool: PoolLimits) -> Rig {
        let mut rig = Rig::of(Policy::new(limits, vec![pool], 1));
        assert_eq!(rig.effects(), [Effect::Load(template(1))]);
        rig
    }

    /// A policy with a warm template that has been asked for the first worker of each slot.
    fn warm(limits: Limits, pool: PoolLimits) -> Rig {
        let mut rig = Rig::cold(limits, pool);
        let asked: Vec<_> = (0..pool.workers).map(|slot| fork(1, worker(slot, 1))).collect();
        assert_eq!(rig.feed(ready(1)), asked);
        rig
    }

    /// A policy with an idle worker in each slot.
    fn idle(pool: PoolLimits) -> Rig {
        let mut rig = Rig::warm(Limits::default(), pool);
        for slot in 0..pool.workers {
            assert_eq!(rig.start(worker(slot, 1)), []);
        }
        rig
    }

    /// A policy of one slot whose worker serves request 1, with an idle spare if there are spares.
    fn busy(pool: PoolLimits) -> Rig {
        let mut rig = Rig::idle(PoolLimits { workers: 1, ..pool });
        let effects = rig.submit(1);
        assert_eq!(effects[0], dispatch(worker(0, 1), 1, 1));
        match pool.isolation {
            Isolation::Request => {
                assert_eq!(effects[1..], [fork(1, worker(0, 2))]);
                assert_eq!(rig.start(worker(0, 2)), []);
            }
            Isolation::Worker => assert_eq!(effects.len(), 1),
        }
        rig
    }

    fn feed(&mut self, event: Event) -> Vec<Effect> {
        tell(&mut self.policy, self.now, event);
        self.effects()
    }

    /// Submits a request that is like no other.
    fn submit(&mut self, request: u64) -> Vec<Effect> {
        self.submit_like(request, request)
    }

    fn submit_like(&mut self, request: u64, fingerprint: u64) -> Vec<Effect> {
        let (request, pool) = (RequestId(request), PoolId(0));
        self.feed(Event::Submitted { request, pool, fingerprint, owner: 0, patience: None, work: Work::WHOLE })
    }

    /// Submits a batch that is like no other.
    fn submit_batch(&mut self, request: u64, parts: u32) -> Vec<Effect> {
        let work = Work::parts(parts);
        self.feed(Event::Submitted {
            request: RequestId(request),
            pool: PoolId(0),
            fingerprint: request,
            owner: 0,
            patience: None,
            work,
        })
    }

    fn start(&mut self, id: WorkerId) -> Vec<Effect> {
        let mut effects = self.feed(Event::Forked(id));
        effects.extend(self.feed(Event::Ready(id)));
        effects
    }

    fn exit(&mut self, id: WorkerId) -> Vec<Effect> {
        self.feed(Event::Exited(id))
    }

    /// Lets time pass, in which nothing comes due.
    fn quiet(&mut self, duration: Duration) {
        assert_eq!(self.wait(duration), [], "within {duration:?}");
    }

    /// Lets time pass, with a timeout at its end.
    fn wait(&mut self, duration: Duration) -> Vec<Effect> {
        self.now = self.now.after(duration);
        self.policy.handle_timeout(self.now);
        self.effects()
    }

    /// Waits for the next deadline, which must be this far away.
    fn wait_for_deadline(&mut self, duration: Duration) -> Vec<Effect> {
        assert_eq!(self.policy.next_deadline().map(|deadline| deadline.since(self.now)), Some(duration));
        self.quiet(duration - Duration::from_nanos(1));
        self.wait(Duration::from_nanos(1))
    }

    /// What it wants done, but for looking at the memory, which is done, and for what was let in,
    /// which is noted.
    fn effects(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut asked = Vec::new();
        loop {
            while let Some(effect) = self.policy.poll_effect() {
                match effect {
                    Effect::ReadMemory(pool) => asked.push(pool),
                    Effect::Accepted(request) => self.accepted.push(request),
                    effect => effects.push(effect),
                }
            }
            let Some(pool) = asked.pop() else { return effects };
            tell(&mut self.policy, self.now, Event::MemoryRead(pool, self.memory));
        }
    }

    fn view(&self) -> PoolView {
        self.policy.pool(PoolId(0))
    }

    fn states(&self) -> Vec<WorkerState> {
        self.view().workers.iter().map(|worker| worker.state).collect()
    }
}

const REQUEST: PoolLimits = PoolLimits {
    workers: 1,
    queue: 2,
    isolation: Isolation::Request,
    threads: 8,
    load: Load::Eager,
    idle_unload: None,
    max_attempts: 3,
    memory: 1 << 20,
    queue_timeout: seconds(60),
    progress_timeout: seconds(30),
    request_timeout: seconds(600),
};

const WORKER: PoolLimits = PoolLimits { isolation: Isolation::Worker, ..REQUEST };

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn milliseconds(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn worker(slot: u32, generation: u64) -> WorkerId {
    WorkerId { pool: PoolId(0), life: Life { slot, generation } }
}

fn template(generation: u64) -> TemplateId {
    TemplateId { pool: PoolId(0), generation }
}

/// What all templates of these tests have loaded, unless a test says otherwise.
const WEIGHTS: Identity = Identity(1);

/// Enough for anything.
const PLENTY: Memory = Memory { total: u64::MAX, available: u64::MAX, addresses: None };

fn ready(generation: u64) -> Event {
    ready_with(template(generation), WEIGHTS)
}

/// The template has loaded this, which needs next to nothing.
fn ready_with(template: TemplateId, identity: Identity) -> Event {
    let needs = Needs { weights: 0, cache: 0 };
    Event::TemplateReady(template, Loaded { identity, needs, taken: 0, memory: PLENTY })
}

/// Tells the policy that something has happened, and has it do what follows.
fn tell(policy: &mut Policy, now: Time, event: Event) {
    policy.handle(now, event);
    policy.settle(now);
}

/// Has a policy with much memory fork the workers that it wants.
fn read_memory(policy: &mut Policy, now: Time, pool: usize) {
    tell(policy, now, Event::MemoryRead(PoolId(pool), PLENTY));
}

fn fork(generation: u64, worker: WorkerId) -> Effect {
    Effect::Fork { template: template(generation), worker }
}

fn dispatch(to: WorkerId, request: u64, attempt: u32) -> Effect {
    dispatch_part(to, request, 0, attempt)
}

fn dispatch_part(to: WorkerId, request: u64, number: u32, attempt: u32) -> Effect {
    Effect::Dispatch { to, part: Part { request: RequestId(request), number }, attempt }
}

fn kill(worker: WorkerId, reason: KillReason) -> Effect {
    Effect::Kill { worker, reason }
}

fn finish(request: u64, outcome: Outcome) -> Effect {
    Effect::Finish { request: RequestId(request), outcome }
}
