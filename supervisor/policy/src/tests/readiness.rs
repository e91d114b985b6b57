//! Whether the supervisor is ready, and whether a pool still moves.
use super::*;
use crate::FrontChange;
use crate::{Change, Reload};

const LAZY: PoolLimits = PoolLimits { load: Load::Lazy, ..REQUEST };

fn policy(pools: Vec<PoolLimits>) -> Policy {
    Policy::new(Limits::default(), pools, 1)
}

fn of(pool: usize, mut id: WorkerId) -> WorkerId {
    id.pool = PoolId(pool);
    id
}

fn template_of(pool: usize) -> TemplateId {
    TemplateId { pool: PoolId(pool), generation: 1 }
}

/// The model is loaded and its first worker is ready.
fn serve(policy: &mut Policy, pool: usize) {
    tell(policy, Time::default(), ready_with(template_of(pool), WEIGHTS));
    read_memory(policy, Time::default(), pool);
    tell(policy, Time::default(), Event::Forked(of(pool, worker(0, 1))));
    assert!(!policy.is_ready(), "nobody could be served");
    tell(policy, Time::default(), Event::Ready(of(pool, worker(0, 1))));
}

#[test]
fn it_is_ready_when_every_eager_model_is_served() {
    let mut policy = policy(vec![REQUEST, WORKER]);
    assert!(!policy.is_ready() && policy.needs_time());
    serve(&mut policy, 1);
    assert!(!policy.is_ready() && policy.needs_time(), "the other one is being loaded");
    serve(&mut policy, 0);
    assert!(policy.is_ready() && !policy.needs_time());
    tell(&mut policy, Time::default(), Event::ShutdownRequested);
    assert!(!policy.is_ready() && policy.needs_time());
    tell(&mut policy, Time::default(), Event::ShutdownRequested);
    assert!(!policy.is_ready() && !policy.needs_time(), "killing takes no time");
}

#[test]
fn a_model_that_cannot_be_loaded_does_not_keep_the_others() {
    let mut policy = policy(vec![REQUEST, WORKER]);
    tell(&mut policy, Time::default(), Event::LoadFailed(template_of(0)));
    assert!(!policy.is_ready() && policy.needs_time(), "there is another one to come");
    tell(&mut policy, Time::default(), Event::TemplateExited(template_of(0)));
    // It is tried again, which may take as long as it likes.
    let retry = policy.next_deadline().unwrap();
    policy.handle_timeout(retry);
    assert_eq!(policy.pool(PoolId(0)).state, TemplateState::Loading);
    serve(&mut policy, 1);
    assert!(policy.is_ready() && !policy.needs_time());
}

#[test]
fn without_any_model_that_could_be_served_it_is_not_ready() {
    let mut rig = Rig::cold(Limits::default(), REQUEST);
    assert_eq!(rig.feed(Event::LoadFailed(template(1))), []);
    assert!(!rig.policy.is_ready() && !rig.policy.needs_time());

    let mut rig = Rig::warm(Limits { crash_loop: 1, ..Limits::default() }, REQUEST);
    assert!(!rig.policy.is_ready() && rig.policy.needs_time());
    assert_eq!(rig.exit(worker(0, 1)), [Effect::KillTemplate(template(1))]);
    assert!(!rig.policy.is_ready() && !rig.policy.needs_time(), "it is parked");

    let mut rig = Rig::warm(Limits::default(), REQUEST);
    assert_eq!(rig.feed(Event::Shortage(worker(0, 1))), []);
    assert!(!rig.policy.is_ready() && !rig.policy.needs_time(), "there is no memory for a worker");
}

#[test]
fn models_that_are_loaded_when_they_are_asked_for_are_there() {
    let mut only_lazy = policy(vec![LAZY]);
    assert!(only_lazy.is_ready() && !only_lazy.needs_time());
    let work = Work::WHOLE;
    let request =
        Event::Submitted { request: RequestId(1), pool: PoolId(0), fingerprint: 1, owner: 0, patience: None, work };
    tell(&mut only_lazy, Time::default(), request);
    assert!(only_lazy.is_ready() && !only_lazy.needs_time());

    let mut beside_failed = policy(vec![LAZY, REQUEST]);
    assert!(!beside_failed.is_ready());
    tell(&mut beside_failed, Time::default(), Event::LoadFailed(template_of(1)));
    assert!(beside_failed.is_ready());
}

