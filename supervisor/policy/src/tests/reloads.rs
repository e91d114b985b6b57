//! New configurations: all of it or nothing, and what becomes of the old.
use super::*;
use crate::FrontChange;
use crate::{Change, Reload};

const NEW: PoolId = PoolId(1);

/// A worker of the model that takes the first one's place.
fn next(slot: u32, generation: u64) -> WorkerId {
    WorkerId { pool: NEW, ..worker(slot, generation) }
}

fn new_template(generation: u64) -> TemplateId {
    TemplateId { pool: NEW, generation }
}

fn new_fork(generation: u64, worker: WorkerId) -> Effect {
    Effect::Fork { template: new_template(generation), worker }
}

fn moved(request: u64) -> Effect {
    Effect::Moved { request: RequestId(request), to: NEW }
}

fn replace(limits: PoolLimits) -> Change {
    Change::Replace { old: PoolId(0), new: NEW, limits }
}

fn adjust(limits: PoolLimits) -> Change {
    Change::Adjust { pool: PoolId(0), limits }
}

impl Rig {
    fn reload(&mut self, changes: &[Change]) -> Vec<Effect> {
        tell(
            &mut self.policy,
            self.now,
            Event::Reload(Reload {
                drain: seconds(7),
                changes: changes.to_vec(),
                front: FrontChange::Keep,
                memory: self.memory,
            }),
        );
        self.effects()
    }

    /// Replaces the model by one with these files, up to the readiness of its first worker: what
    /// follows from that.
    fn replaced(&mut self, limits: PoolLimits, identity: u64) -> Vec<Effect> {
        assert_eq!(self.reload(&[replace(limits)]), [Effect::Load(new_template(2))], "beside the old one");
        let forks: Vec<_> = (0..limits.workers).map(|slot| new_fork(2, next(slot, 1))).collect();
        assert_eq!(self.feed(ready_with(new_template(2), Identity(identity))), forks);
        self.start(next(0, 1))
    }
}

#[test]
fn nothing_to_change_changes_nothing() {
    let mut rig = Rig::busy(REQUEST);
    let before = format!("{:?}", rig.policy.pools);
    assert_eq!(rig.reload(&[]), [Effect::Reloaded]);
    assert_eq!(before, format!("{:?}", rig.policy.pools));
    assert_eq!(rig.feed(Event::ShutdownRequested).len(), 1);
    assert_eq!(rig.policy.next_deadline().map(|time| time.since(rig.now)), Some(seconds(2)));
    assert_eq!(rig.exit(worker(0, 2)), []);
    assert_eq!(rig.wait_for_deadline(seconds(7))[0], finish(1, Outcome::ShuttingDown), "by the new limit");
}

#[test]
fn the_new_model_takes_over_when_a_worker_is_ready_and_the_old_one_finishes() {
    let mut rig = Rig::busy(REQUEST);
    assert_eq!(rig.submit(2), []);
    let effects = rig.replaced(REQUEST, 2);
    assert_eq!(effects[..3], [Effect::Reloaded, moved(2), Effect::Terminate(worker(0, 2))]);
    assert_eq!(effects[3..], [dispatch(next(0, 1), 2, 1), new_fork(2, next(0, 2))]);
    assert_eq!(rig.exit(worker(0, 2)), [], "no spare for what is not asked for");
    // The old one's requests go on with what it had loaded, for as long as it takes.
    assert_eq!(rig.feed(Event::Streamed(worker(0, 1))), []);
    assert_eq!(rig.exit(worker(0, 1)), [fork(1, worker(0, 3))]);
    assert_eq!(rig.start(worker(0, 3)), [dispatch(worker(0, 3), 1, 2)]);
    let effects = [finish(1, Outcome::Answered), Effect::KillTemplate(template(1))];
    assert_eq!(rig.feed(Event::Answered(worker(0, 3))), effects);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), []);
    assert_eq!(rig.exit(worker(0, 3)), [Effect::Removed(PoolId(0))]);
}

