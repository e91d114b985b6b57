//! Admission, the queue, deadlines, cancelling, and what a death costs a request.
use super::*;

#[test]
fn a_request_is_dispatched_answered_and_its_worker_replaced() {
    let mut rig = Rig::idle(PoolLimits { workers: 2, ..REQUEST });
    assert_eq!(rig.submit(1), [dispatch(worker(0, 1), 1, 1), fork(1, worker(0, 2))]);
    assert_eq!(rig.submit(2), [dispatch(worker(1, 1), 2, 1), fork(1, worker(1, 2))]);
    assert_eq!(rig.feed(Event::Streamed(worker(0, 1))), []);
    assert_eq!(rig.feed(Event::Answered(worker(0, 1))), [finish(1, Outcome::Answered)]);
    assert_eq!(rig.start(worker(0, 2)), []);
    assert_eq!(rig.submit(3), [], "the spare is ready, but serves only when its slot is free");
    assert_eq!(rig.feed(Event::Exited(worker(0, 1)))[0], dispatch(worker(0, 2), 3, 1));
}

#[test]
fn a_rejected_request_ends_so_and_its_worker_exits() {
    let mut rig = Rig::busy(REQUEST);
    assert_eq!(rig.feed(Event::Rejected(worker(0, 1))), [finish(1, Outcome::Rejected)]);
    assert_eq!(rig.submit(2), []);
    assert_eq!(rig.exit(worker(0, 1))[0], dispatch(worker(0, 2), 2, 1));
}

#[test]
fn a_worker_of_many_requests_takes_the_next_one_and_has_no_spare() {
    let mut rig = Rig::busy(WORKER);
    assert_eq!(rig.submit(2), []);
    let effects = [finish(1, Outcome::Answered), dispatch(worker(0, 1), 2, 1)];
    assert_eq!(rig.feed(Event::Answered(worker(0, 1))), effects);
    assert_eq!(rig.feed(Event::Rejected(worker(0, 1))), [finish(2, Outcome::Rejected)]);
    assert_eq!(rig.states(), [WorkerState::Idle]);
    assert_eq!(rig.policy.next_deadline(), None);
}

#[test]
fn the_queue_is_first_come_first_served_and_bounded() {
    let mut rig = Rig::busy(WORKER);
    assert_eq!(rig.submit(2), []);
    assert_eq!(rig.submit(3), []);
    assert_eq!(rig.submit(4), [finish(4, Outcome::QueueFull)]);
    assert_eq!(rig.view().queued, 2);
    assert_eq!(rig.feed(Event::Answered(worker(0, 1)))[1], dispatch(worker(0, 1), 2, 1));
    assert_eq!(rig.feed(Event::Answered(worker(0, 1)))[1], dispatch(worker(0, 1), 3, 1));
}

#[test]
fn without_a_queue_an_idle_worker_still_takes_a_request() {
    let mut rig = Rig::idle(PoolLimits { queue: 0, ..WORKER });
    assert_eq!(rig.submit(1), [dispatch(worker(0, 1), 1, 1)]);
    assert_eq!(rig.submit(2), [finish(2, Outcome::QueueFull)]);
}

#[test]
fn a_request_for_no_model_is_refused() {
    let mut rig = Rig::idle(REQUEST);
    let event = Event::Submitted {
        request: RequestId(1),
        pool: PoolId(1),
        fingerprint: 1,
        owner: 0,
        patience: None,
        work: Work::WHOLE,
    };
    assert_eq!(rig.feed(event), [finish(1, Outcome::Unavailable { until: rig.now })]);
}

#[test]
fn a_replayed_request_goes_first_and_does_not_count_against_the_bound() {
    let mut rig = Rig::busy(PoolLimits { queue: 1, ..WORKER });
    assert_eq!(rig.submit(2), []);
    assert_eq!(rig.exit(worker(0, 1)), [fork(1, worker(0, 2))]);
    let view = rig.view();
    assert_eq!((view.queued, view.oldest), (2, Some(Time::default())));
    assert_eq!(rig.submit(3), [finish(3, Outcome::QueueFull)], "one newcomer waits, and no more may");
    assert_eq!(rig.feed(Event::Withdrawn(RequestId(2))), [finish(2, Outcome::Cancelled)]);
    assert_eq!(rig.submit(4), [], "only the replayed one waits");
    assert_eq!(rig.start(worker(0, 2)), [dispatch(worker(0, 2), 1, 2)]);
}

