//! Starting, standing by, lingering, and what ends too early.
use super::*;

#[test]
fn nothing_is_forked_before_the_template_is_warm() {
    let mut rig = Rig::cold(Limits::default(), PoolLimits { workers: 2, ..REQUEST });
    assert_eq!(rig.submit(1), []);
    let waiting = WorkerState::Waiting { until: Time::default() };
    assert_eq!(rig.states(), [waiting, waiting]);
    assert_eq!(rig.view().workers[0].id, worker(0, 1));
    let forks = [fork(1, worker(0, 1)), fork(1, worker(1, 1))];
    assert_eq!(rig.feed(ready(1)), forks);
    assert_eq!(rig.states(), [WorkerState::Starting, WorkerState::Starting]);
    assert_eq!(rig.start(worker(1, 1)), [dispatch(worker(1, 1), 1, 1), fork(1, worker(1, 2))]);
}

#[test]
fn a_slot_shows_its_serving_life_and_its_spare() {
    let mut rig = Rig::idle(REQUEST);
    assert_eq!(rig.states(), [WorkerState::Idle]);
    assert_eq!(rig.submit(1).len(), 2);
    assert_eq!(rig.states(), [WorkerState::Busy, WorkerState::Starting]);
    assert_eq!(rig.start(worker(0, 2)), []);
    assert_eq!(rig.states(), [WorkerState::Busy, WorkerState::Spare]);
    let view = rig.view();
    assert_eq!((view.workers[0].request, view.workers[1].request), (Some(RequestId(1)), None));
    assert_eq!(rig.feed(Event::Answered(worker(0, 1))).len(), 1);
    assert_eq!(rig.states(), [WorkerState::Stopping, WorkerState::Spare]);
    assert_eq!(rig.exit(worker(0, 1)), []);
    assert_eq!(rig.states(), [WorkerState::Idle]);
    assert_eq!(rig.view().workers[0].id, worker(0, 2));
}

#[test]
fn a_spare_that_still_starts_takes_over_and_serves_when_it_is_ready() {
    let mut rig = Rig::idle(REQUEST);
    assert_eq!(rig.submit(1).len(), 2);
    assert_eq!(rig.exit(worker(0, 1)), []);
    assert_eq!(rig.states(), [WorkerState::Starting]);
    assert_eq!(rig.start(worker(0, 2)), [dispatch(worker(0, 2), 1, 2), fork(1, worker(0, 3))]);
}

#[test]
fn an_idle_worker_or_a_spare_that_dies_costs_nothing_and_is_replaced_at_once() {
    let mut rig = Rig::idle(REQUEST);
    for generation in 1..20 {
        assert_eq!(rig.exit(worker(0, generation)), [fork(1, worker(0, generation + 1))]);
        assert_eq!(rig.start(worker(0, generation + 1)), []);
    }
    assert_eq!(rig.submit(1).len(), 2);
    for generation in 21..40 {
        assert_eq!(rig.start(worker(0, generation)), []);
        assert_eq!(rig.exit(worker(0, generation)), [fork(1, worker(0, generation + 1))]);
    }
    assert_eq!(rig.feed(Event::Misbehaved(worker(0, 40))), [kill(worker(0, 40), KillReason::Misbehaved)]);
}

#[test]
fn a_misbehaving_idle_worker_is_killed_and_replaced() {
    for (pool, replaced) in [(REQUEST, vec![fork(1, worker(0, 2))]), (WORKER, vec![])] {
        let mut rig = Rig::idle(pool);
        let mut effects = vec![kill(worker(0, 1), KillReason::Misbehaved)];
        effects.extend(&replaced);
        assert_eq!(rig.feed(Event::Misbehaved(worker(0, 1))), effects);
        assert_eq!(rig.submit(1), [], "it gets nothing any more");
        assert_eq!(rig.exit(worker(0, 1)).len() + replaced.len(), 1);
        assert_eq!(rig.start(worker(0, 2))[0], dispatch(worker(0, 2), 1, 1));
    }
}

