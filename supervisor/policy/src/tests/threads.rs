//! Budgets: who may compute with how many threads, and when threads that were lowered are granted
//! again.
use super::*;

const PAIR: PoolLimits = PoolLimits { workers: 2, threads: 4, ..WORKER };

/// A policy of so many cores with an idle worker in each slot.
fn idle(cores: u32, pool: PoolLimits) -> Rig {
    let mut rig = Rig::warm(Limits { cores, ..Limits::default() }, pool);
    for slot in 0..pool.workers {
        assert_eq!(rig.start(worker(slot, 1)), []);
    }
    rig
}

fn budget(slot: u32, threads: u32) -> Effect {
    Effect::SetBudget { worker: worker(slot, 1), threads }
}

fn used(rig: &mut Rig, slot: u32, threads: u32) -> Vec<Effect> {
    rig.feed(Event::ThreadsUsed { worker: worker(slot, 1), threads })
}

#[test]
fn one_that_runs_alone_gets_all_that_it_can_use() {
    assert_eq!(idle(4, PAIR).submit(1), [dispatch(worker(0, 1), 1, 1), budget(0, 4)]);
    assert_eq!(idle(16, PAIR).submit(1), [dispatch(worker(0, 1), 1, 1), budget(0, 4)], "it can use no more");
    assert_eq!(idle(1, PAIR).submit(1), [dispatch(worker(0, 1), 1, 1)], "its board says 1 as it is");
}

#[test]
fn a_newcomer_has_one_thread_at_once_and_more_as_they_are_given_back() {
    let mut rig = idle(4, PAIR);
    assert_eq!(rig.submit(1).len(), 2);
    assert_eq!(rig.submit(2), [dispatch(worker(1, 1), 2, 1), budget(0, 2)]);
    assert_eq!(rig.wait_for_deadline(milliseconds(1)), [Effect::ReadThreads(worker(0, 1))]);
    assert_eq!(used(&mut rig, 0, 4), [], "it has not come to its next layer");
    assert_eq!(rig.wait_for_deadline(milliseconds(2)), [Effect::ReadThreads(worker(0, 1))]);
    assert_eq!(used(&mut rig, 0, 3), [], "one is what the newcomer has already");
    assert_eq!(used(&mut rig, 0, 2), [budget(1, 2)]);
    assert_eq!(rig.policy.next_deadline(), Some(Time(seconds(30))), "nobody is looked at any more");
    assert_eq!(rig.feed(Event::Answered(worker(0, 1))), [budget(0, 1), finish(1, Outcome::Answered), budget(1, 4)]);
    assert_eq!(rig.feed(Event::Answered(worker(1, 1))), [budget(1, 1), finish(2, Outcome::Answered)]);
    assert_eq!(rig.policy.next_deadline(), None);
}

#[test]
fn what_cannot_be_shared_evenly_goes_to_who_came_first() {
    let mut rig = idle(8, PoolLimits { workers: 3, threads: 8, ..WORKER });
    assert_eq!(rig.submit(1)[1], budget(0, 8));
    assert_eq!(rig.submit(2)[1], budget(0, 4));
    assert_eq!(rig.submit(3)[1], budget(0, 3));
    assert_eq!(used(&mut rig, 0, 3), [budget(1, 3), budget(2, 2)]);
    assert_eq!(rig.feed(Event::Withdrawn(RequestId(9))), []);
    assert_eq!(rig.exit(worker(0, 1))[..2], [budget(1, 4), budget(2, 4)]);
}

#[test]
fn what_comes_free_goes_to_who_has_least() {
    let mut rig = idle(12, PoolLimits { workers: 3, threads: 12, ..WORKER });
    assert_eq!((rig.submit(1)[1], rig.submit(2)[1], rig.submit(3)[1]), (budget(0, 12), budget(0, 6), budget(0, 4)));
    assert_eq!(used(&mut rig, 0, 8), [budget(1, 2), budget(2, 2)]);
    assert_eq!(used(&mut rig, 0, 5), [budget(1, 4), budget(2, 3)]);
    assert_eq!(used(&mut rig, 0, 4), [budget(2, 4)]);
}

#[test]
fn more_that_run_than_there_are_cores_have_one_thread_each() {
    let mut rig = idle(2, PoolLimits { workers: 3, threads: 8, ..WORKER });
    assert_eq!(rig.submit(1)[1], budget(0, 2));
    assert_eq!(rig.submit(2)[1], budget(0, 1));
    assert_eq!(rig.submit(3).len(), 1);
    assert_eq!(used(&mut rig, 0, 1), []);
    assert_eq!(rig.feed(Event::Answered(worker(2, 1))), [finish(3, Outcome::Answered)]);
    assert_eq!(rig.feed(Event::Answered(worker(1, 1))), [finish(2, Outcome::Answered), budget(0, 2)]);
}

