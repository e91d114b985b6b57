//! The fake processes: what they do of their own, and what they do when they are told to.
//!
//! The world keeps to what the daemon promises the policy, and to nothing more: what a process sends
//! is heard in order, its exit last; a worker is heard of first by its template.
use super::super::back_off::Random;
use super::super::event::{Effect, Event, Identity, Isolation, Loaded, PoolId, TemplateId, WorkerId};
use super::super::limits::PoolLimits;
use super::super::memory::Memory;
use ipc::Needs;
use std::collections::{BTreeMap, VecDeque};

pub(super) struct World {
    isolation: Vec<Isolation>,
    /// What each model's files are now.
    files: Vec<Identity>,
    last_files: u64,
    /// Whether what is killed may take its time to end.
    holds: bool,
    /// What the machine has now.
    pub(super) memory: Memory,
    templates: BTreeMap<PoolId, Template>,
    workers: BTreeMap<WorkerId, Worker>,
    /// How often something goes wrong: 0 never, 3 often.
    badness: u64,
    stale: Vec<Event>,
    /// What the boards said when they were looked at.
    readings: Vec<Event>,
}

struct Template {
    id: TemplateId,
    identity: Identity,
    phase: TemplatePhase,
    is_hung: bool,
    forks: VecDeque<WorkerId>,
    messages: VecDeque<Event>,
    said: Vec<Event>,
}

#[derive(Clone, Copy, PartialEq)]
enum TemplatePhase {
    /// Opens the model, and no more.
    Opening,
    /// Opens the model to load it.
    Asking,
    /// It has opened the model and waits for somebody to say that it may load it.
    Waiting,
    Loading,
    Warm,
    Leaving,
    Dead,
}

struct Worker {
    phase: Phase,
    is_hung: bool,
    /// It was killed or asked to exit before it was heard of.
    is_doomed: bool,
    ticks: u64,
    budget: u32,
    /// What it computes with, which follows the budget in its own time, or does not.
    threads: u32,
    is_stubborn: bool,
    is_liar: bool,
    messages: VecDeque<Event>,
    said: Vec<Event>,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Unborn,
    Starting,
    Idle,
    Working,
    Leaving,
    Dead,
}

impl World {
    pub(super) fn new(pools: &[PoolLimits], badness: u64, total: u64) -> World {
        World {
            isolation: pools.iter().map(|limits| limits.isolation).collect(),
            files: pools.iter().map(|_| Identity(0)).collect(),
            last_files: 0,
            holds: false,
            memory: Memory { total, available: total, addresses: None },
            templates: BTreeMap::new(),
            workers: BTreeMap::new(),
            badness,
            stale: Vec::new(),
            readings: Vec::new(),
        }
    }

    /// From now on nothing new goes wrong; what hangs goes on hanging.
    pub(super) fn behave(&mut self) {
        self.badness = 0;
        self.memory = Memory { total: 1 << 60, available: 1 << 60, addresses: None };
    }

    /// Whether things go wrong.
    pub(super) fn is_bad(&self) -> bool {
        self.badness > 0
    }

    /// From now on what is killed does not end, or ends after all.
    pub(super) fn hold(&mut self, holds: bool) {
        self.holds = holds;
    }

    /// Another model comes, with files of its own or with those of one that is there.
    pub(super) fn add(&mut self, limits: PoolLimits, files_of: Option<PoolId>) {
        self.isolation.push(limits.isolation);
        self.files.push(Identity(0));
        match files_of {
            Some(other) => self.files[self.isolation.len() - 1] = self.files[other.0],
            None => self.change_files(PoolId(self.isolation.len() - 1)),
        }
    }

    fn change_files(&mut self, pool: PoolId) {
        self.last_files += 1;
        self.files[pool.0] = Identity(self.last_files);
    }

