//! Requests of many parts: who computes what, in which order, and what the end of one part means to
//! the others.
use super::*;

const TWO: PoolLimits = PoolLimits { workers: 2, ..WORKER };

fn answered(rig: &mut Rig, slot: u32, generation: u64) -> Vec<Effect> {
    rig.feed(Event::Answered(worker(slot, generation)))
}

fn stop(slot: u32, request: u64) -> Effect {
    Effect::StopRequest { worker: worker(slot, 1), request: RequestId(request) }
}

#[test]
fn a_batch_runs_on_all_idle_workers_and_ends_with_its_last_part() {
    let mut rig = Rig::idle(TWO);
    let begun = [dispatch_part(worker(0, 1), 1, 0, 1), dispatch_part(worker(1, 1), 1, 1, 1)];
    assert_eq!(rig.submit_batch(1, 3), begun);
    assert_eq!(rig.view().queued, 0, "it does not wait, although more of it is to come");
    assert_eq!(answered(&mut rig, 1, 1), [dispatch_part(worker(1, 1), 1, 2, 1)]);
    assert_eq!(answered(&mut rig, 1, 1), [], "the first part is not done");
    assert_eq!(answered(&mut rig, 0, 1), [finish(1, Outcome::Answered)]);
    assert_eq!(rig.policy.next_deadline(), None);
}

#[test]
fn a_batch_of_no_parts_has_one() {
    let mut rig = Rig::idle(TWO);
    assert_eq!(rig.submit_batch(1, 0), [dispatch(worker(0, 1), 1, 1)]);
    assert_eq!(answered(&mut rig, 0, 1), [finish(1, Outcome::Answered)]);
}

#[test]
fn parts_are_begun_only_so_far_ahead_of_the_first_that_is_not_done() {
    let mut rig = Rig::idle(TWO);
    assert_eq!(rig.submit_batch(1, 9).len(), 2);
    assert_eq!(answered(&mut rig, 1, 1), [dispatch_part(worker(1, 1), 1, 2, 1)]);
    assert_eq!(answered(&mut rig, 1, 1), [dispatch_part(worker(1, 1), 1, 3, 1)]);
    assert_eq!(answered(&mut rig, 1, 1), [], "four parts, twice the number of workers, wait for the first");
    assert_eq!(rig.submit(2), [dispatch(worker(1, 1), 2, 1)], "others may use the worker");
    let both = [dispatch_part(worker(0, 1), 1, 4, 1)];
    assert_eq!(answered(&mut rig, 0, 1), both);
    assert_eq!(answered(&mut rig, 1, 1), [finish(2, Outcome::Answered), dispatch_part(worker(1, 1), 1, 5, 1)]);
}

#[test]
fn a_large_batch_takes_turns_with_what_came_later() {
    let mut rig = Rig::idle(PoolLimits { workers: 1, queue: 8, ..WORKER });
    assert_eq!(rig.submit_batch(1, 100).len(), 1);
    assert_eq!((rig.submit(2), rig.submit_batch(3, 2), rig.submit(4)), (vec![], vec![], vec![]));
    let mut order = Vec::new();
    for _ in 0..8 {
        for effect in answered(&mut rig, 0, 1) {
            if let Effect::Dispatch { part, .. } = effect {
                order.push((part.request.0, part.number));
            }
        }
    }
    assert_eq!(order, [(1, 1), (2, 0), (3, 0), (4, 0), (1, 2), (3, 1), (1, 3), (1, 4)]);
}

#[test]
fn turns_are_taken_in_the_order_in_which_requests_came_whatever_their_numbers() {
    let mut rig = Rig::idle(WORKER);
    assert_eq!(rig.submit_batch(9, 3).len(), 1);
    assert_eq!(rig.submit(2), []);
    assert_eq!(answered(&mut rig, 0, 1), [dispatch_part(worker(0, 1), 9, 1, 1)]);
    assert_eq!(answered(&mut rig, 0, 1), [dispatch(worker(0, 1), 2, 1)]);
}