#[test]
fn what_nothing_was_computed_of_goes_to_the_new_model() {
    let mut rig = Rig::busy(REQUEST);
    assert_eq!(rig.replaced(REQUEST, 2)[..2], [Effect::Reloaded, Effect::Terminate(worker(0, 2))]);
    let effects = [moved(1), Effect::KillTemplate(template(1)), dispatch(next(0, 1), 1, 2), new_fork(2, next(0, 2))];
    assert_eq!(rig.exit(worker(0, 1)), effects, "its worker has died before it had sent anything");
}

#[test]
fn what_was_computed_goes_on_with_the_same_files_only() {
    for (identity, expected) in [(1, moved(1)), (2, finish(1, Outcome::ModelChanged))] {
        let mut rig = Rig::busy(REQUEST);
        assert_eq!(rig.feed(Event::Streamed(worker(0, 1))), []);
        assert_eq!(rig.replaced(REQUEST, identity).len(), 2);
        assert_eq!(rig.exit(worker(0, 2)), []);
        // Its template is not loaded again, and nobody else has what it had loaded.
        assert_eq!(rig.feed(Event::TemplateExited(template(1))), []);
        let effects = rig.exit(worker(0, 1));
        assert_eq!(effects[0], expected);
        let resumed = effects.contains(&dispatch(next(0, 1), 1, 2));
        assert_eq!(resumed, identity == 1);
    }
}

#[test]
fn a_model_that_cannot_be_served_changes_nothing() {
    let ready = || ready_with(new_template(2), WEIGHTS);
    let death = || Event::Exited(next(0, 1));
    let ways: [&[Event]; 6] = [
        &[Event::LoadFailed(new_template(2))],
        &[Event::TemplateExited(new_template(2))],
        &[ready(), Event::Shortage(next(0, 1))],
        &[ready(), Event::ForkFailed(next(0, 1))],
        &[ready(), Event::Forked(next(0, 1)), death()],
        &[ready(), Event::TemplateExited(new_template(2))],
    ];
    for events in ways {
        let mut rig = Rig::busy(REQUEST);
        assert_eq!(rig.reload(&[replace(REQUEST), adjust(WORKER)]), [Effect::Load(new_template(2))]);
        let effects: Vec<_> = events.iter().flat_map(|event| rig.feed(event.clone())).collect();
        assert!(effects.contains(&Effect::ReloadRefused(ReloadRefusal::NotServed(NEW))), "{events:?}: {effects:?}");
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Load(_) | Effect::Reloaded)), "it has one try");
        assert_eq!(rig.states(), [WorkerState::Busy, WorkerState::Spare], "the old one goes on");
        assert_eq!(rig.policy.pools[&PoolId(0)].limits, REQUEST, "nothing else has changed");
        let rest = [Event::TemplateExited(new_template(2)), death(), Event::Exited(next(0, 2))];
        let gone: Vec<_> = rest.into_iter().flat_map(|event| rig.feed(event)).collect();
        assert_eq!(effects.into_iter().chain(gone).filter(|effect| *effect == Effect::Removed(NEW)).count(), 1);
    }
}

#[test]
fn a_model_that_loads_for_too_long_changes_nothing() {
    let mut rig = Rig::idle(REQUEST);
    assert_eq!(rig.reload(&[replace(REQUEST)]), [Effect::Load(new_template(2))]);
    let effects = [Effect::KillTemplate(new_template(2)), Effect::ReloadRefused(ReloadRefusal::NotServed(NEW))];
    assert_eq!(rig.wait_for_deadline(seconds(600)), effects);
    assert_eq!(rig.feed(Event::TemplateExited(new_template(2))), [Effect::Removed(NEW)]);
}

