//! What the service manager is told, and when; and that nobody else gets to know of it.
use integration_tests::{Daemon, LIMIT, Manager, Running, Signal, generate, process, until};
use ipc::GenerateRequest;
use nix::{sys::ptrace, unistd::Pid};
use std::{collections::BTreeSet, fs, sync::mpsc, thread, time::Duration};

const FAST: &str = "[[model]]\nname = \"fast\"\npath = \"builtin:echo\"\nworkers = 1\n";
const SLOW: &str = "[[model]]\nname = \"slow\"\npath = \"builtin:echo?load_ms=1200\"\nworkers = 1\n";
const FAILS: &str = "[[model]]\nname = \"fails\"\npath = \"/nowhere\"\n";
const LAZY: &str = "[[model]]\nname = \"lazy\"\npath = \"builtin:echo\"\nload = \"lazy\"\n";

fn states(daemon: &Daemon) -> Vec<String> {
    daemon.status().models.into_iter().map(|model| model.state).collect()
}

fn has(heard: &[String], start: &str) -> bool {
    heard.iter().flat_map(|message| message.lines()).any(|line| line.starts_with(start))
}

#[test]
fn it_is_ready_when_every_model_is_served_or_cannot_be() {
    let manager = Manager::new();
    let daemon = Daemon::managed(&manager, &format!("{FAST}{SLOW}{FAILS}{LAZY}"), None);
    let heard = manager.until("READY=1");
    // A model that has failed may be tried again by now.
    assert_eq!([0, 1, 3].map(|at| states(&daemon)[at].clone()), ["warm", "warm", "cold"]);
    assert!(has(&heard, "EXTEND_TIMEOUT_USEC=15000000"), "loading may take its time: {heard:?}");
    let said = heard.iter().rev().find(|message| message.starts_with("STATUS=")).map_or("", |line| line);
    assert!(said.starts_with("STATUS=models: 2 warm"), "as it is then: {heard:?}");
    assert!(!has(&heard, "WATCHDOG"), "nobody watches: {heard:?}");
}

#[test]
fn a_daemon_of_lazy_models_is_ready_at_once() {
    let manager = Manager::new();
    let daemon = Daemon::managed(&manager, LAZY, None);
    let heard = manager.until("READY=1");
    assert!(!has(&heard, "EXTEND"), "there is nothing to wait for: {heard:?}");
    assert_eq!(states(&daemon), ["cold"]);
}

#[test]
fn a_reload_may_take_its_time_whatever_it_loads() {
    let manager = Manager::new();
    let daemon = Daemon::managed(&manager, LAZY, None);
    manager.until("READY=1");
    generate(&daemon, GenerateRequest::raw("to have it loaded")).unwrap();
    daemon.configure(&LAZY.replace("echo", "echo?load_ms=2500"));
    daemon.signal(Signal::SIGHUP);
    manager.until("RELOADING=1");
    manager.until("EXTEND_TIMEOUT_USEC=15000000");
    let heard = manager.until("READY=1");
    assert!(!has(&heard, "RELOADING"), "{heard:?}");
    // The one before may not have ended yet.
    assert_eq!(states(&daemon)[0], "warm");
}

#[test]
fn a_daemon_that_serves_nothing_is_never_ready() {
    let manager = Manager::new();
    let mut daemon = Daemon::managed(&manager, FAILS, None);
    assert_eq!(daemon.wait().code(), Some(1), "{}", daemon.log());
    let heard = manager.rest();
    assert!(!has(&heard, "READY"), "{heard:?}");
}

#[test]
fn the_end_is_announced_and_may_take_its_time() {
    let manager = Manager::new();
    let config = "[[model]]\nname = \"echo\"\npath = \"builtin:echo?token_us=4000\"\nworkers = 1\n";
    let mut daemon = Daemon::managed(&manager, config, None);
    manager.until("READY=1");
    let mut client = daemon.client();
    let text = "a long answer ".repeat(30);
    let mut running = Running::begin(&mut client, GenerateRequest::raw(text.as_str())).unwrap();
    assert!(running.read(1).unwrap());
    daemon.signal(Signal::SIGTERM);
    manager.until("STOPPING=1");
    manager.until("EXTEND_TIMEOUT_USEC=15000000");
    assert_eq!(running.finish().unwrap().text, text);
    assert!(daemon.wait().success());
    let heard = manager.rest();
    assert!(!has(&heard, "READY") && !has(&heard, "STOPPING"), "everything is said once: {heard:?}");
}

