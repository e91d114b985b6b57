//! Who outlives whom: templates, workers, the supervisor; and what a process has that should have
//! nothing.
use integration_tests::{Daemon, LIMIT, Running, Signal, generate, model, process, skipped, until};
use ipc::{
    Client, GenerateRequest,
    status::{ModelStatus, Status},
};
use std::collections::BTreeSet;

const WORDS: &str = "some words that take a while to be said, so that something can happen before their end";

#[test]
fn workers_outlive_their_template_and_a_new_one_comes() {
    for isolation in ["request", "worker"] {
        let settings = format!("workers = 2\nisolation = \"{isolation}\"");
        let daemon = Daemon::start(&model("builtin:echo?token_us=10000", &settings));
        let (mut one, mut two) = (daemon.client(), daemon.client());
        let mut first = Running::begin(&mut one, GenerateRequest::raw(WORDS)).unwrap();
        let mut second = Running::begin(&mut two, GenerateRequest::raw(WORDS)).unwrap();
        assert!(first.read(3).unwrap() && second.read(3).unwrap());
        let template = daemon.model().template.unwrap();
        process::kill(template.pid, Signal::SIGKILL);
        for running in [first, second] {
            let finished = running.finish().unwrap();
            assert_eq!((finished.text.as_str(), finished.done.attempts), (WORDS, 1), "{isolation}");
        }
        daemon.until_model("a new template has loaded", |model| {
            model.state == "warm" && model.template.as_ref().is_some_and(|new| new.generation == 2)
        });
        let model = daemon.settle().models.remove(0);
        assert_eq!(model.workers.len(), 2);
        let crash = model.last_crash.unwrap();
        let cause = "signal 9 (SIGKILL), most likely because the kernel had no memory left";
        assert_eq!((crash.pid, crash.slot, crash.cause.as_str()), (template.pid, None, cause));
        assert_eq!((model.totals.worker_crashes, model.totals.answered), (0, 2));
        for _ in 0..4 {
            assert_eq!(generate(&daemon, GenerateRequest::raw("more")).unwrap().text, "more");
        }
        daemon.has_only_its_own();
    }
}

#[test]
fn requests_wait_while_a_template_loads_again() {
    let daemon = Daemon::start(&model("builtin:echo?load_ms=500", "workers = 1"));
    process::kill(daemon.model().template.unwrap().pid, Signal::SIGKILL);
    // The idle worker serves one; the others need the new template.
    for _ in 0..3 {
        assert_eq!(generate(&daemon, GenerateRequest::raw("more")).unwrap().text, "more");
    }
    assert_eq!(daemon.model().template.unwrap().generation, 2);
}

#[test]
fn nothing_outlives_a_killed_supervisor() {
    let busy = model("builtin:echo?token_us=10000", "workers = 2");
    let many = model("builtin:echo?token_us=10000", "workers = 2\nisolation = \"worker\"").replace("model\"", "many\"");
    let loading = model("builtin:echo?load_ms=600000", "").replace("\"model\"", "\"loading\"");
    let daemon = Daemon::launch(&format!("{busy}{many}{loading}"), &[]);
    let is_up = |status: &Status| {
        let idle = status.models.iter().flat_map(|model| &model.workers).filter(|worker| worker.state == "idle");
        idle.count() == 4 && status.models.iter().all(|model| model.template.is_some())
    };
    daemon.until("all but one have loaded", is_up);
    let mut clients = [daemon.client(), daemon.client()];
    let mut running: Vec<_> =
        clients.iter_mut().zip(["model", "many"]).map(|(client, name)| begin(client, name)).collect();
    for running in &mut running {
        assert!(running.read(2).unwrap());
    }
    // Three templates, four workers, and the spare of the busy one.
    until("all of them live", LIMIT, || process::started_by(daemon.pid()).len() == 8);
    daemon.signal(Signal::SIGKILL);
    until("nothing is left", LIMIT, || process::started_by(daemon.pid()).is_empty());
    for running in running {
        assert!(running.finish().is_err(), "the answer is not complete");
    }
}

