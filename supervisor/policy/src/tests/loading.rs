//! Models that are loaded when they are asked for, and models that are let go when they are not.
use super::*;

const LAZY: PoolLimits = PoolLimits { load: Load::Lazy, ..WORKER };
const GOES: PoolLimits = PoolLimits { idle_unload: Some(seconds(300)), ..WORKER };

/// A policy that does nothing, because its model is lazy.
fn lazy(pool: PoolLimits) -> Rig {
    let mut rig = Rig::of(Policy::new(Limits::default(), vec![pool], 1));
    assert_eq!(rig.effects(), []);
    assert_eq!((rig.view().state, rig.policy.next_deadline()), (TemplateState::Cold, None));
    assert_eq!(rig.states(), [], "there are no workers to wait for");
    rig
}

/// Lets the model go that nobody has asked for.
fn let_go(rig: &mut Rig) {
    assert_eq!(
        rig.wait_for_deadline(seconds(300)),
        [Effect::Terminate(worker(0, 1)), Effect::KillTemplate(template(1))]
    );
    assert_eq!(rig.view().state, TemplateState::Cold);
}

#[test]
fn a_lazy_model_is_loaded_once_however_many_ask_for_it() {
    let mut rig = lazy(PoolLimits { queue: 3, ..LAZY });
    assert_eq!(rig.submit(1), [Effect::Load(template(1))]);
    assert_eq!((rig.submit(2), rig.submit(3)), (vec![], vec![]));
    assert_eq!(rig.view().state, TemplateState::Loading);
    assert_eq!(rig.submit(4), [finish(4, Outcome::QueueFull)]);
    assert_eq!(rig.feed(ready(1)), [fork(1, worker(0, 1))]);
    assert_eq!(rig.start(worker(0, 1)), [dispatch(worker(0, 1), 1, 1)]);
}

#[test]
fn a_lazy_model_without_a_queue_is_loaded_for_whoever_asks_again() {
    let mut rig = lazy(PoolLimits { queue: 0, ..LAZY });
    assert_eq!(rig.submit(1), [Effect::Load(template(1)), finish(1, Outcome::QueueFull)]);
    assert_eq!(rig.feed(ready(1)), [fork(1, worker(0, 1))]);
    assert_eq!(rig.start(worker(0, 1)), []);
    assert_eq!(rig.submit(2), [dispatch(worker(0, 1), 2, 1)]);
}

#[test]
fn a_lazy_model_that_is_loaded_stays() {
    let mut rig = lazy(LAZY);
    assert_eq!(rig.submit(1).len(), 1);
    assert_eq!(rig.feed(Event::Withdrawn(RequestId(1))), [finish(1, Outcome::Cancelled)]);
    assert_eq!(rig.feed(ready(1)), [fork(1, worker(0, 1))], "it is almost there");
    assert_eq!(rig.start(worker(0, 1)), []);
    assert_eq!(rig.policy.next_deadline(), None);
    assert_eq!(
        rig.feed(Event::TemplateExited(template(1))),
        [Effect::Load(template(2))],
        "and comes back like any other"
    );
}

#[test]
fn loading_costs_no_time_in_the_queue() {
    let mut rig = lazy(LAZY);
    assert_eq!(rig.submit(1).len(), 1);
    rig.quiet(seconds(400));
    assert_eq!(rig.submit(2), []);
    rig.quiet(seconds(100));
    assert_eq!(rig.feed(ready(1)).len(), 1);
    rig.quiet(seconds(5));
    assert_eq!(rig.start(worker(0, 1)), [dispatch(worker(0, 1), 1, 1)]);
    for _ in 0..2 {
        rig.quiet(seconds(25));
        assert_eq!(rig.feed(Event::Streamed(worker(0, 1))), []);
    }
    assert_eq!(rig.wait_for_deadline(seconds(5)), [finish(2, Outcome::QueueTimeout)], "a minute after the load");
}

#[test]
fn a_load_that_takes_too_long_lets_the_clock_run_again() {
    let mut rig = lazy(LAZY);
    assert_eq!(rig.submit(1).len(), 1);
    assert_eq!(rig.wait_for_deadline(seconds(600)), [Effect::KillTemplate(template(1))]);
    assert_eq!(rig.wait_for_deadline(seconds(60)), [finish(1, Outcome::QueueTimeout)]);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Load(template(2))], "it is still to come");
}

#[test]
fn a_reload_beside_workers_is_no_reason_to_wait_longer() {
    let mut rig = Rig::busy(WORKER);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Load(template(2))]);
    assert_eq!(rig.submit(2), []);
    rig.quiet(seconds(20));
    assert_eq!(rig.feed(Event::Streamed(worker(0, 1))), []);
    rig.quiet(seconds(20));
    assert_eq!(rig.feed(Event::Streamed(worker(0, 1))), []);
    assert_eq!(rig.wait_for_deadline(seconds(20)), [finish(2, Outcome::QueueTimeout)]);
}

