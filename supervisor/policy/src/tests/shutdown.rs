//! Draining and stopping.
use super::*;

#[test]
fn with_nothing_to_do_it_stops_in_order() {
    let mut rig = Rig::idle(PoolLimits { workers: 2, ..REQUEST });
    assert!(!rig.policy.is_closing());
    let effects = rig.feed(Event::ShutdownRequested);
    let terminated = [worker(0, 1), worker(1, 1)].map(Effect::Terminate);
    assert_eq!(effects[..2], terminated);
    assert_eq!(effects[2..], [Effect::KillTemplate(template(1))]);
    assert!(rig.policy.is_closing());
    assert_eq!(rig.submit(1), [finish(1, Outcome::ShuttingDown)]);
    assert_eq!(rig.exit(worker(0, 1)), []);
    assert_eq!(rig.states(), [WorkerState::Stopping]);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), []);
    assert_eq!(rig.view().state, TemplateState::Stopped);
    assert_eq!(rig.wait_for_deadline(seconds(2)), [kill(worker(1, 1), KillReason::Shutdown)]);
    assert_eq!(rig.exit(worker(1, 1)), [Effect::Halt]);
    assert_eq!(rig.feed(Event::ShutdownRequested), []);
    assert_eq!(rig.submit(2), [finish(2, Outcome::ShuttingDown)]);
    assert_eq!(rig.wait(seconds(100)), []);
    assert_eq!(rig.policy.next_deadline(), None);
}

#[test]
fn without_models_it_stops_at_once() {
    let mut policy = Policy::new(Limits::default(), Vec::new(), 1);
    tell(&mut policy, Time::default(), Event::ShutdownRequested);
    assert_eq!(policy.poll_effect(), Some(Effect::Halt));
    assert_eq!(policy.poll_effect(), None);
}

#[test]
fn what_runs_and_what_waits_goes_on() {
    let mut rig = Rig::busy(REQUEST);
    assert_eq!(rig.submit(2), []);
    assert_eq!(rig.feed(Event::ShutdownRequested), []);
    assert_eq!(rig.feed(Event::Answered(worker(0, 1))), [finish(1, Outcome::Answered)]);
    assert_eq!(rig.exit(worker(0, 1)), [dispatch(worker(0, 2), 2, 1)], "its spare will not be needed");
    let effects = [finish(2, Outcome::Answered), Effect::KillTemplate(template(1))];
    assert_eq!(rig.feed(Event::Answered(worker(0, 2))), effects);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), []);
    assert_eq!(rig.exit(worker(0, 2)), [Effect::Halt]);
}

#[test]
fn a_spare_without_work_is_ended_and_forked_again_for_a_replay() {
    let mut rig = Rig::busy(REQUEST);
    assert_eq!(rig.feed(Event::ShutdownRequested), [Effect::Terminate(worker(0, 2))]);
    assert_eq!(rig.feed(Event::Exited(worker(0, 2))), []);
    assert_eq!(rig.exit(worker(0, 1)), [fork(1, worker(0, 3))]);
    assert_eq!(rig.start(worker(0, 3)), [dispatch(worker(0, 3), 1, 2)]);
    let effects = [finish(1, Outcome::Answered), Effect::KillTemplate(template(1))];
    assert_eq!(rig.feed(Event::Answered(worker(0, 3))), effects);
}

#[test]
fn a_replay_does_not_wait_for_a_spare_that_was_asked_to_exit() {
    let mut rig = Rig::busy(REQUEST);
    assert_eq!(rig.feed(Event::ShutdownRequested), [Effect::Terminate(worker(0, 2))]);
    assert_eq!(rig.exit(worker(0, 1)), [fork(1, worker(0, 3))]);
    assert_eq!(rig.start(worker(0, 3)), [], "the one before it has not exited");
    assert_eq!(rig.feed(Event::Exited(worker(0, 2))), [dispatch(worker(0, 3), 1, 2)]);
}

#[test]
fn a_spare_is_kept_for_a_request_that_awaits_its_replay() {
    let mut rig = Rig::busy(REQUEST);
    assert_eq!(rig.feed(Event::Misbehaved(worker(0, 1))), [kill(worker(0, 1), KillReason::Misbehaved)]);
    assert_eq!(rig.feed(Event::ShutdownRequested), []);
    assert_eq!(rig.exit(worker(0, 1)), [dispatch(worker(0, 2), 1, 2)]);
}

#[test]
fn when_the_time_is_over_everything_ends() {
    let mut rig = Rig::busy(PoolLimits { progress_timeout: seconds(100), ..REQUEST });
    assert_eq!(rig.submit(2), []);
    rig.quiet(seconds(1));
    assert_eq!(rig.feed(Event::ShutdownRequested), []);
    let effects = rig.wait_for_deadline(seconds(30));
    let stopped = [
        finish(2, Outcome::ShuttingDown),
        finish(1, Outcome::ShuttingDown),
        kill(worker(0, 1), KillReason::Shutdown),
        kill(worker(0, 2), KillReason::Shutdown),
        Effect::KillTemplate(template(1)),
    ];
    assert_eq!(effects, stopped);
    assert_eq!(rig.exit(worker(0, 1)), []);
    assert_eq!(rig.exit(worker(0, 2)), []);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Halt]);
}

#[test]
fn a_second_request_to_stop_does_not_wait() {
    let mut rig = Rig::busy(REQUEST);
    assert_eq!(rig.feed(Event::Misbehaved(worker(0, 1))), [kill(worker(0, 1), KillReason::Misbehaved)]);
    assert_eq!(rig.feed(Event::ShutdownRequested), []);
    let effects =
        [finish(1, Outcome::ShuttingDown), kill(worker(0, 2), KillReason::Shutdown), Effect::KillTemplate(template(1))];
    assert_eq!(rig.feed(Event::ShutdownRequested), effects);
    assert_eq!(rig.feed(Event::ShutdownRequested), []);
    assert_eq!(rig.exit(worker(0, 1)), [], "nothing is replayed");
    assert_eq!(rig.exit(worker(0, 2)), []);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Halt]);
}