#[test]
fn one_that_gives_nothing_back_is_looked_at_less_and_less_often() {
    let mut rig = idle(2, PAIR);
    assert_eq!((rig.submit(1).len(), rig.submit(2).len()), (2, 2));
    for wait in [1, 2, 4, 8, 16, 16, 16] {
        assert_eq!(rig.wait_for_deadline(milliseconds(wait)), [Effect::ReadThreads(worker(0, 1))]);
        assert_eq!(used(&mut rig, 0, 1000), [], "it is not believed to use more than it ever had");
    }
    // With three threads held, none is free; with its end, all are.
    assert_eq!(rig.exit(worker(0, 1))[..1], [budget(1, 2)]);
}

#[test]
fn looks_begin_anew_when_more_is_lowered_and_only_then() {
    let mut rig = idle(8, PoolLimits { workers: 3, threads: 8, ..WORKER });
    assert_eq!((rig.submit(1)[1], rig.submit(2)[1]), (budget(0, 8), budget(0, 4)));
    assert_eq!(rig.wait_for_deadline(milliseconds(1)), [Effect::ReadThreads(worker(0, 1))]);
    assert_eq!(rig.wait_for_deadline(milliseconds(2)), [Effect::ReadThreads(worker(0, 1))]);
    assert_eq!(used(&mut rig, 0, 7), [], "one is what the newcomer has already");
    assert_eq!(rig.wait_for_deadline(milliseconds(4)), [Effect::ReadThreads(worker(0, 1))]);
    assert_eq!(used(&mut rig, 0, 6), [budget(1, 2)]);
    assert_eq!(rig.wait_for_deadline(milliseconds(8)), [Effect::ReadThreads(worker(0, 1))]);
    assert_eq!(rig.submit(3)[1], budget(0, 3));
    assert_eq!(rig.wait_for_deadline(milliseconds(1)), [Effect::ReadThreads(worker(0, 1))]);
}

#[test]
fn what_was_lowered_and_not_given_back_may_be_used_again() {
    let mut rig = idle(4, PAIR);
    assert_eq!((rig.submit(1)[1], rig.submit(2)[1]), (budget(0, 4), budget(0, 2)));
    assert_eq!(rig.exit(worker(1, 1))[..1], [budget(0, 4)]);
    assert_eq!(rig.policy.next_deadline(), Some(Time(seconds(10))), "only that the new worker must be there by then");
}

#[test]
fn one_that_is_to_stop_keeps_one_thread_until_it_has() {
    let mut rig = idle(4, PAIR);
    assert_eq!((rig.submit(1)[1], rig.submit(2)[1]), (budget(0, 4), budget(0, 2)));
    assert_eq!(used(&mut rig, 0, 2), [budget(1, 2)]);
    assert_eq!(rig.feed(Event::Withdrawn(RequestId(1)))[2..], [budget(0, 1)]);
    assert_eq!(used(&mut rig, 0, 1), [budget(1, 3)]);
    assert_eq!(rig.feed(Event::Answered(worker(0, 1))), [budget(1, 4)]);
}

#[test]
fn a_killed_worker_holds_nothing() {
    let mut rig = idle(4, PoolLimits { isolation: Isolation::Request, ..PAIR });
    assert_eq!((rig.submit(1)[1], rig.submit(2)[1]), (budget(0, 4), budget(0, 2)));
    let effects = rig.feed(Event::Withdrawn(RequestId(1)));
    assert_eq!(effects[2..], [budget(1, 4)]);
}

#[test]
fn models_share_the_cores_and_each_has_its_own_most() {
    let pools = vec![PoolLimits { threads: 8, ..WORKER }, PoolLimits { threads: 1, ..WORKER }];
    let mut policy = Policy::new(Limits { cores: 4, ..Limits::default() }, pools, 1);
    let now = Time::default();
    let ids = [0, 1].map(|pool| WorkerId { pool: PoolId(pool), life: Life { slot: 0, generation: 1 } });
    for id in ids {
        tell(&mut policy, now, ready_with(TemplateId { pool: id.pool, generation: 1 }, WEIGHTS));
        read_memory(&mut policy, now, id.pool.0);
        tell(&mut policy, now, Event::Forked(id));
        tell(&mut policy, now, Event::Ready(id));
        tell(
            &mut policy,
            now,
            Event::Submitted {
                request: RequestId(id.pool.0 as u64),
                pool: id.pool,
                fingerprint: 1,
                owner: 0,
                patience: None,
                work: Work::WHOLE,
            },
        );
    }
    let budgets: Vec<_> = std::iter::from_fn(|| policy.poll_effect())
        .filter_map(
            |effect| if let Effect::SetBudget { worker, threads } = effect { Some((worker, threads)) } else { None },
        )
        .collect();
    assert_eq!(budgets, [(ids[0], 4), (ids[0], 3)]);
}
