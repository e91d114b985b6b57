//! Draining, restarted workers, and files that change under a model.
use super::*;

const RESTART: Event = Event::Restart { pool: PoolId(0), slot: None };
const RESTART_SLOT: Event = Event::Restart { pool: PoolId(0), slot: Some(0) };

#[test]
fn draining_finishes_what_was_begun_and_refuses_the_rest() {
    let mut rig = Rig::busy(REQUEST);
    assert_eq!(rig.submit(2), []);
    assert_eq!((rig.policy.is_draining(), rig.policy.open_requests()), (false, (1, 1)));
    assert_eq!(rig.feed(Event::Drain(true)), [finish(2, Outcome::Draining)]);
    assert_eq!(rig.submit(3), [finish(3, Outcome::Draining)]);
    assert_eq!((rig.policy.is_draining(), rig.policy.open_requests()), (true, (1, 0)));
    assert_eq!(rig.exit(worker(0, 1)), [dispatch(worker(0, 2), 1, 2), fork(1, worker(0, 3))], "also after a death");
    assert_eq!(rig.feed(Event::Answered(worker(0, 2))), [finish(1, Outcome::Answered)]);
    assert_eq!(rig.start(worker(0, 3)), []);
    assert_eq!(rig.exit(worker(0, 2)), []);
    assert_eq!((rig.states(), rig.policy.open_requests()), (vec![WorkerState::Idle], (0, 0)), "the model stays");
    assert_eq!(rig.feed(Event::Drain(false)), []);
    assert_eq!(rig.submit(4), [dispatch(worker(0, 3), 4, 1), fork(1, worker(0, 4))]);
}

#[test]
fn draining_loads_nothing() {
    let lazy = PoolLimits { load: Load::Lazy, ..REQUEST };
    let mut rig = Rig::of(Policy::new(Limits::default(), vec![lazy], 1));
    assert_eq!(rig.feed(Event::Drain(true)), []);
    assert_eq!(rig.submit(1), [finish(1, Outcome::Draining)]);
}

#[test]
fn parts_of_a_batch_that_was_begun_are_finished_in_a_drain() {
    let mut rig = Rig::idle(WORKER);
    assert_eq!(rig.submit_batch(1, 2).len(), 1);
    assert_eq!(rig.feed(Event::Drain(true)), []);
    assert_eq!(rig.feed(Event::Answered(worker(0, 1))), [dispatch_part(worker(0, 1), 1, 1, 1)]);
}

#[test]
fn an_idle_worker_serves_until_the_one_that_replaces_it_is_ready() {
    for pool in [REQUEST, WORKER] {
        let mut rig = Rig::idle(pool);
        assert_eq!(rig.feed(RESTART), [fork(1, worker(0, 2))]);
        assert_eq!(rig.states(), [WorkerState::Idle, WorkerState::Starting]);
        assert_eq!(rig.start(worker(0, 2)), [Effect::Terminate(worker(0, 1))]);
        assert_eq!(rig.exit(worker(0, 1)), []);
        assert_eq!(rig.states(), [WorkerState::Idle]);
        assert_eq!(rig.submit(1)[0], dispatch(worker(0, 2), 1, 1));
    }
}

#[test]
fn a_busy_worker_finishes_before_it_is_replaced() {
    let mut rig = Rig::busy(WORKER);
    assert_eq!(rig.feed(RESTART), [fork(1, worker(0, 2))]);
    assert_eq!(rig.start(worker(0, 2)), []);
    let effects = [finish(1, Outcome::Answered), Effect::Terminate(worker(0, 1))];
    assert_eq!(rig.feed(Event::Answered(worker(0, 1))), effects);
    assert_eq!(rig.submit(2), []);
    assert_eq!(rig.exit(worker(0, 1)), [dispatch(worker(0, 2), 2, 1)]);

    let mut rig = Rig::busy(REQUEST);
    assert_eq!(rig.feed(RESTART), [Effect::Terminate(worker(0, 2))], "its spare is as old");
    assert_eq!(rig.exit(worker(0, 2)), [fork(1, worker(0, 3))]);
    assert_eq!(rig.start(worker(0, 3)), []);
    assert_eq!(rig.feed(Event::Answered(worker(0, 1))), [finish(1, Outcome::Answered)]);
    assert_eq!(rig.exit(worker(0, 1)), []);
    assert_eq!(rig.states(), [WorkerState::Idle]);
}

#[test]
fn who_has_not_been_ready_is_not_replaced() {
    let mut rig = Rig::warm(Limits::default(), REQUEST);
    assert_eq!(rig.feed(RESTART), []);
    assert_eq!(rig.start(worker(0, 1)), []);
    assert_eq!(rig.states(), [WorkerState::Idle]);
}

