//! From outside: what the kernel says of the real templates and workers.
use integration_tests::{Daemon, LIMIT, Running, minilm, model, process, until};
use ipc::{GenerateRequest, status::Status};
use std::fs;
use system::proc;

/// A field of `/proc/PID/status` or of a thread's.
#[track_caller]
fn field(folder: &str, name: &str) -> String {
    let text = fs::read_to_string(format!("{folder}/status")).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("there is no {name}: {text}")).trim().to_owned()
}

/// Bytes, where the field has kilobytes.
fn bytes(folder: &str, name: &str) -> u64 {
    let text = fs::read_to_string(format!("{folder}/status")).unwrap();
    proc::bytes(&text, &format!("{name}:")).unwrap()
}

#[track_caller]
fn assert_filtered(folder: &str) {
    // Mode 2 is a filter.
    assert_eq!((field(folder, "NoNewPrivs").as_str(), field(folder, "Seccomp").as_str()), ("1", "2"), "{folder}");
}

#[test]
fn every_thread_of_every_process_is_filtered() {
    let models = [model("builtin:pocket", "workers = 1"), minilm_model()].concat();
    let daemon = Daemon::start(&format!("[supervisor]\ncores = 3\n{models}"));
    let mut client = daemon.client();
    let request = GenerateRequest { model: Some("model".to_owned()), ignore_end: true, ..GenerateRequest::raw("One") };
    let mut running = Running::begin(&mut client, request).unwrap();
    // Its helpers are made with its first tokens.
    assert!(running.read(20).unwrap());
    let status = daemon.status();
    for model in &status.models {
        assert_filtered(&format!("/proc/{}", model.template.as_ref().unwrap().pid));
        for pid in model.workers.iter().filter_map(|worker| worker.pid) {
            // It may be one that is about to be confined, or to end.
            let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
            for thread in threads {
                assert_filtered(thread.unwrap().path().to_str().unwrap());
            }
        }
    }
}

fn minilm_model() -> String {
    format!("[[model]]\nname = \"minilm\"\npath = {:?}\nworkers = 1\n", minilm())
}

#[test]
fn a_worker_is_limited_and_goes_first_when_memory_runs_out() {
    let daemon = Daemon::start(&model("builtin:pocket", "workers = 1\nmemory_per_worker = \"100MiB\""));
    let model = daemon.model();
    let worker = format!("/proc/{}", model.workers[0].pid.unwrap());
    let limits = fs::read_to_string(format!("{worker}/limits")).unwrap();
    let limit = |name: &str| -> u64 {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{limits}"));
        line.split_ascii_whitespace().next().unwrap().parse().unwrap()
    };
    assert_eq!((limit("Max core file size"), limit("Max file size"), limit("Max locked memory")), (0, 0, 0));
    assert_eq!(limit("Max open files"), 16);
    // What it may have is 100 MiB more than it was born with, and it has hardly taken anything yet.
    let left = limit("Max data size") - bytes(&worker, "VmData");
    assert!((99 << 20..=100 << 20).contains(&left), "{left} bytes are left to it");
    let score = |pid: u32| fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().parse::<i32>();
    assert_eq!(score(model.workers[0].pid.unwrap()), Ok(500));
    assert!(score(model.template.unwrap().pid).unwrap() < 500);
    // It leads a group of its own, and no other process of its user may look into it: its files are
    // root's.
    assert_eq!(field(&worker, "NSpgid"), field(&worker, "NSpid"));
}

#[test]
fn real_processes_have_the_descriptors_that_are_meant_for_them() {
    let models = [model("builtin:pocket", "workers = 1"), minilm_model()].concat();
    let daemon = Daemon::start(&models);
    let open = |pid: u32| -> Vec<String> {
        let links = process::descriptors(pid).into_values();
        links.map(|link| link.split(':').next().unwrap_or_default().to_owned()).collect()
    };
    let standard = ["/dev/null", "/dev/null", "pipe", "socket"];
    let models = daemon.settle().models;
    if !process::may_look_into(models[0].workers[0].pid.unwrap()) {
        return;
    }
    for model in models {
        let template = model.template.unwrap().pid;
        let own = ["task", "status"].map(|name| format!("/proc/{template}/{name}"));
        assert_eq!(open(template), [&standard.map(str::to_owned)[..], &own].concat());
    }
    let busy = |status: &Status| {
        let workers = status.models.iter().flat_map(|model| &model.workers);
        workers.filter(|worker| worker.state == "busy").find_map(|worker| worker.pid)
    };
    // In the middle of an answer it has had its request's cache, too. If that is over before it was
    // looked at, there is another one.
    until("a worker was looked at in the middle of an answer", LIMIT, || {
        let mut client = daemon.client();
        let model = Some("model".to_owned());
        let request = GenerateRequest { model, ignore_end: true, ..GenerateRequest::raw("One") };
        let mut running = Running::begin(&mut client, request).unwrap();
        assert!(running.read(3).unwrap());
        let Some(pid) = busy(&daemon.status()) else { return false };
        let seen = open(pid);
        let is_it = busy(&daemon.status()) == Some(pid);
        assert!(!is_it || seen == standard, "{seen:?}");
        is_it
    });
    let idle = daemon.settle().models.into_iter().flat_map(|model| model.workers);
    let idle: Vec<u32> = idle.filter_map(|worker| worker.pid).collect();
    assert_eq!(idle.len(), 2);
    idle.into_iter().for_each(|pid| assert_eq!(open(pid), standard));
}