#[test]
fn a_model_that_never_loads_does_not_keep_it() {
    let mut rig = Rig::cold(Limits::default(), REQUEST);
    assert_eq!(rig.submit(1), []);
    assert_eq!(rig.feed(Event::ShutdownRequested), []);
    let effects = [finish(1, Outcome::ShuttingDown), Effect::KillTemplate(template(1))];
    assert_eq!(rig.wait_for_deadline(seconds(30)), effects);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Halt]);
}

#[test]
fn a_template_is_loaded_again_only_for_what_waits() {
    let mut rig = Rig::busy(REQUEST);
    assert_eq!(rig.feed(Event::ShutdownRequested), [Effect::Terminate(worker(0, 2))]);
    assert_eq!(rig.feed(Event::Exited(worker(0, 2))), []);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), []);
    rig.quiet(seconds(20));
    assert_eq!(rig.exit(worker(0, 1)), [Effect::Load(template(2))]);
    assert_eq!(rig.feed(ready(2)), [fork(2, worker(0, 3))]);
}

#[test]
fn a_failed_a_parked_and_a_waiting_template_end_too() {
    let mut rig = Rig::cold(Limits::default(), REQUEST);
    assert_eq!(rig.feed(Event::LoadFailed(template(1))), []);
    assert_eq!(rig.feed(Event::ShutdownRequested), [Effect::KillTemplate(template(1))], "it has not exited yet");
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Halt]);

    let mut rig = Rig::cold(Limits::default(), REQUEST);
    assert_eq!(rig.feed(Event::LoadFailed(template(1))), []);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), []);
    assert_eq!(rig.feed(Event::ShutdownRequested), [Effect::Halt]);

    let mut rig = Rig::warm(Limits { crash_loop: 1, ..Limits::default() }, REQUEST);
    assert_eq!(rig.exit(worker(0, 1)), [Effect::KillTemplate(template(1))]);
    assert_eq!(rig.feed(Event::ShutdownRequested), [], "killed already");
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Halt]);

    let mut rig = Rig::cold(Limits { crash_loop: 1, ..Limits::default() }, REQUEST);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), []);
    assert_eq!(rig.feed(Event::ShutdownRequested), [Effect::Halt]);

    let mut rig = Rig::cold(Limits::default(), REQUEST);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Load(template(2))]);
    assert_eq!(rig.feed(Event::TemplateExited(template(2))), []);
    assert_eq!(rig.feed(Event::ShutdownRequested), [Effect::Halt], "it was waiting");

    let mut rig = Rig::cold(Limits::default(), REQUEST);
    assert_eq!(rig.wait(seconds(600)), [Effect::KillTemplate(template(1))]);
    assert_eq!(rig.feed(Event::ShutdownRequested), [], "killed already");
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Halt]);
}

#[test]
fn a_worker_of_many_requests_ends_when_the_last_is_done() {
    let mut rig = Rig::busy(WORKER);
    assert_eq!(rig.feed(Event::ShutdownRequested), []);
    let effects = [finish(1, Outcome::Answered), Effect::Terminate(worker(0, 1)), Effect::KillTemplate(template(1))];
    assert_eq!(rig.feed(Event::Answered(worker(0, 1))), effects);
}

#[test]
fn it_stops_when_the_last_request_ends_by_waiting_too_long() {
    let mut rig = Rig::cold(Limits::default(), PoolLimits { queue_timeout: milliseconds(10), ..REQUEST });
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [Effect::Load(template(2))]);
    assert_eq!(rig.submit(1), []);
    assert_eq!(rig.feed(Event::TemplateExited(template(2))), []);
    assert_eq!(rig.feed(Event::ShutdownRequested), []);
    let effects = [finish(1, Outcome::QueueTimeout), Effect::Halt];
    assert_eq!(rig.wait_for_deadline(milliseconds(10)), effects, "there is no process to wait for");
}

#[test]
fn cancelling_the_last_request_lets_it_stop() {
    let mut rig = Rig::busy(WORKER);
    assert_eq!(rig.feed(Event::ShutdownRequested), []);
    let stop = Effect::StopRequest { worker: worker(0, 1), request: RequestId(1) };
    let effects = [stop, finish(1, Outcome::Cancelled), Effect::KillTemplate(template(1))];
    assert_eq!(rig.feed(Event::Withdrawn(RequestId(1))), effects);
    assert_eq!(rig.feed(Event::Answered(worker(0, 1))), [Effect::Terminate(worker(0, 1))]);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), []);
    assert_eq!(rig.exit(worker(0, 1)), [Effect::Halt]);
}

#[test]
fn what_does_not_end_although_it_is_killed_is_not_waited_for_without_end() {
    let mut rig = Rig::busy(REQUEST);
    assert_eq!(rig.feed(Event::ShutdownRequested), [Effect::Terminate(worker(0, 2))]);
    assert_eq!(rig.feed(Event::ShutdownRequested).len(), 4);
    assert_eq!(rig.exit(worker(0, 1)), []);
    assert_eq!(rig.wait_for_deadline(seconds(5)), [Effect::Halt]);
    assert_eq!(rig.policy.next_deadline(), None);
    assert_eq!(rig.exit(worker(0, 2)), []);
    assert_eq!(rig.feed(Event::TemplateExited(template(1))), [], "it halts once");
}
