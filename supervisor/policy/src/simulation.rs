//! Ten thousand lives of a supervisor in simulated time, each a function of its seed.
//!
//! A fake world (`simulation/world.rs`) does what the policy asks, badly: processes crash at every
//! stage, hang, linger, misbehave and are slow; messages and exits arrive late and in every order
//! that the daemon allows; clients flood and leave. Beside it a plain model of the rules
//! (`simulation/rules.rs`) checks every effect and, after every step, every invariant of the
//! policy. In the end the world behaves, and everything must come to rest.
//!
//! A failure prints its seed; `SIMULATION_SEED=17 cargo test -p supervisor simulation --
//! --nocapture` runs that one alone and prints what happened.
mod fronts;
mod reloads;
mod rules;
mod world;

use super::back_off::Random;
use super::event::{
    Effect, Event, FrontId, Identity, Isolation, KillReason, Load, Loaded, Outcome, PoolId, ReloadRefusal, TemplateId,
    Time, Work, WorkerId,
};
use super::limits::{Limits, PoolLimits};
use super::{MemoryShortage, Policy, TemplateState, WorkerState};
use fronts::FrontWorld;
use ipc::{Life, Needs, RequestId};
use rules::Rules;
use std::collections::HashSet;
use std::mem::{Discriminant, discriminant};
use std::time::Duration;
use world::World;

const SEEDS: u64 = 10_000;
const STEPS: u64 = 160;
/// Far more than a world that behaves needs.
const MOST_STEPS_TO_REST: u64 = 5_000;

#[test]
fn every_request_ends_once_and_everything_comes_to_rest_whatever_happens() {
    if let Ok(seed) = std::env::var("SIMULATION_SEED") {
        return Simulation::new(seed.parse().expect("a number"), true).run(&mut Seen::default());
    }
    let mut seen = Seen::default();
    for seed in 0..SEEDS {
        Simulation::new(seed, false).run(&mut seen);
    }
    // A world in which something never happens says nothing about it.
    assert!(seen.left_behind > 0, "everything that was killed has ended");
    assert_eq!((seen.effects.len(), seen.outcomes.len(), seen.reasons.len()), (24, 13, 9));
    assert_eq!((seen.refusals.len(), seen.shortages.len()), (4, 4));
    assert!(seen.stalls > 1_000, "{}", seen.stalls);
}

/// Which effects, outcomes and reasons to kill there were, and how often a pool did not move.
#[derive(Default)]
struct Seen {
    effects: HashSet<Discriminant<Effect>>,
    outcomes: HashSet<Discriminant<Outcome>>,
    reasons: HashSet<Discriminant<KillReason>>,
    refusals: HashSet<Discriminant<ReloadRefusal>>,
    shortages: HashSet<Discriminant<MemoryShortage>>,
    stalls: u64,
    /// Supervisors that did not wait for what did not end.
    left_behind: usize,
}

