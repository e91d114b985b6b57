//! Loading, crashing, being stuck, and giving up for a while.
use super::*;

fn crash_loop() -> Limits {
    Limits { crash_loop: 3, ..Limits::default() }
}

#[test]
fn a_template_must_load_in_time() {
    let mut rig = Rig::cold(Limits::default(), REQUEST);
    assert_eq!(rig.wait_for_deadline(seconds(600)), [Effect::KillTemplate(template(1))]);
    assert_eq!(rig.policy.next_deadline(), None);
    assert_eq!(rig.feed(ready(1)), [], "too late");
    assert_eq!(
        rig.feed(Event::TemplateExited(template(1))),
        [Effect::Load(template(2))],
        "the first is tried again at once"
    );
}

#[test]
fn a_model_that_cannot_be_loaded_is_tried_again_later_and_later() {
    let mut rig = Rig::cold(Limits::default(), REQUEST);
    assert_eq!(rig.submit(1), []);
    let mut generation = 1;
    for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
        let until = rig.now.after(seconds(wait));
        let unavailable = |request| finish(request, Outcome::Unavailable { until });
        let ended = rig.feed(Event::LoadFailed(template(generation)));
        assert_eq!(ended, if generation == 1 { vec![unavailable(1)] } else { vec![] });
        assert_eq!(rig.view().state, TemplateState::Failed { retry_at: until });
        assert_eq!(rig.feed(Event::TemplateExited(template(generation))), []);
        assert_eq!(rig.submit(generation + 1), [unavailable(generation + 1)]);
        generation += 1;
        assert_eq!(rig.wait_for_deadline(seconds(wait)), [Effect::Load(template(generation))]);
    }
    assert_eq!(rig.submit(100), [], "it is being tried");
    assert_eq!(rig.feed(ready(generation)).len(), 1);
    assert_eq!(rig.feed(Event::TemplateExited(template(generation))), [Effect::Load(template(generation + 1))]);
    let until = rig.now.after(seconds(1));
    let effects = [finish(100, Outcome::Unavailable { until })];
    assert_eq!(rig.feed(Event::LoadFailed(template(generation + 1))), effects, "success made the wait short again");
}

#[test]
fn a_template_that_could_not_load_must_exit() {
    let mut rig = Rig::cold(Limits::default(), REQUEST);
    assert_eq!(rig.feed(Event::LoadFailed(template(1))), []);
    rig.quiet(seconds(1));
    assert_eq!(rig.wait_for_deadline(seconds(1)), [Effect::KillTemplate(template(1))]);
    assert_eq!(rig.policy.next_deadline(), None);
    assert_eq!(rig.submit(1), [finish(1, Outcome::Unavailable { until: rig.now })], "the retry is late");
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Load(template(2))]);
}

#[test]
fn a_request_that_comes_when_the_retry_is_due_waits_for_it() {
    let mut rig = Rig::cold(Limits::default(), REQUEST);
    assert_eq!(rig.feed(Event::LoadFailed(template(1))), []);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), []);
    rig.now = rig.now.after(seconds(1));
    assert_eq!(rig.submit(1), [Effect::Load(template(2))]);
    assert_eq!(rig.view().queued, 1);
}

#[test]
fn workers_outlive_their_template_and_new_ones_come_from_the_next() {
    let mut rig = Rig::idle(PoolLimits { workers: 2, ..REQUEST });
    assert_eq!(rig.submit(1), [dispatch(worker(0, 1), 1, 1), fork(1, worker(0, 2))]);
    assert_eq!(rig.feed(Event::Forked(worker(0, 2))), []);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Load(template(2))]);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), []);
    assert_eq!(rig.states(), [WorkerState::Busy, WorkerState::Starting, WorkerState::Idle]);
    assert_eq!(rig.submit(2), [dispatch(worker(1, 1), 2, 1)], "no spare without a template");
    assert_eq!(rig.feed(Event::Ready(worker(0, 2))), []);
    assert_eq!(rig.exit(worker(1, 1)), []);
    assert_eq!(rig.exit(worker(0, 1)), [dispatch(worker(0, 2), 1, 2)], "the last to be replayed goes first");
    assert_eq!(rig.view().queued, 1);
    assert_eq!(rig.feed(ready(2)), [fork(2, worker(0, 3)), fork(2, worker(1, 2))]);
}