#[test]
fn a_slot_is_restarted_at_once_and_that_costs_its_request_nothing() {
    for pool in [REQUEST, WORKER] {
        let mut rig = Rig::busy(PoolLimits { max_attempts: 1, ..pool });
        for life in [1, 2, 3] {
            assert_eq!(rig.feed(RESTART_SLOT), [kill(worker(0, life), KillReason::Restarted)]);
            let mut effects = rig.exit(worker(0, life));
            let spare = if pool == REQUEST { life + 2 } else { life + 1 };
            if effects == [fork(1, worker(0, spare))] {
                effects = rig.start(worker(0, spare));
            }
            assert_eq!(effects[0], dispatch(worker(0, life + 1), 1, 1), "not a second attempt");
            if effects.len() > 1 {
                assert_eq!(rig.start(worker(0, spare)), []);
            }
        }
        assert_eq!(rig.feed(Event::Answered(worker(0, 4))), [finish(1, Outcome::Answered)]);
    }
}

#[test]
fn a_restart_ends_a_back_off_and_replaces_who_serves_nothing() {
    let mut rig = Rig::warm(Limits::default(), REQUEST);
    assert_eq!(rig.exit(worker(0, 1)), [fork(1, worker(0, 2))]);
    assert_eq!(rig.exit(worker(0, 2)), [], "there is a back-off");
    assert_eq!(rig.feed(RESTART_SLOT), [fork(1, worker(0, 3))]);
    assert_eq!(rig.start(worker(0, 3)), []);
    assert_eq!(rig.feed(RESTART_SLOT), [kill(worker(0, 3), KillReason::Restarted), fork(1, worker(0, 4))]);
    assert_eq!(rig.exit(worker(0, 3)), []);
    assert_eq!(rig.feed(RESTART_SLOT), [kill(worker(0, 4), KillReason::Restarted)]);
    assert_eq!(rig.exit(worker(0, 4)), [fork(1, worker(0, 5))], "which is no early death");
    assert_eq!(rig.feed(Event::Restart { pool: PoolId(0), slot: Some(1) }), [], "there is no such slot");
}

/// What the file holds after it has changed.
const OTHERS: Identity = Identity(2);

/// A policy whose template has died and come back with another file, under a request that has sent
/// something if `streamed`.
fn changed(pool: PoolLimits, streamed: bool) -> Rig {
    let mut rig = Rig::busy(pool);
    if streamed {
        assert_eq!(rig.feed(Event::Streamed(worker(0, 1))), []);
    }
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Load(template(2))]);
    rig
}

#[test]
fn an_answer_goes_on_with_an_old_spare_and_with_nothing_new() {
    let mut rig = changed(REQUEST, true);
    assert_eq!(rig.feed(ready_with(template(2), OTHERS)), []);
    assert_eq!(rig.exit(worker(0, 1)), [dispatch(worker(0, 2), 1, 2), fork(2, worker(0, 3))], "they are of one kind");
    assert_eq!(rig.start(worker(0, 3)), []);
    assert_eq!(rig.exit(worker(0, 2)), [finish(1, Outcome::ModelChanged)]);
    assert_eq!(rig.submit(2), [dispatch(worker(0, 3), 2, 1), fork(2, worker(0, 4))]);
}

#[test]
fn an_answer_waits_for_an_old_worker_that_starts_and_for_nobody_who_serves_others() {
    let mut rig = Rig::idle(REQUEST);
    assert_eq!(rig.submit(1), [dispatch(worker(0, 1), 1, 1), fork(1, worker(0, 2))]);
    assert_eq!(rig.feed(Event::Streamed(worker(0, 1))), []);
    assert_eq!(rig.feed(Event::Forked(worker(0, 2))), []);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Load(template(2))]);
    assert_eq!(rig.feed(ready_with(template(2), OTHERS)), []);
    assert_eq!(rig.exit(worker(0, 1)), []);
    assert_eq!(rig.feed(Event::Ready(worker(0, 2)))[0], dispatch(worker(0, 2), 1, 2));

    let mut rig = Rig::idle(PoolLimits { workers: 2, ..REQUEST });
    for slot in [0, 1] {
        assert_eq!(rig.submit(slot.into()).len(), 2);
        assert_eq!(rig.feed(Event::Streamed(worker(slot, 1))), []);
    }
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Load(template(2))]);
    assert_eq!(rig.feed(ready_with(template(2), OTHERS)).len(), 2);
    assert_eq!(rig.exit(worker(1, 1)), [finish(1, Outcome::ModelChanged)]);
}

#[test]
fn an_answer_goes_on_with_the_same_file_that_was_loaded_again() {
    let mut rig = changed(REQUEST, true);
    assert_eq!(rig.feed(ready(2)), []);
    assert_eq!(rig.exit(worker(0, 2)), [fork(2, worker(0, 3))]);
    assert_eq!(rig.start(worker(0, 3)), []);
    assert_eq!(rig.exit(worker(0, 1))[0], dispatch(worker(0, 3), 1, 2));
}