#[test]
fn a_reload_ends_when_the_supervisor_stops() {
    let mut rig = Rig::busy(REQUEST);
    assert_eq!(rig.reload(&[replace(REQUEST)]).len(), 1);
    let effects = [
        Effect::Terminate(worker(0, 2)),
        Effect::ReloadRefused(ReloadRefusal::ShuttingDown),
        Effect::KillTemplate(new_template(2)),
    ];
    let told = rig.feed(Event::ShutdownRequested);
    assert!(effects.iter().all(|effect| told.contains(effect)) && told.len() == 3, "{told:?}");
}

#[test]
fn models_are_added_and_removed_together() {
    let mut rig = Rig::busy(REQUEST);
    assert_eq!(rig.submit(2), []);
    let add = Change::Add { pool: NEW, limits: WORKER };
    let lazy = Change::Add { pool: PoolId(2), limits: PoolLimits { load: Load::Lazy, ..WORKER } };
    let opened = TemplateId { pool: PoolId(2), generation: 1 };
    let loads = [Effect::Load(new_template(1)), Effect::Examine(opened)];
    assert_eq!(rig.reload(&[add, lazy, Change::Remove(PoolId(0))]), loads, "of a lazy one nothing is loaded");
    assert_eq!(rig.submit(3), [], "the old one is still asked for");
    assert_eq!(rig.feed(Event::Examined(opened)), [Effect::KillTemplate(opened)]);
    assert_eq!(rig.feed(Event::TemplateExited(opened)), [], "it has shown what it can while the other still loads");
    assert_eq!(rig.feed(ready_with(new_template(1), WEIGHTS)), [new_fork(1, next(0, 1))]);
    assert_eq!(rig.start(next(0, 1)), [Effect::Reloaded]);
    assert_eq!(rig.submit(4), [finish(4, Outcome::Unavailable { until: rig.now })]);
    // What was admitted is finished, all of it.
    assert_eq!(rig.feed(Event::Answered(worker(0, 1))), [finish(1, Outcome::Answered)]);
    assert_eq!(rig.exit(worker(0, 1)), [dispatch(worker(0, 2), 2, 1), fork(1, worker(0, 3))]);
    assert_eq!(rig.feed(Event::Withdrawn(RequestId(3))).len(), 2);
    let effects = rig.feed(Event::Withdrawn(RequestId(2)));
    assert_eq!(effects.last(), Some(&Effect::KillTemplate(template(1))));
}

#[test]
fn a_model_that_is_not_loaded_is_opened_before_it_is_replaced() {
    let lazy = PoolLimits { load: Load::Lazy, ..REQUEST };
    let mut rig = Rig::of(Policy::new(Limits::default(), vec![lazy], 1));
    assert_eq!(rig.reload(&[replace(lazy)]), [Effect::Examine(new_template(1))]);
    assert!(rig.policy.needs_time());
    let opened = [Effect::KillTemplate(new_template(1)), Effect::Reloaded, Effect::Removed(PoolId(0))];
    assert_eq!(rig.feed(Event::Examined(new_template(1))), opened);
    assert_eq!(rig.policy.pool(NEW).state, TemplateState::Cold);
    let request = Event::Submitted {
        request: RequestId(1),
        pool: NEW,
        fingerprint: 1,
        owner: 0,
        patience: None,
        work: Work::WHOLE,
    };
    assert_eq!(rig.feed(request), [], "two are never there at once");
    assert_eq!(rig.feed(Event::TemplateExited(new_template(1))), [Effect::Load(new_template(2))]);
}