#[test]
fn workers_that_were_not_forked_end_with_their_template_and_cost_nothing() {
    let mut rig = Rig::warm(Limits::default(), PoolLimits { workers: 2, ..REQUEST });
    assert_eq!(rig.feed(Event::Forked(worker(1, 1))), []);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Load(template(2))]);
    assert_eq!(rig.states(), [WorkerState::Waiting { until: Time::default() }, WorkerState::Starting]);
    assert_eq!(rig.feed(Event::Forked(worker(0, 1))), [], "it never was");
    assert_eq!(rig.feed(ready(2)), [fork(2, worker(0, 2))]);
    assert_eq!(rig.exit(worker(0, 2)), [fork(2, worker(0, 3))], "the first early death in a row");
}

#[test]
fn a_spare_that_was_not_forked_ends_with_the_template() {
    let mut rig = Rig::idle(REQUEST);
    assert_eq!(rig.submit(1).len(), 2);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Load(template(2))]);
    assert_eq!(rig.states(), [WorkerState::Busy]);
    assert_eq!(rig.feed(ready(2)), [fork(2, worker(0, 3))]);
}

#[test]
fn a_template_that_does_not_fork_is_stuck() {
    let mut rig = Rig::warm(Limits::default(), PoolLimits { workers: 3, ..REQUEST });
    assert_eq!(rig.feed(Event::Forked(worker(0, 1))), []);
    let effects = [kill(worker(0, 1), KillReason::StartTimeout), Effect::KillTemplate(template(1))];
    assert_eq!(rig.wait_for_deadline(seconds(10)), effects);
    assert_eq!(rig.view().state, TemplateState::Waiting { until: rig.now });
    assert_eq!(rig.policy.next_deadline(), None, "all depends on exits");
    assert_eq!(rig.exit(worker(0, 1)), [], "no fork from a stuck template");
    assert_eq!(rig.feed(Event::Forked(worker(1, 1))), [], "in the nick of time");
    assert_eq!(rig.wait(seconds(0)), [kill(worker(1, 1), KillReason::StartTimeout)], "or not");
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Load(template(2))]);
    let forks = rig.feed(ready(2));
    assert_eq!(forks, [fork(2, worker(0, 2)), fork(2, worker(2, 2))]);
}

#[test]
fn a_template_that_crashes_is_loaded_again_with_a_back_off_and_parked_in_the_end() {
    let mut rig = Rig::cold(Limits::default(), REQUEST);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Load(template(2))]);
    let mut longest = milliseconds(100);
    for generation in 2..8 {
        if generation % 2 == 0 {
            assert_eq!(rig.feed(ready(generation)).len(), 1, "being warm is not yet a success");
        }
        assert_eq!(rig.feed(Event::TemplateExited(template(generation))), []);
        let wait = rig.policy.next_deadline().expect("a back-off").since(rig.now);
        assert!(longest / 2 <= wait && wait <= longest, "{generation}: {wait:?}");
        assert_eq!(rig.view().state, TemplateState::Waiting { until: rig.now.after(wait) });
        assert_eq!(rig.wait_for_deadline(wait), [Effect::Load(template(generation + 1))]);
        longest *= 2;
    }
    assert_eq!(rig.submit(1), []);
    let until = rig.now.after(seconds(30));
    assert_eq!(rig.feed(Event::TemplateExited(template(8))), [finish(1, Outcome::Unavailable { until })]);
    assert_eq!(rig.view().state, TemplateState::Parked { retry_at: until });
    assert_eq!(rig.submit(2), [finish(2, Outcome::Unavailable { until })]);
    assert_eq!(rig.wait_for_deadline(seconds(30)), [Effect::Load(template(9))]);
    assert_eq!(rig.feed(Event::TemplateExited(template(9))), [], "one more is too many");
    assert!(matches!(rig.view().state, TemplateState::Parked { .. }));
}