#[test]
fn an_answer_waits_to_see_what_is_loaded_next() {
    let mut rig = changed(WORKER, true);
    assert_eq!(rig.exit(worker(0, 1)), []);
    assert_eq!(rig.feed(ready_with(template(2), OTHERS))[0], finish(1, Outcome::ModelChanged));
    let mut rig = changed(WORKER, true);
    assert_eq!(rig.exit(worker(0, 1)), []);
    assert_eq!(rig.feed(ready(2)), [fork(2, worker(0, 2))]);
    assert_eq!(rig.start(worker(0, 2)), [dispatch(worker(0, 2), 1, 2)]);
}

#[test]
fn what_nothing_was_computed_of_begins_anew_with_the_new_file() {
    let mut rig = changed(WORKER, false);
    assert_eq!(rig.exit(worker(0, 1)), []);
    assert_eq!(rig.feed(ready_with(template(2), OTHERS)), [fork(2, worker(0, 2))]);
    assert_eq!(rig.start(worker(0, 2)), [dispatch(worker(0, 2), 1, 2)]);
}

#[test]
fn workers_of_many_requests_end_with_what_they_do_when_the_file_has_changed() {
    let mut rig = changed(WORKER, true);
    assert_eq!(rig.submit(2), []);
    assert_eq!(rig.feed(ready_with(template(2), OTHERS)), []);
    let effects = [finish(1, Outcome::Answered), Effect::Terminate(worker(0, 1))];
    assert_eq!(rig.feed(Event::Answered(worker(0, 1))), effects, "the next one is not its own");
    assert_eq!(rig.exit(worker(0, 1)), [fork(2, worker(0, 2))]);
    assert_eq!(rig.start(worker(0, 2)), [dispatch(worker(0, 2), 2, 1)]);

    let mut rig = Rig::idle(WORKER);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Load(template(2))]);
    assert_eq!(rig.feed(ready_with(template(2), OTHERS)), [Effect::Terminate(worker(0, 1))], "nor are idle ones");
}

#[test]
fn a_batch_is_computed_with_one_file() {
    let mut rig = Rig::idle(WORKER);
    assert_eq!(rig.submit_batch(1, 3).len(), 1);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Load(template(2))]);
    assert_eq!(rig.feed(ready_with(template(2), OTHERS)), []);
    assert_eq!(
        rig.feed(Event::Answered(worker(0, 1))),
        [dispatch_part(worker(0, 1), 1, 1, 1)],
        "its own worker goes on"
    );
    assert_eq!(rig.exit(worker(0, 1))[0], finish(1, Outcome::ModelChanged));
}

#[test]
fn a_worker_that_is_to_be_replaced_finishes_what_only_it_can() {
    let mut rig = Rig::idle(WORKER);
    assert_eq!(rig.submit_batch(1, 2).len(), 1);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Load(template(2))]);
    assert_eq!(rig.feed(Event::Restart { pool: PoolId(0), slot: None }), []);
    assert_eq!(rig.feed(ready_with(template(2), OTHERS)), [fork(2, worker(0, 2))]);
    assert_eq!(rig.start(worker(0, 2)), []);
    assert_eq!(rig.feed(Event::Answered(worker(0, 1))), [dispatch_part(worker(0, 1), 1, 1, 1)]);
    let effects = [finish(1, Outcome::Answered), Effect::Terminate(worker(0, 1))];
    assert_eq!(rig.feed(Event::Answered(worker(0, 1))), effects);
}

#[test]
fn two_files_never_compute_one_batch_at_once() {
    let mut rig = Rig::idle(PoolLimits { workers: 2, ..WORKER });
    assert_eq!(rig.submit(1), [dispatch(worker(0, 1), 1, 1)]);
    assert_eq!(rig.submit_batch(2, 3), [dispatch_part(worker(1, 1), 2, 0, 1)]);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Load(template(2))]);
    assert_eq!(rig.feed(ready_with(template(2), OTHERS)), []);
    assert_eq!(rig.exit(worker(0, 1)), [fork(2, worker(0, 2))]);
    assert_eq!(
        rig.start(worker(0, 2)),
        [dispatch(worker(0, 2), 1, 2)],
        "the batch has nothing to show yet, but is begun"
    );
    assert_eq!(rig.feed(Event::Answered(worker(0, 2))), [finish(1, Outcome::Answered)]);
    let anew = dispatch_part(worker(0, 2), 2, 0, 2);
    assert_eq!(rig.exit(worker(1, 1))[0], anew, "nothing was computed");
}