#[test]
fn the_watchdog_is_fed_while_it_works_and_its_work_is_shown() {
    let manager = Manager::new().watching(Duration::from_millis(90));
    let daemon = Daemon::managed(&manager, &FAST.replace("echo", "echo?token_us=4000"), None);
    manager.until("READY=1");
    let mut client = daemon.client();
    let endless = GenerateRequest { ignore_end: true, ..GenerateRequest::raw("endless") };
    let running = Running::begin(&mut client, endless).unwrap();
    manager.until("STATUS=models: 1 warm; workers: 1 of 1 busy; requests waiting: 0");
    for _ in 0..10 {
        manager.until("WATCHDOG=1");
    }
    drop(running);
    drop(client);
    manager.until("STATUS=models: 1 warm; workers: 0 of 1 busy; requests waiting: 0");
}

#[test]
fn a_manager_that_is_not_there_keeps_nobody_from_being_served() {
    let manager = Manager::new();
    fs::remove_file(manager.path("notify")).unwrap();
    let daemon = Daemon::managed(&manager, FAST, None);
    daemon.settle();
    assert_eq!(states(&daemon), ["warm"]);
}

#[test]
fn templates_and_workers_know_nothing_of_the_manager() {
    let manager = Manager::new().watching(Duration::from_secs(60));
    let socket = manager.path("supervisor.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let manager = manager.handing_over("supervisor.sock", listener);
    let daemon = Daemon::managed(&manager, FAST, Some(&socket));
    daemon.settle();
    let own = fs::read(format!("/proc/{}/environ", daemon.pid())).unwrap();
    assert!(String::from_utf8_lossy(&own).contains("LISTEN_FDS=1"), "there was something to be told");
    let handed_over = process::descriptors(daemon.pid())[&3].clone();
    assert!(handed_over.starts_with("socket:"), "{handed_over}");

    let children = process::started_by(daemon.pid());
    assert_eq!(children.len(), 2, "the template and its worker");
    for pid in children {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
        let environment = String::from_utf8(environment).unwrap();
        let names = environment.split_terminator('\0').map(|entry| entry.split('=').next().unwrap_or(entry));
        // glibc takes its own variable apart in place.
        let names: BTreeSet<&str> = names.filter(|name| !name.starts_with("glibc.")).collect();
        let expected = [
            "CANDLE_NUM_THREADS",
            "GLIBC_TUNABLES",
            "LC_ALL",
            "MALLOC_ARENA_MAX",
            "RAYON_NUM_THREADS",
            "RUST_BACKTRACE",
            "TOKENIZERS_PARALLELISM",
        ];
        assert_eq!(names, BTreeSet::from(expected));
        let open = process::descriptors(pid);
        assert!(!open.is_empty() && !open.values().any(|what| *what == handed_over), "{open:?}");
    }
}

#[test]
fn the_watchdog_is_not_fed_while_a_pool_has_nothing_but_processes_that_do_not_end() {
    // It takes as long as the core waits for what was killed, a minute.
    let manager = Manager::new().watching(Duration::from_millis(300));
    let daemon = Daemon::managed(&manager, &format!("{FAST}isolation = \"worker\"\nprogress_timeout = \"1s\"\n"), None);
    manager.until("READY=1");
    daemon.settle();
    let pid = daemon.model().workers[0].pid.unwrap();
    if !process::may_look_into(pid) {
        return;
    }
    let (sender, over) = mpsc::channel::<()>();
    thread::scope(|scope| {
        // A process that is traced and has been killed is not seen to end by its parent before the
        // thread that traces it has ended.
        scope.spawn(move || {
            ptrace::seize(Pid::from_raw(pid.cast_signed()), ptrace::Options::empty()).unwrap();
            assert!(process::kill(pid, Signal::SIGKILL));
            let _hung_up = over.recv();
        });
        until("its worker is dead", LIMIT, || process::state(pid) == Some('Z'));
        let mut client = daemon.client();
        let _asked = Running::begin(&mut client, GenerateRequest::raw("who will answer?")).unwrap();
        let complaints = || daemon.log().matches("nothing moves any more").count();
        until("its pool does not move", 4 * LIMIT, || {
            // What nobody reads is not said.
            manager.rest();
            complaints() > 0
        });
        manager.rest();
        until("it was to say that it lives", LIMIT, || complaints() > 4);
        assert!(!has(&manager.rest(), "WATCHDOG"), "it says that it lives and does not");
        drop(sender);
    });
    manager.until("WATCHDOG=1");
    daemon.settle();
}