#[test]
fn a_reload_takes_its_time_whatever_it_tries() {
    let mut rig = Rig::idle(REQUEST);
    assert!(!rig.policy.needs_time());
    // It is loaded anew because it is loaded now.
    let change = Change::Replace { old: PoolId(0), new: PoolId(1), limits: LAZY };
    tell(
        &mut rig.policy,
        rig.now,
        Event::Reload(Reload { drain: seconds(7), changes: vec![change], front: FrontChange::Keep, memory: PLENTY }),
    );
    assert!(rig.policy.is_ready() && rig.policy.needs_time());
    assert!(rig.feed(Event::LoadFailed(TemplateId { pool: PoolId(1), generation: 2 })).len() > 1);
    assert!(rig.policy.is_ready() && !rig.policy.needs_time());
}

/// What is said of the only pool this much later, if time passes and nothing else happens.
fn is_stalled_in(rig: &Rig, duration: Duration) -> bool {
    rig.policy.stalled(rig.now.after(duration)) == Some(PoolId(0))
}

/// That the only pool counts as stalled from this much later on.
#[track_caller]
fn stalls_in(rig: &Rig, duration: Duration) {
    assert!(!is_stalled_in(rig, duration - Duration::from_nanos(1)), "too early");
    assert!(is_stalled_in(rig, duration), "too late");
}

#[test]
fn a_pool_that_is_idle_or_works_moves() {
    let rig = Rig::idle(PoolLimits { workers: 2, ..REQUEST });
    assert!(!is_stalled_in(&rig, seconds(1_000_000)));

    let mut rig =
        Rig::busy(PoolLimits { progress_timeout: seconds(200), request_timeout: seconds(100_000), ..REQUEST });
    for ticks in 1..100 {
        rig.quiet(seconds(199));
        assert_eq!(rig.feed(Event::Observed { worker: worker(0, 1), ticks }), []);
        assert!(!is_stalled_in(&rig, Duration::ZERO), "it is slow, and it works");
    }
}

#[test]
fn what_has_a_limit_is_waited_for() {
    let rig = Rig::cold(Limits::default(), REQUEST);
    stalls_in(&rig, seconds(600 + 60));
    let rig = Rig::warm(Limits::default(), REQUEST);
    stalls_in(&rig, seconds(10 + 60));
    let rig = Rig::busy(REQUEST);
    stalls_in(&rig, seconds(30 + 60));
}

#[test]
fn a_pool_of_processes_that_do_not_end_does_not_move() {
    let mut rig = Rig::busy(REQUEST);
    assert_eq!(rig.wait(seconds(30)), [kill(worker(0, 1), KillReason::ProgressTimeout)]);
    stalls_in(&rig, seconds(60));
    assert_eq!(rig.exit(worker(0, 1)), [dispatch(worker(0, 2), 1, 2), fork(1, worker(0, 3))]);
    assert!(!is_stalled_in(&rig, seconds(60)));

    let mut rig = Rig::idle(PoolLimits { workers: 2, ..WORKER });
    assert_eq!(rig.feed(Event::Misbehaved(worker(0, 1))).len(), 1);
    assert!(!is_stalled_in(&rig, seconds(1_000)), "the other one is idle");
    rig.quiet(seconds(1));
    assert_eq!(rig.feed(Event::Misbehaved(worker(1, 1))).len(), 1);
    stalls_in(&rig, seconds(60));
}

#[test]
fn a_template_that_does_not_end_is_in_the_way() {
    let mut rig = Rig::cold(Limits::default(), REQUEST);
    assert_eq!(rig.wait(seconds(600)), [Effect::KillTemplate(template(1))]);
    stalls_in(&rig, seconds(60));
    rig.feed(Event::TemplateExited(template(1)));
    assert!(!is_stalled_in(&rig, seconds(60)), "there is another one");
}

#[test]
fn a_back_off_is_something_to_come() {
    let mut rig = Rig::warm(Limits { crash_loop: 1, park: seconds(500), ..Limits::default() }, REQUEST);
    assert_eq!(rig.exit(worker(0, 1)), [Effect::KillTemplate(template(1))]);
    stalls_in(&rig, seconds(500 + 60));
}

#[test]
fn what_nobody_wants_may_take_for_ever() {
    let mut rig = Rig::idle(PoolLimits { idle_unload: Some(seconds(300)), ..WORKER });
    assert_eq!(rig.wait(seconds(300)), [Effect::Terminate(worker(0, 1)), Effect::KillTemplate(template(1))]);
    assert!(!is_stalled_in(&rig, seconds(1_000)));
    rig.quiet(seconds(1));
    assert_eq!(rig.submit(1), []);
    stalls_in(&rig, seconds(1 + 60));
}

#[test]
fn how_long_stopping_takes_is_judged_elsewhere() {
    let mut rig = Rig::busy(REQUEST);
    rig.feed(Event::ShutdownRequested);
    assert!(!is_stalled_in(&rig, seconds(1_000)));
}