#[test]
fn a_model_that_is_not_loaded_and_cannot_be_opened_changes_nothing() {
    let lazy = PoolLimits { load: Load::Lazy, ..REQUEST };
    for event in [Event::LoadFailed(new_template(1)), Event::TemplateExited(new_template(1))] {
        let mut rig = Rig::of(Policy::new(Limits::default(), vec![lazy], 1));
        assert_eq!(rig.reload(&[replace(lazy), adjust(WORKER)]).len(), 1);
        assert!(rig.feed(event.clone()).contains(&Effect::ReloadRefused(ReloadRefusal::NotServed(NEW))), "{event:?}");
        assert_eq!(rig.policy.pools[&PoolId(0)].limits, lazy);
        assert_eq!(rig.submit(1), [Effect::Load(template(1))], "the old one is still served");
    }
    let mut rig = Rig::of(Policy::new(Limits::default(), vec![lazy], 1));
    assert_eq!(rig.reload(&[replace(lazy)]).len(), 1);
    let effects = [Effect::KillTemplate(new_template(1)), Effect::ReloadRefused(ReloadRefusal::NotServed(NEW))];
    assert_eq!(rig.wait_for_deadline(seconds(600)), effects, "it hangs");
    assert_eq!(rig.feed(Event::Examined(new_template(1))), [], "too late");
    assert_eq!(rig.feed(Event::TemplateExited(new_template(1))), [Effect::Removed(NEW)]);
}

#[test]
fn a_lazy_model_that_is_loaded_is_tried_before_it_is_replaced() {
    let mut rig = Rig::idle(PoolLimits { load: Load::Eager, ..REQUEST });
    let effects = rig.replaced(PoolLimits { load: Load::Lazy, idle_unload: Some(seconds(1)), ..REQUEST }, 2);
    assert_eq!(effects[0], Effect::Reloaded);
    assert_eq!(rig.feed(Event::Exited(worker(0, 1))), []);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Removed(PoolId(0))]);
    assert_eq!(rig.wait_for_deadline(seconds(1)).len(), 2, "it is let go like any other");
}

#[test]
fn what_waits_longer_by_other_limits_does_not_hide_what_must_end() {
    let mut rig = Rig::busy(REQUEST);
    assert_eq!(rig.submit(2), []);
    assert_eq!(rig.reload(&[adjust(PoolLimits { queue_timeout: seconds(10), ..REQUEST })]), [Effect::Reloaded]);
    assert_eq!(rig.submit(3), []);
    assert_eq!(rig.wait_for_deadline(seconds(10)), [finish(3, Outcome::QueueTimeout)]);
    assert_eq!(rig.view().queued, 1);
}

#[test]
fn slots_come_at_once_and_go_when_they_are_free() {
    let mut rig = Rig::busy(REQUEST);
    assert_eq!(rig.submit(2), []);
    let more = adjust(PoolLimits { workers: 2, ..REQUEST });
    assert_eq!(rig.reload(&[more]), [Effect::Reloaded, fork(1, worker(1, 1))]);
    assert_eq!(rig.start(worker(1, 1)), [dispatch(worker(1, 1), 2, 1), fork(1, worker(1, 2))]);
    assert_eq!(rig.start(worker(1, 2)), []);
    assert_eq!(rig.reload(&[adjust(REQUEST)]), [Effect::Reloaded, Effect::Terminate(worker(1, 2))]);
    assert_eq!(rig.submit(3), []);
    assert_eq!(rig.exit(worker(1, 2)), []);
    assert_eq!(rig.feed(Event::Answered(worker(1, 1))), [finish(2, Outcome::Answered)]);
    assert_eq!(rig.exit(worker(1, 1)), [], "nothing is begun there any more");
    assert_eq!(rig.states(), [WorkerState::Busy, WorkerState::Spare]);
    assert_eq!(rig.reload(&[more]), [Effect::Reloaded, fork(1, worker(1, 3))], "its lives are numbered on");
}

#[test]
fn who_has_requests_to_come_is_there_when_the_supervisor_stops() {
    let mut rig = Rig::busy(REQUEST);
    assert_eq!(rig.replaced(REQUEST, 2).len(), 2);
    assert_eq!(rig.feed(Event::ShutdownRequested), [], "what the old one runs may still come here");
    let effects = rig.exit(worker(0, 1));
    assert!(effects.contains(&dispatch(next(0, 1), 1, 2)), "{effects:?}");
    let effects = rig.feed(Event::Answered(next(0, 1)));
    assert_eq!(effects[..2], [finish(1, Outcome::Answered), Effect::KillTemplate(new_template(2))]);
}