impl Seen {
    fn note(&mut self, effect: &Effect) {
        self.effects.insert(discriminant(effect));
        match effect {
            Effect::Finish { outcome, .. } => _ = self.outcomes.insert(discriminant(outcome)),
            Effect::Kill { reason, .. } => _ = self.reasons.insert(discriminant(reason)),
            Effect::ReloadRefused(refusal) => _ = self.refusals.insert(discriminant(refusal)),
            Effect::DoesNotFit(_, shortage) | Effect::NoMemory(_, shortage) => {
                self.shortages.insert(discriminant(shortage));
            }
            _ => {}
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_effects() {
    let effects = |seed| {
        let mut simulation = Simulation::new(seed, false);
        simulation.run_for(STEPS);
        std::mem::take(&mut simulation.history)
    };
    assert_eq!(effects(1), effects(1));
    assert_ne!(effects(1), effects(2));
}

struct Simulation {
    seed: u64,
    policy: Policy,
    now: Time,
    random: Random,
    world: World,
    fronts: FrontWorld,
    rules: Rules,
    /// All events of processes that have ended, to be told again at any time.
    stale: Vec<Event>,
    next_request: u64,
    /// The models that are asked for.
    served: Vec<PoolId>,
    /// Those that are to be once the reload is in force that is under way.
    reloading: Option<Vec<PoolId>>,
    shutdowns: u32,
    history: Vec<Effect>,
    prints: bool,
}

impl Simulation {
    fn new(seed: u64, prints: bool) -> Simulation {
        let mut random = Random::new(seed);
        let (limits, pools) = limits(&mut random);
        let has_front = random.next().is_multiple_of(2);
        let policy = Policy::new(limits, pools.clone(), seed);
        let mut rules = Rules::new(limits, pools.clone());
        if has_front {
            rules.want_front();
        }
        Simulation {
            seed,
            policy: if has_front { policy.with_front() } else { policy },
            fronts: FrontWorld::default(),
            now: Time::default(),
            world: World::new(&pools, random.next() % 4, 1_000 + random.next() % 2_000),
            served: (0..pools.len()).map(PoolId).collect(),
            rules,
            random,
            stale: Vec::new(),
            next_request: 0,
            reloading: None,
            shutdowns: 0,
            history: Vec::new(),
            prints,
        }
    }

    fn run(mut self, seen: &mut Seen) {
        self.run_for(STEPS);
        // Some supervisors are told to stop in the midst of it all.
        if self.below(2) == 0 {
            self.shut_down();
            self.run_for(STEPS / 4);
            if self.below(3) == 0 {
                self.shut_down();
                self.run_for(STEPS / 16);
            }
        }
        self.world.behave();
        // Some processes do not even end when they are killed.
        let holds = self.shutdowns > 0 && self.below(8) == 0;
        self.world.hold(holds);
        for request in self.rules.blocked() {
            self.feed(Event::Blocked { request, is_blocked: false });
        }
        self.feed(Event::Drain(false));
        self.come_to_rest();
        if self.shutdowns == 0 {
            self.check_rest();
            // What could not be loaded is tried again by then.
            self.time_passes(self.now.after(Duration::from_secs(120)));
            self.come_to_rest();
            for pool in self.served.clone() {
                let request = self.submit(pool, u64::MAX);
                self.come_to_rest();
                self.rules.check_answered(request);
                self.check_rest();
            }
            self.shut_down();
            self.come_to_rest();
        }
        seen.left_behind += usize::from(self.rules.check_halted(self.now));
        self.history.iter().for_each(|effect| seen.note(effect));
        seen.stalls += self.rules.stalls();
    }

    fn run_for(&mut self, steps: u64) {
        self.apply_effects();
        for _ in 0..steps {
            self.step();
        }
    }

    fn step(&mut self) {
        match self.below(36) {
            32 => self.reload(),
            33 => self.operate(),
            0..=3 => {
                let (pool, fingerprint) = (self.any_pool(), self.below(40));
                self.submit(pool, fingerprint);
            }
            4 => {
                let pool = self.any_pool();
                for _ in 0..self.below(8) {
                    let fingerprint = self.below(40);
                    self.submit(pool, fingerprint);
                }
            }
            5 => {
                let request = RequestId(self.below(self.next_request + 1));
                self.feed(Event::Withdrawn(request));
            }
            6..=13 => self.act(),
            14..=24 => self.deliver(),
            25..=26 => {
                if let Some(event) = self.world.observe(&mut self.random) {
                    self.feed(event);
                }
            }
            27 if self.below(2) == 0 => {
                let (request, is_blocked) = (RequestId(self.below(self.next_request + 1)), self.below(2) == 0);
                self.feed(Event::Blocked { request, is_blocked });
            }
            27 => self.tell_stale(),
            34..=35 => self.act_front(),
            28 => self.world.strike(&mut self.random),
            29 => {
                self.settle();
                self.now = self.now.after(Duration::from_millis(self.below(60)));
            }
            30 => self.time_passes(self.now),
            _ => self.next_deadline_passes(),
        }
    }

    /// Lets everything happen that is to happen, without anything new from outside.
    fn come_to_rest(&mut self) {
        self.apply_effects();
        for _ in 0..MOST_STEPS_TO_REST {
            if self.world.has_messages() {
                self.deliver();
            } else if self.world.can_act() {
                self.act();
            } else if self.fronts.can_act() {
                self.act_front();
            } else if self.policy.is_unsettled() {
                self.settle();
            } else if self.policy.next_deadline().is_some() && !self.is_only_a_beat() {
                self.next_deadline_passes();
            } else {
                return;
            }
        }
        panic!("it does not come to rest: {:?}", self.policy);
    }

    /// Whether all that is to come is the next beat of a front that is well.
    fn is_only_a_beat(&self) -> bool {
        self.fronts.is_at_rest() && self.policy.next_deadline_of_pools().is_none()
    }

    fn act_front(&mut self) {
        let is_bad = self.world.is_bad();
        if let Some(event) = self.fronts.act(is_bad, &mut self.random) {
            self.feed(event);
        }
    }

    /// Whether every slot is idle and nothing is left to be done, now or later.
    fn check_rest(&self) {
        assert!(self.reloading.is_none(), "a reload does not end");
        assert!(self.policy.pools.keys().all(|pool| self.served.contains(pool)), "what nobody asks for is still there");
        for pool in self.served.iter().copied() {
            let view = self.policy.pool(pool);
            assert_eq!(view.queued, 0);
            if view.state == TemplateState::Warm {
                assert_eq!(view.workers.len(), self.rules.slots(pool), "{view:?}");
                assert!(view.workers.iter().all(|worker| worker.state == WorkerState::Idle), "{view:?}");
            }
            self.rules.check_resting(pool, view.state);
        }
        self.rules.check_all_ended();
        assert!(self.policy.next_deadline().is_none() || self.is_only_a_beat());
        assert!(self.policy.is_ready() && !self.policy.needs_time());
        // Rest is no stall, however long it lasts.
        assert_eq!(self.policy.stalled(self.now.after(Duration::from_secs(1_000_000))), None);
    }

    fn submit(&mut self, pool: PoolId, fingerprint: u64) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        let parts = match self.below(4) {
            0 => 2 + self.below(9) as u32,
            _ => 1,
        };
        let work = if self.below(2) == 0 { Work::parts(parts) } else { Work { parts, ..Work::WHOLE } };
        let owner = self.below(3);
        let patience = (self.below(4) == 0).then(|| Duration::from_millis(1 + self.below(1_000)));
        self.feed(Event::Submitted { request, pool, fingerprint, owner, patience, work });
        request
    }

    fn shut_down(&mut self) {
        self.shutdowns += 1;
        self.feed(Event::ShutdownRequested);
    }

    /// Some process does something of its own.
    fn act(&mut self) {
        self.world.act(&mut self.random);
    }

    /// Some process is heard.
    fn deliver(&mut self) {
        if let Some(event) = self.world.take_message(&mut self.random) {
            self.stale.extend(self.world.take_stale());
            self.feed(event);
        }
    }

    /// Tells the policy what has happened, and has it settle or not yet.
    fn feed(&mut self, event: Event) {
        if self.prints {
            println!("{:?} <- {event:?}", self.now.0);
        }
        self.rules.before(self.now, &event, &self.policy);
        self.policy.handle(self.now, event.clone());
        self.take_effects();
        self.rules.after_event(&event);
        self.look();
        if self.below(3) > 0 {
            self.settle();
        }
    }

    fn settle(&mut self) {
        loop {
            if self.prints {
                println!("{:?} <- settle", self.now.0);
            }
            self.policy.settle(self.now);
            self.take_effects();
            self.rules.after_batch(&self.policy);
            self.look();
            if !self.policy.is_unsettled() {
                return;
            }
        }
    }

    /// Tells again what a process said that has ended since, or tells of one that never was.
    /// Nothing may change.
    fn tell_stale(&mut self) {
        let event = match self.below(4) {
            0 => self.nonsense(),
            _ if self.stale.is_empty() => return,
            _ => {
                let index = self.below(self.stale.len() as u64) as usize;
                self.stale[index].clone()
            }
        };
        // Nothing may be due, or it would be done now.
        self.time_passes(self.now);
        self.settle();
        let before = format!("{:?}", self.policy);
        self.policy.handle(self.now, event.clone());
        self.policy.settle(self.now);
        assert_eq!(self.policy.poll_effect(), None, "{event:?}");
        assert_eq!(before, format!("{:?}", self.policy), "{event:?}");
    }

    fn nonsense(&mut self) -> Event {
        let pool = PoolId(self.below(self.rules.pools() as u64 + 2) as usize);
        let worker = WorkerId { pool, life: Life { slot: self.below(5) as u32, generation: 1_000 + self.below(2) } };
        let template = TemplateId { pool, generation: 1_000 };
        match self.below(11) {
            10 => {
                let front = FrontId(1_000 + self.below(2));
                match self.below(3) {
                    0 => Event::FrontListening(front),
                    1 => Event::FrontFailed(front),
                    _ => Event::FrontExited(front),
                }
            }
            0 if self.below(2) == 0 => Event::Examined(template),
            0 => {
                let needs = Needs { weights: 0, cache: 0 };
                let (identity, memory) = (Identity(7), self.world.memory);
                match self.below(3) {
                    0 => Event::Needs { template, needs, memory },
                    1 => Event::MemoryRead(pool, memory),
                    _ => Event::TemplateReady(template, Loaded { identity, needs, taken: 0, memory }),
                }
            }
            1 => Event::LoadFailed(template),
            2 => Event::TemplateExited(template),
            3 => Event::Forked(worker),
            4 if self.below(2) == 0 => Event::Shortage(worker),
            4 => Event::ForkFailed(worker),
            5 => Event::Ready(worker),
            6 => Event::Answered(worker),
            7 if self.below(2) == 0 => Event::ThreadsUsed { worker, threads: 3 },
            7 if self.below(2) == 0 => Event::MemoryTaken { worker, bytes: u64::MAX },
            7 => Event::Misbehaved(worker),
            8 if self.below(2) == 0 => Event::Blocked { request: RequestId(1_000_000), is_blocked: true },
            8 => Event::Withdrawn(RequestId(1_000_000)),
            _ => Event::Exited(worker),
        }
    }

    fn next_deadline_passes(&mut self) {
        self.settle();
        if let Some(deadline) = self.policy.next_deadline() {
            let late = if self.below(4) == 0 { Duration::from_millis(self.below(5)) } else { Duration::ZERO };
            self.time_passes(self.now.max(deadline).after(late));
        }
    }

    fn time_passes(&mut self, until: Time) {
        self.settle();
        self.now = until;
        // Those that are well are heard of more often than they must be.
        for event in self.fronts.beats() {
            self.rules.before(self.now, &event, &self.policy);
            self.policy.handle(self.now, event);
        }
        self.rules.after_batch(&self.policy);
        if self.prints {
            println!("{:?} <- time", self.now.0);
        }
        self.rules.before_timeout(self.now);
        self.policy.handle_timeout(self.now);
        self.take_effects();
        assert!(
            self.policy.next_deadline().is_none_or(|deadline| deadline > self.now),
            "a deadline that changes nothing"
        );
        self.rules.after_timeout(&self.policy);
        self.look();
    }

    fn apply_effects(&mut self) {
        self.take_effects();
        self.look();
        self.settle();
    }

    fn take_effects(&mut self) {
        while let Some(effect) = self.policy.poll_effect() {
            if self.prints {
                println!("{:?} -> {effect:?}", self.now.0);
            }
            self.history.push(effect);
            self.note_reload(effect);
            self.rules.effect(effect, &self.policy);
            self.world.apply(effect);
            self.fronts.apply(effect);
        }
    }

    /// Tells what the policy wanted to know at once.
    fn look(&mut self) {
        for event in self.world.take_readings() {
            self.feed(event);
        }
    }

    fn any_pool(&mut self) -> PoolId {
        match self.below(self.served.len() as u64 + 1) as usize {
            // One that is not asked for, or is not there.
            at if at == self.served.len() && self.below(8) == 0 => PoolId(self.below(40) as usize),
            at => self.served[at % self.served.len()],
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.next() % bound
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the simulation failed: run it again with SIMULATION_SEED={}", self.seed);
        }
    }
}

/// Small limits, so that a short life reaches all of them, and different ones for each seed.
fn limits(random: &mut Random) -> (Limits, Vec<PoolLimits>) {
    let milliseconds = Duration::from_millis;
    let limits = Limits {
        cores: 1 + (random.next() % 8) as u32,
        start: milliseconds(300),
        room: milliseconds(1 + random.next() % 50),
        load: milliseconds(500),
        grace: milliseconds(100),
        cancel: milliseconds(40),
        backoff: milliseconds(random.next() % 20),
        backoff_max: milliseconds(100),
        crash_loop: 2 + (random.next() % 4) as u32,
        park: milliseconds(700),
        poison: milliseconds(1_500),
        drain: milliseconds(100 + random.next() % 2_000),
        last: milliseconds(50 + random.next() % 100),
        silence: milliseconds(100 + random.next() % 300),
        stall: milliseconds(50 + random.next() % 200),
    };
    let isolations = [Isolation::Request, Isolation::Worker, Isolation::Request];
    (limits, isolations.map(|isolation| pool_limits(isolation, random)).to_vec())
}

fn pool_limits(isolation: Isolation, random: &mut Random) -> PoolLimits {
    let milliseconds = Duration::from_millis;
    PoolLimits {
        workers: 1 + (random.next() % 3) as u32,
        queue: (random.next() % 6) as usize,
        isolation,
        threads: 1 + (random.next() % 8) as u32,
        load: if random.next().is_multiple_of(3) { Load::Lazy } else { Load::Eager },
        idle_unload: random.next().is_multiple_of(3).then(|| milliseconds(1 + random.next() % 400)),
        max_attempts: 1 + (random.next() % 3) as u32,
        memory: 100 + random.next() % 3,
        queue_timeout: milliseconds(200 + random.next() % 1_000),
        progress_timeout: milliseconds(150),
        request_timeout: milliseconds(200 + random.next() % 1_000),
    }
}