#[test]
fn a_request_waits_in_the_queue_for_so_long() {
    let mut rig = Rig::busy(REQUEST);
    rig.quiet(seconds(10));
    assert_eq!(rig.submit(2), []);
    rig.quiet(seconds(10));
    assert_eq!(rig.submit(3), []);
    assert_eq!(rig.feed(Event::Streamed(worker(0, 1))), []);
    rig.quiet(seconds(20));
    assert_eq!(rig.feed(Event::Streamed(worker(0, 1))), []);
    rig.quiet(seconds(20));
    assert_eq!(rig.feed(Event::Streamed(worker(0, 1))), []);
    assert_eq!(rig.wait_for_deadline(seconds(10)), [finish(2, Outcome::QueueTimeout)]);
    assert_eq!(rig.view().queued, 1);
    assert_eq!(rig.view().oldest, Some(Time(seconds(20))));
    assert_eq!(rig.wait_for_deadline(seconds(10)), [finish(3, Outcome::QueueTimeout)]);
}

#[test]
fn nothing_is_begun_that_its_client_would_not_wait_for() {
    let mut rig = Rig::busy(PoolLimits { queue_timeout: seconds(20), queue: 9, ..WORKER });
    let impatient = |request, time| Event::Submitted {
        request: RequestId(request),
        pool: PoolId(0),
        fingerprint: request,
        owner: 0,
        patience: Some(seconds(time)),
        work: Work::WHOLE,
    };
    assert_eq!(rig.submit(2), []);
    assert_eq!(rig.feed(impatient(3, 5)), []);
    assert_eq!(rig.feed(impatient(4, 600)), [], "the queue's limit comes first");
    assert_eq!(rig.feed(impatient(5, 4)), []);
    assert_eq!(rig.wait_for_deadline(seconds(4)), [finish(5, Outcome::QueueTimeout)]);
    assert_eq!(rig.wait_for_deadline(seconds(1)), [finish(3, Outcome::QueueTimeout)]);
    let limit = [finish(2, Outcome::QueueTimeout), finish(4, Outcome::QueueTimeout)];
    assert_eq!(rig.wait_for_deadline(seconds(15)), limit);
}

#[test]
fn time_in_the_queue_is_no_limit_for_what_was_dispatched() {
    let mut rig = Rig::busy(PoolLimits { queue_timeout: seconds(1), ..WORKER });
    assert_eq!(rig.submit(2), []);
    rig.quiet(milliseconds(900));
    assert_eq!(rig.exit(worker(0, 1)), [fork(1, worker(0, 2))]);
    assert_eq!(rig.wait_for_deadline(milliseconds(100)), [finish(2, Outcome::QueueTimeout)]);
    rig.quiet(seconds(5));
    assert_eq!(rig.start(worker(0, 2)), [dispatch(worker(0, 2), 1, 2)]);
}

#[test]
fn a_request_runs_for_so_long_over_all_its_attempts() {
    let limits = PoolLimits { request_timeout: seconds(40), ..WORKER };
    let mut rig = Rig::busy(limits);
    rig.quiet(seconds(20));
    assert_eq!(rig.exit(worker(0, 1)), [fork(1, worker(0, 2))]);
    assert_eq!(rig.start(worker(0, 2)), [dispatch(worker(0, 2), 1, 2)]);
    let timeout = [kill(worker(0, 2), KillReason::RequestTimeout), finish(1, Outcome::RequestTimeout)];
    assert_eq!(rig.wait_for_deadline(seconds(20)), timeout);
    assert_eq!(rig.submit_like(2, 1), [], "it is not poisonous");
    assert_eq!(rig.exit(worker(0, 2)), [fork(1, worker(0, 3))]);
    assert_eq!(rig.start(worker(0, 3)), [dispatch(worker(0, 3), 2, 1)]);
}