#[test]
fn a_batch_between_two_of_its_parts_fills_the_queue() {
    let mut rig = Rig::idle(PoolLimits { queue: 1, ..WORKER });
    assert_eq!(rig.submit_batch(1, 5).len(), 1);
    assert_eq!(rig.feed(Event::Blocked { request: RequestId(1), is_blocked: true }), []);
    assert_eq!(answered(&mut rig, 0, 1), []);
    assert_eq!(rig.submit(2), [dispatch(worker(0, 1), 2, 1)], "the worker is free");
    assert_eq!(rig.submit(3), [finish(3, Outcome::QueueFull)]);
}

#[test]
fn a_batch_waits_in_the_queue_as_one() {
    let mut rig = Rig::busy(PoolLimits { queue: 1, ..WORKER });
    assert_eq!(rig.submit_batch(2, 50), []);
    assert_eq!(rig.view().queued, 1);
    assert_eq!(rig.submit(3), [finish(3, Outcome::QueueFull)]);
    assert_eq!(answered(&mut rig, 0, 1)[1], dispatch_part(worker(0, 1), 2, 0, 1));
    assert_eq!(rig.submit(3), [], "what was begun does not wait");
    assert_eq!(rig.view().queued, 1);
}

#[test]
fn a_part_whose_worker_died_is_tried_again_alone_and_goes_first() {
    let mut rig = Rig::idle(TWO);
    assert_eq!(rig.submit_batch(1, 3).len(), 2);
    assert_eq!(rig.submit(2), []);
    assert_eq!(rig.exit(worker(0, 1)), [fork(1, worker(0, 2))]);
    assert_eq!(answered(&mut rig, 1, 1), [dispatch_part(worker(1, 1), 1, 0, 2)]);
    assert_eq!(rig.exit(worker(1, 1)), [fork(1, worker(1, 2))]);
    assert_eq!(rig.start(worker(0, 2)), [dispatch_part(worker(0, 2), 1, 0, 3)]);
    assert_eq!(rig.start(worker(1, 2)), [dispatch_part(worker(1, 2), 1, 2, 1)], "each part has attempts of its own");
}

#[test]
fn the_last_death_under_a_part_ends_the_batch_and_stops_its_other_parts() {
    let mut rig = Rig::idle(PoolLimits { max_attempts: 1, ..TWO });
    assert_eq!(rig.submit_batch(1, 3).len(), 2);
    let end = [stop(1, 1), finish(1, Outcome::WorkersDied { attempts: 1 }), fork(1, worker(0, 2))];
    assert_eq!(rig.exit(worker(0, 1)), end);
    assert_eq!(answered(&mut rig, 1, 1), []);
    let again = rig.submit_batch(1, 3);
    assert_eq!(again, [finish(1, Outcome::Poisonous { until: Time(seconds(600)) })]);
}

#[test]
fn a_part_that_is_rejected_ends_the_batch_and_stops_its_other_parts() {
    let mut rig = Rig::idle(TWO);
    assert_eq!(rig.submit_batch(1, 9).len(), 2);
    assert_eq!(rig.feed(Event::Rejected(worker(1, 1))), [stop(0, 1), finish(1, Outcome::Rejected)]);
    assert_eq!(rig.submit(2), [dispatch(worker(1, 1), 2, 1)]);

    let mut rig = Rig::idle(PoolLimits { isolation: Isolation::Request, ..TWO });
    assert_eq!(rig.submit_batch(1, 9).len(), 4);
    let end = [kill(worker(0, 1), KillReason::Cancelled), finish(1, Outcome::Rejected)];
    assert_eq!(rig.feed(Event::Rejected(worker(1, 1))), end);
}