#[test]
fn a_worker_that_has_answered_must_exit() {
    let mut rig = Rig::busy(REQUEST);
    assert_eq!(rig.feed(Event::Answered(worker(0, 1))), [finish(1, Outcome::Answered)]);
    assert_eq!(rig.feed(Event::Answered(worker(0, 1))), []);
    assert_eq!(rig.feed(Event::Streamed(worker(0, 1))), [], "no progress counts now");
    assert_eq!(rig.wait_for_deadline(seconds(2)), [kill(worker(0, 1), KillReason::Lingered)]);
    assert_eq!(rig.policy.next_deadline(), None);
    assert_eq!(rig.exit(worker(0, 1)), []);
    assert_eq!(rig.states(), [WorkerState::Idle]);
}

#[test]
fn a_worker_that_misbehaves_after_its_answer_is_killed_and_that_is_all() {
    let mut rig = Rig::busy(PoolLimits { max_attempts: 1, ..REQUEST });
    assert_eq!(rig.feed(Event::Answered(worker(0, 1))).len(), 1);
    assert_eq!(rig.feed(Event::Misbehaved(worker(0, 1))), [kill(worker(0, 1), KillReason::Misbehaved)]);
    assert_eq!(rig.exit(worker(0, 1)), []);
    assert_eq!(rig.submit_like(2, 1)[0], dispatch(worker(0, 2), 2, 1));
}

#[test]
fn a_worker_must_be_ready_in_time() {
    let mut rig = Rig::warm(Limits::default(), REQUEST);
    rig.quiet(seconds(4));
    assert_eq!(rig.feed(Event::Forked(worker(0, 1))), []);
    assert_eq!(rig.wait_for_deadline(seconds(6)), [kill(worker(0, 1), KillReason::StartTimeout)]);
    assert_eq!(rig.states(), [WorkerState::Stopping]);
    assert_eq!(rig.feed(Event::Ready(worker(0, 1))), [], "too late");
    assert_eq!(rig.exit(worker(0, 1)), [fork(1, worker(0, 2))]);
}

#[test]
fn early_ends_of_every_kind_lead_to_a_back_off_and_readiness_ends_it() {
    let mut rig = Rig::warm(Limits::default(), REQUEST);
    // The first one is replaced at once.
    assert_eq!(rig.feed(Event::ForkFailed(worker(0, 1))), [fork(1, worker(0, 2))]);
    assert_eq!(rig.feed(Event::Forked(worker(0, 2))), []);
    assert_eq!(rig.feed(Event::ForkFailed(worker(0, 2))), [], "it was forked, so it did not fail");
    assert_eq!(rig.feed(Event::Misbehaved(worker(0, 2))), [kill(worker(0, 2), KillReason::Misbehaved)]);
    assert_eq!(rig.exit(worker(0, 2)), []);
    let back_off = rig.policy.next_deadline().map(|deadline| deadline.since(rig.now)).expect("a deadline");
    assert!(milliseconds(50) <= back_off && back_off <= milliseconds(100), "{back_off:?}");
    let until = Time::default().after(back_off);
    assert_eq!(rig.states(), [WorkerState::Waiting { until }]);
    assert_eq!(rig.view().workers[0].id, worker(0, 3));
    assert_eq!(rig.wait_for_deadline(back_off), [fork(1, worker(0, 3))]);
    assert_eq!(rig.feed(Event::Forked(worker(0, 3))), []);
    assert_eq!(rig.wait_for_deadline(seconds(10)), [kill(worker(0, 3), KillReason::StartTimeout)]);
    assert_eq!(rig.exit(worker(0, 3)), []);
    let back_off = rig.policy.next_deadline().map(|deadline| deadline.since(rig.now)).expect("a deadline");
    assert!(milliseconds(100) <= back_off && back_off <= milliseconds(200), "{back_off:?}");
    assert_eq!(rig.wait_for_deadline(back_off), [fork(1, worker(0, 4))]);
    assert_eq!(rig.start(worker(0, 4)), []);
    assert_eq!(rig.exit(worker(0, 4)), [fork(1, worker(0, 5))], "it was ready");
    assert_eq!(rig.exit(worker(0, 5)), [fork(1, worker(0, 6))], "the first in a row again");
}