fn begin<'a>(client: &'a mut Client, name: &str) -> Running<'a> {
    let request = GenerateRequest { model: Some(name.to_owned()), ignore_end: true, ..GenerateRequest::raw(WORDS) };
    Running::begin(client, request).unwrap()
}

#[test]
fn stopped_workers_do_not_outlive_a_killed_supervisor() {
    let daemon = Daemon::start(&model("builtin:echo?token_us=10000", "workers = 2"));
    let mut client = daemon.client();
    let mut running = Running::begin(&mut client, GenerateRequest::raw(WORDS)).unwrap();
    assert!(running.read(2).unwrap());
    let all = process::started_by(daemon.pid());
    for pid in all {
        process::kill(pid, Signal::SIGSTOP);
    }
    daemon.signal(Signal::SIGKILL);
    until("nothing is left", LIMIT, || process::started_by(daemon.pid()).is_empty());
}

/// The pids of all workers, which have nothing to do.
fn pids(daemon: &Daemon) -> BTreeSet<u32> {
    daemon.settle().models[0].workers.iter().filter_map(|worker| worker.pid).collect()
}

#[test]
fn each_request_has_a_process_of_its_own() {
    let daemon = Daemon::start(&model("builtin:echo", "workers = 2"));
    let mut before = pids(&daemon);
    let mut all = before.clone();
    for number in 1..=12 {
        generate(&daemon, GenerateRequest::raw("a few words")).unwrap();
        let after = pids(&daemon);
        assert_eq!(before.difference(&after).count(), 1, "what has served has gone: {before:?} {after:?}");
        let new: Vec<_> = after.difference(&before).collect();
        assert!(new.len() == 1 && all.insert(*new[0]), "{new:?} has been there before: {all:?}");
        assert_eq!(daemon.model().totals.answered, number);
        before = after;
    }
    let totals = daemon.model().totals;
    assert_eq!((totals.worker_crashes, totals.worker_exits), (0, 12));
    daemon.has_only_its_own();
}

#[test]
fn as_many_run_at_once_as_there_are_slots() {
    let daemon = Daemon::scripted("ok", "workers = 24");
    let mut clients: Vec<Client> = (0..30).map(|_| daemon.client()).collect();
    // None ends before all have been looked at.
    let text = "!stop@3?times=24 and more";
    let ask = |client| Running::begin(client, GenerateRequest::raw(text)).unwrap();
    let running: Vec<Running<'_>> = clients.iter_mut().map(ask).collect();
    let busy = |model: &ModelStatus| model.workers.iter().filter(|worker| worker.state == "busy").count();
    let model = daemon.until_model("all slots are busy", |model| busy(model) == 24);
    assert_eq!(model.queue.length, 6);
    let pids: BTreeSet<_> = model.workers.iter().filter_map(|worker| worker.request.as_ref().and(worker.pid)).collect();
    assert_eq!(pids.len(), 24, "each in a process of its own");
    until("each has come to its stop", LIMIT, || pids.iter().all(|pid| process::state(*pid) == Some('T')));
    for pid in pids {
        process::kill(pid, Signal::SIGCONT);
    }
    for running in running {
        let finished = running.finish().unwrap();
        assert_eq!((finished.text.as_str(), finished.done.attempts), (text, 1));
    }
    daemon.settle();
    daemon.has_only_its_own();
}

#[test]
fn a_worker_of_many_requests_stays() {
    let daemon = Daemon::start(&model("builtin:echo", "workers = 1\nisolation = \"worker\""));
    let before = pids(&daemon);
    for _ in 0..5 {
        generate(&daemon, GenerateRequest::raw("a few words")).unwrap();
        assert_eq!(pids(&daemon), before);
    }
    let model = daemon.settle().models.remove(0);
    assert_eq!((model.workers[0].generation, model.totals.worker_exits), (1, 0));
    assert_eq!(model.totals.answered, 5);
}