#[test]
fn a_batch_that_is_cancelled_or_overdue_stops_everywhere() {
    let mut rig = Rig::idle(TWO);
    assert_eq!(rig.submit_batch(1, 9).len(), 2);
    assert_eq!(rig.feed(Event::Withdrawn(RequestId(1))), [stop(0, 1), stop(1, 1), finish(1, Outcome::Cancelled)]);

    let mut rig = Rig::idle(PoolLimits { request_timeout: seconds(5), ..TWO });
    assert_eq!(rig.submit_batch(1, 9).len(), 2);
    let kills = [0, 1].map(|slot| kill(worker(slot, 1), KillReason::RequestTimeout));
    let effects = rig.wait_for_deadline(seconds(5));
    assert_eq!((&effects[..2], &effects[2..]), (&kills[..], &[finish(1, Outcome::RequestTimeout)][..]));
}

#[test]
fn nothing_more_is_begun_for_a_client_that_takes_nothing() {
    let mut rig = Rig::idle(TWO);
    let blocked = |is_blocked| Event::Blocked { request: RequestId(1), is_blocked };
    assert_eq!(rig.submit_batch(1, 5).len(), 2);
    assert_eq!(rig.feed(blocked(true)), []);
    assert_eq!((answered(&mut rig, 0, 1), answered(&mut rig, 1, 1)), (vec![], vec![]));
    assert_eq!(rig.view().queued, 1, "it waits for its client");
    assert_eq!(rig.policy.next_deadline(), Some(Time(seconds(600))), "but not for longer than it may run");
    assert_eq!(rig.feed(blocked(false)).len(), 2);
    assert_eq!(rig.feed(blocked(true)), []);
    assert_eq!(rig.exit(worker(0, 1)), [fork(1, worker(0, 2))]);
    assert_eq!(rig.start(worker(0, 2)), [dispatch_part(worker(0, 2), 1, 2, 2)], "what was begun is finished");
}

#[test]
fn a_part_is_computed_on_one_thread() {
    let mut rig = Rig::warm(Limits { cores: 4, ..Limits::default() }, TWO);
    assert_eq!((rig.start(worker(0, 1)), rig.start(worker(1, 1))), (vec![], vec![]));
    assert_eq!(rig.submit_batch(1, 1), [dispatch(worker(0, 1), 1, 1)]);
    let rest = Effect::SetBudget { worker: worker(1, 1), threads: 3 };
    assert_eq!(rig.submit(2), [dispatch(worker(1, 1), 2, 1), rest], "who can use more gets all others");
}

#[test]
fn a_batch_of_a_model_that_is_given_up_ends_when_its_last_worker_has() {
    let limits = Limits { crash_loop: 1, ..Limits::default() };
    let mut rig = Rig::warm(limits, TWO);
    assert_eq!((rig.start(worker(0, 1)), rig.start(worker(1, 1))), (vec![], vec![]));
    assert_eq!(rig.submit_batch(1, 5).len(), 2);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [], "parked, but its workers compute");
    assert_eq!(answered(&mut rig, 0, 1), [Effect::Terminate(worker(0, 1))]);
    let until = Time(seconds(30));
    assert_eq!(answered(&mut rig, 1, 1), [Effect::Terminate(worker(1, 1)), finish(1, Outcome::Unavailable { until })]);
}

#[test]
fn stopping_at_once_ends_a_batch_that_waits_for_its_client() {
    let mut rig = Rig::idle(TWO);
    assert_eq!(rig.submit_batch(1, 5).len(), 2);
    assert_eq!(rig.feed(Event::Blocked { request: RequestId(1), is_blocked: true }), []);
    assert_eq!((answered(&mut rig, 0, 1), answered(&mut rig, 1, 1)), (vec![], vec![]));
    assert_eq!(rig.feed(Event::ShutdownRequested), [], "it may still end well");
    assert_eq!(rig.feed(Event::ShutdownRequested)[0], finish(1, Outcome::ShuttingDown));
}