#[test]
fn a_lazy_model_that_cannot_be_loaded_is_tried_again_when_it_is_asked_for_later() {
    let mut rig = lazy(LAZY);
    assert_eq!(rig.submit(1).len(), 1);
    let until = Time(seconds(1));
    assert_eq!(rig.feed(Event::LoadFailed(template(1))), [finish(1, Outcome::Unavailable { until })]);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), []);
    assert_eq!(rig.submit(2), [finish(2, Outcome::Unavailable { until })], "not yet");
    assert_eq!(rig.policy.next_deadline(), None, "nor without being asked");
    rig.quiet(seconds(100));
    assert_eq!(rig.submit(3), [Effect::Load(template(2))]);
    let until = Time(seconds(102));
    assert_eq!(rig.feed(Event::LoadFailed(template(2))), [finish(3, Outcome::Unavailable { until })], "twice as long");
}

#[test]
fn a_poisonous_request_and_a_late_one_load_nothing() {
    let mut rig = lazy(PoolLimits { max_attempts: 1, idle_unload: Some(seconds(300)), ..LAZY });
    assert_eq!(rig.submit(1).len(), 1);
    assert_eq!(rig.feed(ready(1)).len(), 1);
    assert_eq!(rig.start(worker(0, 1)).len(), 1);
    assert_eq!(rig.exit(worker(0, 1))[0], finish(1, Outcome::WorkersDied { attempts: 1 }));
    assert_eq!(rig.start(worker(0, 2)), []);
    assert_eq!(rig.wait_for_deadline(seconds(300)).len(), 2);
    assert_eq!(rig.exit(worker(0, 2)), []);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), []);
    let until = Time(seconds(600));
    assert_eq!(rig.submit_like(2, 1), [finish(2, Outcome::Poisonous { until })]);
    assert_eq!(rig.feed(Event::ShutdownRequested), [Effect::Halt]);
    assert_eq!(rig.submit(3), [finish(3, Outcome::ShuttingDown)]);
}

#[test]
fn a_request_that_comes_while_the_supervisor_stops_loads_nothing() {
    let mut rig = Rig::busy(WORKER);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Load(template(2))]);
    assert_eq!(rig.feed(Event::LoadFailed(template(2))), []);
    assert_eq!(rig.feed(Event::TemplateExited(template(2))), []);
    assert_eq!(rig.feed(Event::ShutdownRequested), []);
    rig.quiet(seconds(20));
    assert_eq!(rig.submit(2), [finish(2, Outcome::ShuttingDown)]);
    assert_eq!(rig.feed(Event::Answered(worker(0, 1)))[0], finish(1, Outcome::Answered));
}

#[test]
fn a_model_that_nobody_asks_for_is_let_go_and_comes_back() {
    let mut rig = Rig::idle(GOES);
    let_go(&mut rig);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [], "also an eager one waits to be asked for");
    assert_eq!(rig.exit(worker(0, 1)), []);
    assert_eq!((rig.states(), rig.policy.next_deadline()), (vec![], None));
    assert_eq!(rig.submit(1), [Effect::Load(template(2))]);
    assert_eq!(rig.feed(ready(2)), [fork(2, worker(0, 2))]);
    assert_eq!(rig.start(worker(0, 2)), [dispatch(worker(0, 2), 1, 1)]);
}

#[test]
fn a_request_starts_the_time_again() {
    let mut rig = Rig::idle(GOES);
    rig.quiet(seconds(299));
    assert_eq!(rig.submit(1).len(), 1);
    assert_eq!(rig.policy.next_deadline(), Some(Time(seconds(329))), "what runs is needed");
    rig.quiet(seconds(20));
    assert_eq!(rig.feed(Event::Answered(worker(0, 1))).len(), 1);
    let_go(&mut rig);
}

#[test]
fn a_request_that_comes_while_the_model_goes_waits_for_the_next() {
    let mut rig = Rig::idle(GOES);
    let_go(&mut rig);
    assert_eq!(rig.submit(1), [], "its process is still there");
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Load(template(2))]);
    assert_eq!(rig.feed(ready(2)), [], "so is the worker");
    assert_eq!(rig.exit(worker(0, 1)), [fork(2, worker(0, 2))]);
}

#[test]
fn a_worker_that_was_to_stop_for_somebody_who_left_does_not_stay() {
    let mut rig = Rig::busy(PoolLimits { idle_unload: Some(milliseconds(10)), ..WORKER });
    assert_eq!(rig.feed(Event::Withdrawn(RequestId(1))).len(), 2);
    assert_eq!(rig.wait_for_deadline(milliseconds(10)), [Effect::KillTemplate(template(1))]);
    assert_eq!(rig.feed(Event::Answered(worker(0, 1))), [Effect::Terminate(worker(0, 1))]);
}

#[test]
fn a_model_that_goes_while_the_supervisor_stops_is_waited_for() {
    let mut rig = Rig::idle(GOES);
    let_go(&mut rig);
    assert_eq!(rig.feed(Event::ShutdownRequested), []);
    assert_eq!(rig.exit(worker(0, 1)), []);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Halt]);

    let mut rig = lazy(LAZY);
    assert_eq!(rig.feed(Event::ShutdownRequested), [Effect::Halt]);
}