#[test]
fn a_ready_worker_proves_its_template() {
    let mut rig = Rig::warm(Limits::default(), REQUEST);
    for generation in 1..20 {
        assert_eq!(rig.start(worker(0, generation)), []);
        let next = template(generation + 1);
        assert_eq!(rig.feed(Event::TemplateExited(template(generation))), [Effect::Load(next)], "at once");
        assert_eq!(rig.exit(worker(0, generation)), []);
        assert_eq!(rig.feed(ready_with(next, WEIGHTS)), [fork(generation + 1, worker(0, generation + 1))]);
    }
}

#[test]
fn workers_in_a_crash_loop_park_the_pool_and_busy_ones_finish() {
    let mut rig = Rig::warm(crash_loop(), PoolLimits { workers: 4, ..REQUEST });
    for slot in 0..3 {
        assert_eq!(rig.start(worker(slot, 1)), []);
    }
    assert_eq!(rig.submit(1), [dispatch(worker(0, 1), 1, 1), fork(1, worker(0, 2))]);
    assert_eq!(rig.submit(2), [dispatch(worker(1, 1), 2, 1), fork(1, worker(1, 2))]);
    for early in [worker(3, 1), worker(0, 2)] {
        rig.exit(early);
    }
    let until = rig.now.after(seconds(30));
    let parked = rig.exit(worker(1, 2));
    let ended = [worker(2, 1), worker(3, 2)].map(Effect::Terminate);
    assert_eq!(parked[0], Effect::KillTemplate(template(1)));
    assert_eq!(parked[1..], ended);
    assert_eq!(rig.view().state, TemplateState::Parked { retry_at: until });
    assert_eq!(rig.submit(3), [finish(3, Outcome::Unavailable { until })]);
    assert_eq!(rig.feed(Event::Answered(worker(0, 1))), [finish(1, Outcome::Answered)]);
    assert_eq!(rig.exit(worker(0, 1)), []);
    assert_eq!(rig.exit(worker(1, 1)), [finish(2, Outcome::Unavailable { until })], "nobody is left to replay it");
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [], "it was killed by choice");
    assert_eq!(rig.wait_for_deadline(seconds(2)), [kill(worker(2, 1), KillReason::Lingered)]);
    assert_eq!(rig.exit(worker(2, 1)), []);
    assert_eq!(rig.wait_for_deadline(seconds(28)), [Effect::Load(template(2))]);
}

#[test]
fn a_worker_of_many_requests_that_falls_idle_in_a_parked_pool_is_ended() {
    let mut rig = Rig::warm(crash_loop(), PoolLimits { workers: 2, ..WORKER });
    assert_eq!(rig.start(worker(0, 1)), []);
    assert_eq!(rig.submit(1), [dispatch(worker(0, 1), 1, 1)]);
    assert_eq!(rig.exit(worker(1, 1)), [fork(1, worker(1, 2))]);
    assert_eq!(rig.exit(worker(1, 2)), []);
    rig.wait(milliseconds(100));
    assert_eq!(rig.exit(worker(1, 3)), [Effect::KillTemplate(template(1))]);
    let effects = [finish(1, Outcome::Answered), Effect::Terminate(worker(0, 1))];
    assert_eq!(rig.feed(Event::Answered(worker(0, 1))), effects);
}

#[test]
fn a_parked_pool_is_tried_with_one_more_life() {
    let mut rig = Rig::warm(crash_loop(), REQUEST);
    assert_eq!(rig.exit(worker(0, 1)), [fork(1, worker(0, 2))]);
    assert_eq!(rig.exit(worker(0, 2)), []);
    assert_eq!(rig.wait(milliseconds(100)), [fork(1, worker(0, 3))]);
    assert_eq!(rig.exit(worker(0, 3)), [Effect::KillTemplate(template(1))]);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), []);
    assert_eq!(rig.wait_for_deadline(seconds(30)), [Effect::Load(template(2))]);
    assert_eq!(rig.feed(ready(2)), [fork(2, worker(0, 4))]);
    assert_eq!(rig.exit(worker(0, 4)), [Effect::KillTemplate(template(2))], "one early death parks again");
    assert_eq!(rig.feed(Event::TemplateExited(template(2))), []);
    assert_eq!(rig.wait_for_deadline(seconds(30)), [Effect::Load(template(3))]);
    assert_eq!(rig.feed(ready(3)), [fork(3, worker(0, 5))]);
    assert_eq!(rig.start(worker(0, 5)), []);
    assert_eq!(rig.exit(worker(0, 5)), [fork(3, worker(0, 6))]);
    assert_eq!(rig.exit(worker(0, 6)), [fork(3, worker(0, 7))], "readiness has reset the count");
}