    pub(super) fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Load(id) => self.start(id, TemplatePhase::Asking),
            Effect::Admit(id) => {
                let template = self.templates.get_mut(&id.pool).filter(|template| template.id == id);
                if let Some(template) = template.filter(|template| template.phase == TemplatePhase::Waiting) {
                    template.phase = TemplatePhase::Loading;
                }
            }
            Effect::ReadMemory(id) => self.readings.push(Event::MemoryRead(id, self.memory)),
            Effect::Examine(id) => self.start(id, TemplatePhase::Opening),
            Effect::KillTemplate(id) => {
                if let Some(template) = self.templates.get_mut(&id.pool).filter(|_| !self.holds) {
                    template.die();
                }
            }
            Effect::Fork { worker, .. } if self.badness > 0 && worker.life.generation % 8 == 3 => {
                self.readings.push(Event::Shortage(worker));
            }
            Effect::Fork { template, worker } => {
                if let Some(template) = self.templates.get_mut(&template.pool) {
                    template.forks.push_back(worker);
                }
                let (messages, said) = (VecDeque::new(), Vec::new());
                let phase = Phase::Unborn;
                let fresh = Worker {
                    phase,
                    is_hung: false,
                    is_doomed: false,
                    ticks: 0,
                    budget: 1,
                    threads: 1,
                    is_stubborn: self.badness > 0 && (worker.life.generation + self.badness).is_multiple_of(5),
                    is_liar: self.badness > 0 && (worker.life.generation + self.badness).is_multiple_of(7),
                    messages,
                    said,
                };
                self.workers.insert(worker, fresh);
            }
            Effect::Dispatch { to: id, .. } => self.with(id, |worker| {
                if worker.phase == Phase::Idle {
                    worker.phase = Phase::Working;
                }
            }),
            Effect::SetBudget { worker: id, threads } => self.with(id, |worker| worker.budget = threads),
            Effect::ReadThreads(id) => {
                let worker = self.workers.get(&id);
                let threads = worker.map(|worker| if worker.is_liar { u32::MAX } else { worker.threads });
                self.readings.extend(threads.map(|threads| Event::ThreadsUsed { worker: id, threads }));
            }
            // It answers in its own time, or not.
            Effect::StopRequest { .. } => {}
            Effect::Terminate(id) => self.with(id, |worker| match worker.phase {
                Phase::Unborn => worker.is_doomed = true,
                Phase::Starting | Phase::Idle | Phase::Working => worker.phase = Phase::Leaving,
                Phase::Leaving | Phase::Dead => {}
            }),
            Effect::Kill { .. } if self.holds => {}
            Effect::Kill { worker: id, .. } => self.with(id, |worker| match worker.phase {
                Phase::Unborn => worker.is_doomed = true,
                Phase::Starting | Phase::Idle | Phase::Working | Phase::Leaving => worker.die(id),
                Phase::Dead => {}
            }),
            Effect::Accepted(_)
            | Effect::Finish { .. }
            | Effect::DoesNotFit(..)
            | Effect::NoMemory(..)
            | Effect::Moved { .. }
            | Effect::Reloaded
            | Effect::ReloadRefused(_)
            | Effect::Removed(_)
            | Effect::StartFront { .. }
            | Effect::KillFront(_)
            | Effect::FinishFront(_)
            | Effect::Halt => {}
        }
    }

    fn start(&mut self, id: TemplateId, phase: TemplatePhase) {
        let (forks, messages, identity) = (VecDeque::new(), VecDeque::new(), self.files[id.pool.0]);
        let said = Vec::new();
        self.templates.insert(id.pool, Template { id, identity, phase, is_hung: false, forks, messages, said });
    }

    pub(super) fn has_messages(&self) -> bool {
        self.templates.values().any(|template| !template.messages.is_empty())
            || self.workers.values().any(|worker| !worker.messages.is_empty())
    }

    pub(super) fn can_act(&self) -> bool {
        self.templates.values().any(Template::can_act) || self.workers.values().any(Worker::can_act)
    }

    /// The next message of some process.
    pub(super) fn take_message(&mut self, random: &mut Random) -> Option<Event> {
        let templates = self.templates.values_mut().map(|template| &mut template.messages);
        let workers = self.workers.values_mut().map(|worker| &mut worker.messages);
        let mut heard: Vec<_> = templates.chain(workers).filter(|messages| !messages.is_empty()).collect();
        let event = pick(&mut heard, random)?.pop_front()?;
        self.heard(event.clone(), random);
        Some(event)
    }

    /// What was said by processes that have ended since this was last asked.
    pub(super) fn take_stale(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.stale)
    }

    pub(super) fn take_readings(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.readings)
    }

    /// A look at some worker's board.
    pub(super) fn observe(&self, random: &mut Random) -> Option<Event> {
        let known = self.workers.iter().filter(|(_, worker)| worker.phase != Phase::Unborn);
        let mut known: Vec<_> = known.collect();
        pick(&mut known, random).map(|(id, worker)| Event::Observed { worker: *id, ticks: worker.ticks })
    }

    /// Some process does the next thing that it has to do.
    pub(super) fn act(&mut self, random: &mut Random) {
        let mut templates: Vec<_> = self.templates.values_mut().filter(|template| template.can_act()).collect();
        let mut workers: Vec<_> = self.workers.iter_mut().filter(|(_, worker)| worker.can_act()).collect();
        let luck = match self.badness {
            0 => Luck::Good,
            badness => Luck::roll(badness, random),
        };
        if random.next() as usize % (templates.len() + workers.len()).max(1) < templates.len() {
            if let Some(template) = pick(&mut templates, random) {
                template.act(luck, self.memory, random);
            }
        } else if let Some((id, worker)) = pick(&mut workers, random) {
            let isolation = self.isolation[id.pool.0];
            worker.act(*id, isolation, luck, random);
        }
    }

    /// Something happens to some process that is none of its own doing: the kernel kills it, or it
    /// is seen to take too much memory.
    pub(super) fn strike(&mut self, random: &mut Random) {
        if self.badness == 0 {
            return;
        }
        let mut workers: Vec<_> = self.workers.iter_mut().filter(|(_, worker)| worker.is_process()).collect();
        let mut templates: Vec<_> = self.templates.values_mut().collect();
        match random.next() % 20 {
            16..=17 => self.memory.available = random.next() % self.memory.total,
            18 => self.memory.addresses = random.next().is_multiple_of(2).then(|| 100 + random.next() % 400),
            0 => pick(&mut templates, random).into_iter().for_each(|template| template.die()),
            1..=4 => pick(&mut workers, random).into_iter().for_each(|(id, worker)| worker.die(*id)),
            5 => pick(&mut workers, random)
                .into_iter()
                .for_each(|(id, worker)| worker.messages.push_back(Event::Misbehaved(*id))),
            7 => pick(&mut workers, random).into_iter().for_each(|(id, worker)| {
                worker.messages.push_back(Event::MemoryTaken { worker: *id, bytes: 99 + random.next() % 5 });
            }),
            6 => self.change_files(PoolId(random.next() as usize % self.files.len())),
            _ => {}
        }
    }

    fn with(&mut self, id: WorkerId, act: impl FnOnce(&mut Worker)) {
        if let Some(worker) = self.workers.get_mut(&id) {
            act(worker);
        }
    }

    /// What being heard of makes of a process.
    fn heard(&mut self, event: Event, random: &mut Random) {
        match event {
            Event::Examined(_) | Event::TemplateReady(..) | Event::LoadFailed(_) => self.stale.push(event),
            Event::Needs { template: id, .. } => {
                if let Some(template) = self.templates.get_mut(&id.pool) {
                    template.said.push(event);
                }
            }
            Event::TemplateExited(id) => {
                self.stale.push(event);
                let template = self.templates.remove(&id.pool);
                self.stale.extend(template.into_iter().flat_map(|template| template.said));
                // A worker that was never reported is nobody's, even if it was half made.
                self.workers.retain(|worker, state| worker.pool != id.pool || state.phase != Phase::Unborn);
            }
            Event::Forked(id) => {
                let dies = self.badness > 0 && random.next().is_multiple_of(16);
                self.with(id, |worker| {
                    worker.said.push(event);
                    worker.phase = Phase::Starting;
                    if worker.is_doomed || dies {
                        worker.die(id);
                    }
                });
            }
            Event::ForkFailed(id) | Event::Shortage(id) => {
                self.workers.remove(&id);
                self.stale.push(event);
            }
            Event::Exited(id) => {
                if let Some(worker) = self.workers.remove(&id) {
                    self.stale.extend(worker.said);
                    self.stale.push(event);
                }
            }
            Event::Ready(id)
            | Event::Streamed(id)
            | Event::Answered(id)
            | Event::Rejected(id)
            | Event::MemoryTaken { worker: id, .. }
            | Event::Misbehaved(id) => {
                self.with(id, |worker| worker.said.push(event));
            }
            Event::Submitted { .. }
            | Event::Withdrawn(_)
            | Event::Blocked { .. }
            | Event::Observed { .. }
            | Event::ThreadsUsed { .. }
            | Event::MemoryRead(..)
            | Event::Restart { .. }
            | Event::Reload(_)
            | Event::Drain(_)
            | Event::FrontListening(_)
            | Event::FrontFailed(_)
            | Event::FrontBeat(_)
            | Event::FrontExited(_)
            | Event::ShutdownRequested => {}
        }
    }
}