#[test]
fn a_request_that_waits_to_be_replayed_has_no_more_time_than_others() {
    let mut rig = Rig::busy(PoolLimits { request_timeout: seconds(5), ..WORKER });
    assert_eq!(rig.exit(worker(0, 1)), [fork(1, worker(0, 2))]);
    assert_eq!(rig.wait_for_deadline(seconds(5)), [finish(1, Outcome::RequestTimeout)]);
    assert_eq!(rig.view().queued, 0);

    let mut rig = Rig::busy(PoolLimits { request_timeout: seconds(5), ..WORKER });
    assert_eq!(rig.feed(Event::Misbehaved(worker(0, 1))), [kill(worker(0, 1), KillReason::Misbehaved)]);
    assert_eq!(rig.wait_for_deadline(seconds(5)), [finish(1, Outcome::RequestTimeout)]);
    assert_eq!(rig.exit(worker(0, 1)), [fork(1, worker(0, 2))]);
    assert_eq!(rig.start(worker(0, 2)), []);
}

#[test]
fn no_progress_for_too_long_is_a_death_under_the_request() {
    let mut rig = Rig::busy(REQUEST);
    let death = [kill(worker(0, 1), KillReason::ProgressTimeout)];
    assert_eq!(rig.wait_for_deadline(seconds(30)), death);
    let exit = rig.exit(worker(0, 1));
    assert_eq!(exit, [dispatch(worker(0, 2), 1, 2), fork(1, worker(0, 3))]);
}

#[test]
fn a_token_or_a_changed_tick_is_progress_and_an_equal_tick_is_not() {
    let mut rig = Rig::busy(REQUEST);
    let observe = |ticks| Event::Observed { worker: worker(0, 1), ticks };
    rig.quiet(seconds(20));
    assert_eq!(rig.feed(observe(0)), [], "the board was empty at the fork");
    assert_eq!(rig.policy.next_deadline(), Some(Time(seconds(30))));
    assert_eq!(rig.feed(observe(7)), []);
    assert_eq!(rig.policy.next_deadline(), Some(Time(seconds(50))));
    rig.quiet(seconds(20));
    assert_eq!(rig.feed(observe(7)), []);
    assert_eq!(rig.policy.next_deadline(), Some(Time(seconds(50))));
    assert_eq!(rig.feed(observe(6)), [], "any change is one");
    assert_eq!(rig.policy.next_deadline(), Some(Time(seconds(70))));
    rig.quiet(seconds(20));
    assert_eq!(rig.feed(Event::Streamed(worker(0, 1))), []);
    assert_eq!(rig.policy.next_deadline(), Some(Time(seconds(90))));
}

#[test]
fn progress_is_measured_from_the_dispatch() {
    let mut rig = Rig::idle(REQUEST);
    rig.quiet(seconds(100));
    assert_eq!(rig.feed(Event::Observed { worker: worker(0, 1), ticks: 3 }), []);
    assert_eq!(rig.policy.next_deadline(), None, "an idle worker makes no progress and need not");
    assert_eq!(rig.submit(1).len(), 2);
    assert_eq!(rig.start(worker(0, 2)), []);
    assert_eq!(rig.policy.next_deadline(), Some(Time(seconds(130))));
}

#[test]
fn deaths_are_counted_whatever_the_exit_status_says_and_the_last_one_ends_the_request() {
    let mut rig = Rig::busy(REQUEST);
    let exit = rig.feed(Event::Exited(worker(0, 1)));
    assert_eq!(exit, [dispatch(worker(0, 2), 1, 2), fork(1, worker(0, 3))]);
    assert_eq!(rig.start(worker(0, 3)), []);
    let death = rig.feed(Event::Misbehaved(worker(0, 2)));
    assert_eq!(death, [kill(worker(0, 2), KillReason::Misbehaved)], "replayed only after the exit");
    let view = rig.view();
    assert_eq!((view.workers[0].state, view.workers[0].request), (WorkerState::Stopping, Some(RequestId(1))));
    assert_eq!(rig.feed(Event::Answered(worker(0, 2))), [], "it is believed nothing any more");
    assert_eq!(rig.feed(Event::Misbehaved(worker(0, 2))), []);
    assert_eq!(rig.exit(worker(0, 2)), [dispatch(worker(0, 3), 1, 3), fork(1, worker(0, 4))]);
    assert_eq!(rig.start(worker(0, 4)), []);
    assert_eq!(rig.exit(worker(0, 3)), [finish(1, Outcome::WorkersDied { attempts: 3 })]);
    assert_eq!(rig.states(), [WorkerState::Idle]);
}

#[test]
fn the_last_death_ends_the_request_before_the_exit() {
    let mut rig = Rig::busy(PoolLimits { max_attempts: 1, ..REQUEST });
    let effects = [kill(worker(0, 1), KillReason::Misbehaved), finish(1, Outcome::WorkersDied { attempts: 1 })];
    assert_eq!(rig.feed(Event::Misbehaved(worker(0, 1))), effects);
    assert_eq!(rig.exit(worker(0, 1)), []);
}