#[test]
fn a_worker_has_no_descriptors_but_its_own() {
    if !nix::unistd::geteuid().is_root() {
        skipped("only root sees the descriptors of a worker");
        return;
    }
    for (path, isolation) in [("builtin:echo", "request"), ("builtin:pocket", "worker")] {
        let settings = format!("workers = 3\nisolation = \"{isolation}\"");
        let daemon = Daemon::start(&model(path, &settings));
        // Also what is forked beside busy workers, and after some have gone.
        for _ in 0..4 {
            generate(&daemon, GenerateRequest { max_tokens: Some(3), ..GenerateRequest::raw("a few words") }).unwrap();
        }
        for worker in &daemon.settle().models[0].workers {
            let descriptors = process::descriptors(worker.pid.unwrap());
            let what: Vec<&str> =
                descriptors.values().map(|link| link.split_once(':').map_or(&**link, |(kind, _)| kind)).collect();
            assert_eq!(what, ["/dev/null", "/dev/null", "pipe", "socket"], "{descriptors:?}");
            assert!([0, 1, 2].iter().all(|number| descriptors.contains_key(number)), "{descriptors:?}");
        }
    }
}

#[test]
fn a_template_has_no_descriptors_but_its_own() {
    // Something that whoever starts the daemon forgot to close: it is not the model's to have.
    let _inherited = nix::unistd::dup(std::io::stdin()).unwrap();
    let daemon = Daemon::start(&model("builtin:echo", "workers = 3"));
    let pid = daemon.model().template.unwrap().pid;
    let before = process::descriptors(pid);
    for _ in 0..10 {
        generate(&daemon, GenerateRequest::raw("a few words")).unwrap();
    }
    daemon.settle();
    assert_eq!(process::descriptors(pid), before);
    let kinds: Vec<&str> = before.values().map(|link| link.split_once(':').map_or(&**link, |(kind, _)| kind)).collect();
    // Its control socket, the list of its own threads, and what tells how much memory it has.
    let (tasks, status) = (format!("/proc/{pid}/task"), format!("/proc/{pid}/status"));
    let expected = ["/dev/null", "/dev/null", "pipe", "socket", tasks.as_str(), status.as_str()];
    assert_eq!(kinds.iter().collect::<BTreeSet<_>>(), expected.iter().collect(), "{before:?}");
    assert_eq!(kinds.len(), expected.len(), "{before:?}");
}

#[test]
fn the_daemon_keeps_no_descriptor_of_what_has_ended() {
    for isolation in ["request", "worker"] {
        let daemon = Daemon::scripted("ok", &format!("workers = 2\nisolation = \"{isolation}\""));
        let round = |number: usize| {
            let ask = |text: String| generate(&daemon, GenerateRequest::raw(text));
            match number % 10 {
                3 => assert_eq!(ask(format!("!kill@3?times=1&as=k{number} x")).unwrap().done.attempts, 2),
                6 => assert_eq!(ask(format!("!garbage@3?times=1&as=g{number} x")).unwrap().done.attempts, 2),
                9 => {
                    let mut client = daemon.client();
                    let text = format!("!hang@3 {number}");
                    assert!(Running::begin(&mut client, GenerateRequest::raw(text)).unwrap().read(3).unwrap());
                }
                _ => assert_eq!(ask("some words".to_owned()).unwrap().done.attempts, 1),
            }
        };
        (0..10).for_each(round);
        daemon.has_only_its_own();
        daemon.settle();
        let mut before = 0;
        // The connection that asked for the status may not have been closed yet.
        until("the number is at rest", LIMIT, || {
            let count = process::descriptors(daemon.pid()).len();
            std::mem::replace(&mut before, count) == count
        });
        let memory = process::resident(daemon.pid()).unwrap();
        (10..210).for_each(round);
        daemon.has_only_its_own();
        daemon.settle();
        until("there are no more than before", LIMIT, || process::descriptors(daemon.pid()).len() <= before);
        assert_eq!(daemon.model().totals.cancelled, 21, "{isolation}");
        let grown = process::resident(daemon.pid()).unwrap().saturating_sub(memory);
        assert!(grown < 8 << 20, "{isolation}: {grown} bytes more");
    }
}