#[test]
fn the_back_off_counts_for_the_pool_and_holds_for_the_slot() {
    let mut rig = Rig::warm(Limits::default(), PoolLimits { workers: 2, ..REQUEST });
    assert_eq!(rig.exit(worker(0, 1)), [fork(1, worker(0, 2))]);
    assert_eq!(rig.exit(worker(1, 1)), [], "the second in a row");
    assert_eq!(rig.states()[0], WorkerState::Starting);
    assert!(matches!(rig.states()[1], WorkerState::Waiting { until } if until > rig.now));
}

#[test]
fn a_spare_in_its_back_off_is_not_forked_when_its_slot_falls_free() {
    let mut rig = Rig::idle(REQUEST);
    assert_eq!(rig.submit(1).len(), 2);
    assert_eq!(rig.exit(worker(0, 2)), [fork(1, worker(0, 3))]);
    assert_eq!(rig.exit(worker(0, 3)), []);
    assert_eq!(rig.states(), [WorkerState::Busy]);
    assert_eq!(rig.exit(worker(0, 1)), []);
    let back_off = rig.policy.next_deadline().map(|deadline| deadline.since(rig.now)).expect("a deadline");
    assert_eq!(rig.wait_for_deadline(back_off), [fork(1, worker(0, 4))]);
    assert_eq!(rig.start(worker(0, 4))[0], dispatch(worker(0, 4), 1, 2));
}

#[test]
fn kills_by_choice_do_not_lead_to_a_back_off() {
    let mut rig = Rig::idle(WORKER);
    for generation in 1..20 {
        assert_eq!(rig.submit(generation), [dispatch(worker(0, generation), generation, 1)]);
        assert_eq!(rig.feed(Event::Withdrawn(RequestId(generation))).len(), 2);
        assert_eq!(rig.wait_for_deadline(milliseconds(40)).len(), 1);
        assert_eq!(rig.exit(worker(0, generation)), [fork(1, worker(0, generation + 1))]);
        assert_eq!(rig.start(worker(0, generation + 1)), []);
    }
}

#[test]
fn a_worker_that_there_is_no_room_for_is_tried_again_and_is_nobodys_fault() {
    let mut rig = Rig::warm(Limits::default(), PoolLimits { workers: 2, ..WORKER });
    assert_eq!(rig.start(worker(0, 1)), []);
    for generation in 1..20 {
        assert_eq!(rig.feed(Event::Shortage(worker(1, generation))), []);
        let until = rig.now.after(seconds(1));
        assert_eq!(rig.states(), [WorkerState::Idle, WorkerState::Waiting { until }]);
        assert_eq!(rig.wait_for_deadline(seconds(1)), [fork(1, worker(1, generation + 1))]);
    }
    assert_eq!(rig.feed(Event::Forked(worker(1, 20))), []);
    assert_eq!(rig.feed(Event::Shortage(worker(1, 20))), [], "it is there");
    assert_eq!(rig.feed(Event::Ready(worker(1, 20))), []);
    assert_eq!(rig.states(), [WorkerState::Idle, WorkerState::Idle]);
}

#[test]
fn what_is_told_twice_or_of_another_life_changes_nothing() {
    let mut rig = Rig::busy(REQUEST);
    let before = format!("{:?}", rig.policy);
    for event in [
        Event::Forked(worker(0, 1)),
        Event::Ready(worker(0, 1)),
        Event::ForkFailed(worker(0, 1)),
        Event::Answered(worker(0, 2)),
        Event::Answered(worker(0, 3)),
        Event::Exited(worker(0, 0)),
        Event::Exited(worker(0, 3)),
        Event::Exited(worker(1, 1)),
        Event::Exited(WorkerId { pool: PoolId(7), ..worker(0, 1) }),
        ready(1),
        Event::LoadFailed(template(1)),
        Event::TemplateExited(template(0)),
        Event::TemplateExited(template(2)),
    ] {
        assert_eq!(rig.feed(event.clone()), [], "{event:?}");
        assert_eq!(before, format!("{:?}", rig.policy), "{event:?}");
    }
    assert_eq!(rig.exit(worker(0, 1)).len(), 2);
    assert_eq!(rig.exit(worker(0, 1)), [], "it has ended once");
    assert_eq!(rig.view().workers[0].request, Some(RequestId(1)));
}