#[test]
fn a_poisonous_request_is_remembered_for_a_while() {
    let mut rig = Rig::busy(PoolLimits { max_attempts: 1, ..REQUEST });
    assert_eq!(rig.exit(worker(0, 1)), [finish(1, Outcome::WorkersDied { attempts: 1 })]);
    let until = Time(seconds(600));
    assert_eq!(rig.submit_like(2, 1), [finish(2, Outcome::Poisonous { until })]);
    assert_eq!(rig.submit_like(3, 3)[0], dispatch(worker(0, 2), 3, 1), "others are not");
    assert_eq!(rig.feed(Event::Answered(worker(0, 2))), [finish(3, Outcome::Answered)]);
    assert_eq!(rig.start(worker(0, 3)), []);
    assert_eq!(rig.feed(Event::Exited(worker(0, 2))), []);
    rig.quiet(seconds(599));
    assert_eq!(rig.submit_like(4, 1), [finish(4, Outcome::Poisonous { until })]);
    rig.quiet(seconds(1));
    assert_eq!(rig.submit_like(5, 1)[0], dispatch(worker(0, 3), 5, 1));
}

#[test]
fn cancel_is_kill_for_a_worker_of_one_request() {
    let mut rig = Rig::busy(PoolLimits { max_attempts: 1, ..REQUEST });
    let cancel = [kill(worker(0, 1), KillReason::Cancelled), finish(1, Outcome::Cancelled)];
    assert_eq!(rig.feed(Event::Withdrawn(RequestId(1))), cancel);
    assert_eq!(rig.feed(Event::Withdrawn(RequestId(1))), []);
    assert_eq!(rig.feed(Event::Answered(worker(0, 1))), [], "too late");
    assert_eq!(rig.submit_like(2, 1), [], "a cancel is no death under the request");
    assert_eq!(rig.exit(worker(0, 1)), [dispatch(worker(0, 2), 2, 1), fork(1, worker(0, 3))]);
}

#[test]
fn a_worker_of_many_requests_is_asked_to_stop_the_cancelled_one() {
    for answer in [Event::Answered(worker(0, 1)), Event::Rejected(worker(0, 1))] {
        let mut rig = Rig::busy(WORKER);
        let stop = Effect::StopRequest { worker: worker(0, 1), request: RequestId(1) };
        assert_eq!(rig.feed(Event::Withdrawn(RequestId(1))), [stop, finish(1, Outcome::Cancelled)]);
        assert_eq!((rig.states(), rig.view().workers[0].request), (vec![WorkerState::Busy], None));
        assert_eq!(rig.submit(2), [], "it still computes");
        assert_eq!(rig.feed(answer.clone()), [dispatch(worker(0, 1), 2, 1)]);
        assert_eq!(rig.feed(answer).len(), 1);
    }
}

#[test]
fn a_worker_of_many_requests_that_does_not_stop_is_killed() {
    let mut rig = Rig::busy(WORKER);
    assert_eq!(rig.feed(Event::Withdrawn(RequestId(1))).len(), 2);
    assert_eq!(rig.feed(Event::Streamed(worker(0, 1))), [], "computing on is not stopping");
    assert_eq!(rig.wait_for_deadline(milliseconds(40)), [kill(worker(0, 1), KillReason::Cancelled)]);
    assert_eq!(rig.exit(worker(0, 1)), [fork(1, worker(0, 2))]);
    assert_eq!(rig.start(worker(0, 2)), []);
    assert_eq!(rig.submit_like(2, 1), [dispatch(worker(0, 2), 2, 1)]);
}

#[test]
fn a_worker_that_dies_while_it_stops_costs_nothing() {
    let mut rig = Rig::busy(PoolLimits { max_attempts: 1, ..WORKER });
    assert_eq!(rig.feed(Event::Withdrawn(RequestId(1))).len(), 2);
    assert_eq!(rig.exit(worker(0, 1)), [fork(1, worker(0, 2))]);
    assert_eq!(rig.start(worker(0, 2)), []);
    assert_eq!(rig.submit_like(2, 1), [dispatch(worker(0, 2), 2, 1)], "nor does it make the request poisonous");
}