/// How the next thing that a process does turns out.
#[derive(Clone, Copy, PartialEq)]
enum Luck {
    Good,
    Dies,
    Hangs,
    Misbehaves,
    Refuses,
}

impl Luck {
    fn roll(badness: u64, random: &mut Random) -> Luck {
        match random.next() % (96 / badness) {
            0..=5 => Luck::Dies,
            6..=7 => Luck::Hangs,
            8..=9 => Luck::Misbehaves,
            10..=11 => Luck::Refuses,
            _ => Luck::Good,
        }
    }
}

impl Template {
    fn can_act(&self) -> bool {
        !self.is_hung
            && match self.phase {
                TemplatePhase::Opening | TemplatePhase::Asking => true,
                TemplatePhase::Loading | TemplatePhase::Leaving => true,
                TemplatePhase::Warm => !self.forks.is_empty(),
                TemplatePhase::Waiting | TemplatePhase::Dead => false,
            }
    }

    /// What it needs, which is another thing for other files.
    fn needs(&self) -> Needs {
        Needs { weights: 50 * (self.identity.0 % 5), cache: 30 * (self.identity.0 % 3) }
    }

    fn act(&mut self, luck: Luck, memory: Memory, random: &mut Random) {
        match (luck, self.phase) {
            // Also in the midst of a fork.
            (Luck::Dies, _) | (_, TemplatePhase::Leaving) => self.die(),
            (Luck::Hangs, _) => self.is_hung = true,
            (Luck::Refuses, TemplatePhase::Opening | TemplatePhase::Asking | TemplatePhase::Loading) => {
                self.phase = TemplatePhase::Leaving;
                self.messages.push_back(Event::LoadFailed(self.id));
            }
            // What has nothing to ask for, as an engine without weights, is loaded at once.
            (_, TemplatePhase::Asking) if random.next().is_multiple_of(4) => self.phase = TemplatePhase::Loading,
            (_, TemplatePhase::Asking) => {
                self.phase = TemplatePhase::Waiting;
                self.messages.push_back(Event::Needs { template: self.id, needs: self.needs(), memory });
            }
            (_, TemplatePhase::Opening) if !random.next().is_multiple_of(4) => {
                self.phase = TemplatePhase::Waiting;
                self.messages.push_back(Event::Needs { template: self.id, needs: self.needs(), memory });
            }
            (_, TemplatePhase::Opening) => {
                self.phase = TemplatePhase::Waiting;
                self.messages.push_back(Event::Examined(self.id));
            }
            (_, TemplatePhase::Loading) => {
                self.phase = TemplatePhase::Warm;
                // Some take more than they said.
                let taken = if random.next().is_multiple_of(3) { random.next() % 300 } else { 0 };
                let loaded = Loaded { identity: self.identity, needs: self.needs(), taken, memory };
                self.messages.push_back(Event::TemplateReady(self.id, loaded));
            }
            (_, TemplatePhase::Warm) => {
                let event = |id: WorkerId| match luck {
                    Luck::Refuses if id.life.generation.is_multiple_of(2) => Event::ForkFailed(id),
                    // It was born, but the supervisor could not take hold of it.
                    Luck::Refuses => Event::Shortage(id),
                    _ => Event::Forked(id),
                };
                self.messages.extend(self.forks.pop_front().map(event));
            }
            (_, TemplatePhase::Waiting | TemplatePhase::Dead) => {}
        }
    }