#[test]
fn a_late_early_death_does_not_prolong_the_pause() {
    let mut rig = Rig::warm(crash_loop(), PoolLimits { workers: 2, ..REQUEST });
    assert_eq!(rig.feed(Event::Forked(worker(0, 1))), []);
    assert_eq!(rig.feed(Event::Forked(worker(1, 1))), []);
    let late = [worker(0, 1), worker(1, 1)].map(|worker| kill(worker, KillReason::StartTimeout));
    assert_eq!(rig.wait_for_deadline(seconds(10)), late);
    assert_eq!(rig.exit(worker(0, 1)), [fork(1, worker(0, 2))]);
    assert_eq!(rig.exit(worker(0, 2)), []);
    assert_eq!(rig.wait(milliseconds(100)), [fork(1, worker(0, 3))]);
    let until = rig.now.after(seconds(30));
    assert_eq!(rig.exit(worker(0, 3)), [Effect::KillTemplate(template(1))]);
    rig.quiet(seconds(10));
    assert_eq!(rig.exit(worker(1, 1)), []);
    assert_eq!(rig.view().state, TemplateState::Parked { retry_at: until });
}

#[test]
fn an_unforked_worker_of_a_parked_pool_goes_with_its_template() {
    let mut rig = Rig::warm(crash_loop(), PoolLimits { workers: 4, ..REQUEST });
    rig.exit(worker(0, 1));
    rig.exit(worker(1, 1));
    let effects = rig.exit(worker(2, 1));
    let ended = [worker(0, 2), worker(3, 1)].map(Effect::Terminate);
    assert_eq!(effects[0], Effect::KillTemplate(template(1)));
    assert_eq!(effects[1..], ended);
    assert_eq!(rig.feed(Event::ForkFailed(worker(0, 2))), []);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), []);
    assert!(rig.states().iter().all(|state| matches!(state, WorkerState::Waiting { .. })), "{:?}", rig.states());
}

#[test]
fn an_idle_worker_serves_on_although_the_model_cannot_be_loaded_again() {
    let mut rig = Rig::idle(WORKER);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Load(template(2))]);
    assert_eq!(rig.feed(Event::LoadFailed(template(2))), []);
    assert_eq!(rig.submit(1), [dispatch(worker(0, 1), 1, 1)]);
    let until = rig.now.after(seconds(1));
    assert_eq!(rig.submit(2), [finish(2, Outcome::Unavailable { until })]);
    assert_eq!(rig.feed(Event::Answered(worker(0, 1))), [finish(1, Outcome::Answered)]);
    assert_eq!(rig.states(), [WorkerState::Idle]);
}

#[test]
fn a_model_that_cannot_be_loaded_has_no_full_queue() {
    let mut rig = Rig::cold(Limits::default(), PoolLimits { queue: 0, ..REQUEST });
    assert_eq!(rig.submit(1), [finish(1, Outcome::QueueFull)]);
    assert_eq!(rig.feed(Event::LoadFailed(template(1))), []);
    assert_eq!(rig.submit(2), [finish(2, Outcome::Unavailable { until: rig.now.after(seconds(1)) })]);
}

#[test]
fn a_template_generation_is_never_used_twice() {
    let mut rig = Rig::cold(Limits::default(), REQUEST);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Load(template(2))]);
    assert_eq!(rig.feed(ready(1)), [], "of the one before");
    assert_eq!(rig.feed(Event::LoadFailed(template(1))), []);
    assert_eq!((rig.view().template, rig.view().state), (template(2), TemplateState::Loading));
}