#[test]
fn a_queued_request_is_cancelled() {
    let mut rig = Rig::busy(WORKER);
    assert_eq!(rig.submit(2), []);
    assert_eq!(rig.submit(3), []);
    assert_eq!(rig.feed(Event::Withdrawn(RequestId(2))), [finish(2, Outcome::Cancelled)]);
    assert_eq!(rig.feed(Event::Answered(worker(0, 1)))[1], dispatch(worker(0, 1), 3, 1));
}

#[test]
fn a_request_that_awaits_its_replay_is_cancelled() {
    let mut rig = Rig::busy(REQUEST);
    assert_eq!(rig.feed(Event::Misbehaved(worker(0, 1))), [kill(worker(0, 1), KillReason::Misbehaved)]);
    assert_eq!(rig.feed(Event::Withdrawn(RequestId(1))), [finish(1, Outcome::Cancelled)]);
    assert_eq!(rig.exit(worker(0, 1)), [], "the spare takes over and has nothing to do");
    assert_eq!(rig.states(), [WorkerState::Idle]);
    assert_eq!(rig.view().queued, 0);

    let mut rig = Rig::busy(WORKER);
    assert_eq!(rig.exit(worker(0, 1)), [fork(1, worker(0, 2))]);
    assert_eq!(rig.feed(Event::Withdrawn(RequestId(1))), [finish(1, Outcome::Cancelled)]);
    assert_eq!(rig.start(worker(0, 2)), []);
}

#[test]
fn a_request_that_has_ended_is_not_cancelled() {
    let mut rig = Rig::busy(REQUEST);
    assert_eq!(rig.feed(Event::Answered(worker(0, 1))), [finish(1, Outcome::Answered)]);
    assert_eq!(rig.feed(Event::Withdrawn(RequestId(1))), []);
    assert_eq!(rig.feed(Event::Withdrawn(RequestId(99))), []);
}

#[test]
fn pools_do_not_take_each_others_requests() {
    let mut policy = Policy::new(Limits::default(), vec![WORKER, WORKER], 1);
    let other = WorkerId { pool: PoolId(1), life: Life { slot: 0, generation: 1 } };
    let now = Time::default();
    tell(&mut policy, now, ready_with(TemplateId { pool: PoolId(1), generation: 1 }, WEIGHTS));
    read_memory(&mut policy, now, 1);
    tell(&mut policy, now, Event::Forked(other));
    tell(&mut policy, now, Event::Ready(other));
    tell(
        &mut policy,
        now,
        Event::Submitted {
            request: RequestId(1),
            pool: PoolId(0),
            fingerprint: 1,
            owner: 0,
            patience: None,
            work: Work::WHOLE,
        },
    );
    tell(
        &mut policy,
        now,
        Event::Submitted {
            request: RequestId(2),
            pool: PoolId(1),
            fingerprint: 2,
            owner: 0,
            patience: None,
            work: Work::WHOLE,
        },
    );
    let dispatches: Vec<_> = std::iter::from_fn(|| policy.poll_effect())
        .filter(|effect| matches!(effect, Effect::Dispatch { .. }))
        .collect();
    assert_eq!(dispatches, [dispatch(other, 2, 1)]);
    assert_eq!((policy.pool(PoolId(0)).queued, policy.pool(PoolId(1)).queued), (1, 0));
}

#[test]
fn one_owner_has_half_of_the_queue_at_most_while_others_wait() {
    let mut rig = Rig::busy(PoolLimits { queue: 4, ..REQUEST });
    let mut submit = |request: u64, owner: u64| {
        let (request, pool) = (RequestId(request), PoolId(0));
        rig.feed(Event::Submitted { request, pool, fingerprint: request.0, owner, patience: None, work: Work::WHOLE })
    };
    assert_eq!((submit(2, 1), submit(3, 1), submit(4, 1)), (vec![], vec![], vec![]), "alone it may have all");
    assert_eq!(submit(5, 2), [], "somebody else finds a place");
    rig.feed(Event::Withdrawn(RequestId(4)));
    let mut submit = |request: u64, owner: u64| {
        let (request, pool) = (RequestId(request), PoolId(0));
        rig.feed(Event::Submitted { request, pool, fingerprint: request.0, owner, patience: None, work: Work::WHOLE })
    };
    assert_eq!(submit(6, 1), [finish(6, Outcome::ShareFull)]);
    assert_eq!(submit(7, 2), []);
}