    fn die(&mut self) {
        if self.phase != TemplatePhase::Dead {
            self.phase = TemplatePhase::Dead;
            self.messages.push_back(Event::TemplateExited(self.id));
        }
    }
}

impl Worker {
    fn is_process(&self) -> bool {
        match self.phase {
            Phase::Starting | Phase::Idle | Phase::Working | Phase::Leaving => true,
            Phase::Unborn | Phase::Dead => false,
        }
    }

    fn can_act(&self) -> bool {
        let has_work = match self.phase {
            Phase::Starting | Phase::Working | Phase::Leaving => true,
            Phase::Unborn | Phase::Idle | Phase::Dead => false,
        };
        has_work && !self.is_hung
    }

    fn act(&mut self, id: WorkerId, isolation: Isolation, luck: Luck, random: &mut Random) {
        match (luck, self.phase) {
            (_, Phase::Unborn | Phase::Dead) => {}
            (Luck::Dies, _) => self.die(id),
            (Luck::Hangs, _) => self.is_hung = true,
            (Luck::Misbehaves, _) => self.messages.push_back(Event::Misbehaved(id)),
            (_, Phase::Starting) => {
                self.phase = Phase::Idle;
                self.messages.push_back(Event::Ready(id));
            }
            (_, Phase::Working) if !self.is_stubborn && self.threads != self.budget => self.threads = self.budget,
            (_, Phase::Working) => match random.next() % 8 {
                0..=2 => {
                    self.ticks += 1;
                    self.messages.push_back(Event::Streamed(id));
                }
                3 => self.ticks += 1,
                _ => {
                    let is_refused = luck == Luck::Refuses;
                    self.messages.push_back(if is_refused { Event::Rejected(id) } else { Event::Answered(id) });
                    self.phase = match isolation {
                        Isolation::Request => Phase::Leaving,
                        Isolation::Worker => Phase::Idle,
                    };
                }
            },
            (_, Phase::Leaving) => self.die(id),
            (_, Phase::Idle) => {}
        }
    }

    fn die(&mut self, id: WorkerId) {
        self.phase = Phase::Dead;
        self.messages.push_back(Event::Exited(id));
    }
}

fn pick<T>(from: &mut Vec<T>, random: &mut Random) -> Option<T> {
    let count = from.len().max(1);
    (!from.is_empty()).then(|| from.swap_remove(random.next() as usize % count))
}
