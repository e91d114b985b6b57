//! New configurations: what did not change is untouched, what did is replaced while it serves, and
//! what cannot be served changes nothing.
mod file;
mod lazy;
mod memory;
mod split;

use integration_tests::{
    Call, Daemon, Ended, Held, LIMIT, Running, Signal, bad_worker, generate, held, model, process, skipped, until,
};
use ipc::{
    Client, ClientError, FailureKind, GenerateRequest,
    status::{ModelStatus, Status},
};
use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

/// A text that takes a while.
const TEXT: &str = "some words that take a while to be said, so that something can happen before their end";

fn reload(daemon: &Daemon) -> Ended {
    Call::new(["reload"]).to(daemon.socket()).run()
}

/// Has the daemon reload, which must do exactly this.
#[track_caller]
fn reloads(daemon: &Daemon, config: &str, lines: &[&str]) {
    daemon.configure(config);
    let ended = reload(daemon);
    assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""), "{}", daemon.log());
    let said: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(said.len(), lines.len(), "{said:?}");
    for (said, line) in said.iter().zip(lines) {
        let (before, after) = line.split_once("TIME").unwrap_or((line, ""));
        assert!(said.starts_with(before) && said.ends_with(after), "{said:?} instead of {line:?}");
    }
}

/// Has the daemon reload, which must be refused with this status and these words.
#[track_caller]
fn refuses(daemon: &Daemon, config: &str, code: i32, words: &str) {
    let before = daemon.status().models.len();
    daemon.configure(config);
    let ended = reload(daemon);
    assert_eq!((ended.code(), ended.stdout.as_str()), (code, ""), "{ended:?}\n{}", daemon.log());
    assert!(ended.stderr.contains("nothing has changed: ") && ended.stderr.contains(words), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    let error = daemon.status().reload_error.unwrap_or_default();
    assert!(error.contains(words), "{error}");
    daemon.until("what was tried has gone", |status| status.models.len() <= before);
}

fn echo(name: &str, options: &str, settings: &str) -> String {
    model(&format!("builtin:echo?{options}"), settings).replace("\"model\"", &format!("\"{name}\""))
}

fn scripted(name: &str, options: &str, settings: &str) -> String {
    model(&format!("script:ok?{options}"), settings).replace("\"model\"", &format!("\"{name}\""))
}

fn ask(daemon: &Daemon, name: &str) -> Result<String, ClientError> {
    let request = GenerateRequest { model: Some(name.to_owned()), ..GenerateRequest::raw("text") };
    generate(daemon, request).map(|finished| finished.text)
}

fn named<'a>(status: &'a Status, name: &str) -> &'a ModelStatus {
    status.models.iter().find(|model| model.name == name).unwrap()
}

/// The processes of a model.
fn pids(model: &ModelStatus) -> Vec<Option<u32>> {
    let template = model.template.as_ref().map(|template| template.pid);
    std::iter::once(template).chain(model.workers.iter().map(|worker| worker.pid)).collect()
}

fn generation(model: &ModelStatus) -> u64 {
    model.template.as_ref().map_or(0, |template| template.generation)
}

/// Which process a model's template is. What it takes of the memory is another number at each look.
fn template(model: &ModelStatus) -> Option<(u32, u64)> {
    model.template.as_ref().map(|template| (template.pid, template.generation))
}

#[test]
fn what_has_not_changed_is_untouched() {
    let (one, two) = (scripted("one", "", "workers = 2"), echo("two", "", "workers = 1"));
    let daemon = Daemon::scriptable(&format!("{one}{two}"));
    let before = daemon.status();
    let mut client = daemon.client();
    let asked = GenerateRequest { model: Some("one".to_owned()), ..GenerateRequest::raw(held(1)) };
    let running = Running::begin(&mut client, asked).unwrap();
    let busy = Held::wait(&daemon, running.request());
    let serving = daemon.worker_of(running.request());
    reloads(&daemon, &format!("{one}{two}"), &["one: unchanged", "two: unchanged"]);
    let after = daemon.status();
    assert_eq!(pids(named(&after, "two")), pids(named(&before, "two")));
    let one = named(&after, "one");
    assert_eq!(template(one), template(named(&before, "one")));
    assert!(one.workers.iter().any(|worker| (worker.pid, worker.generation) == (serving.pid, serving.generation)));
    busy.release();
    let finished = running.finish().unwrap();
    assert_eq!((finished.text, finished.done.attempts), (held(1), 1));
    daemon.settle();
    daemon.has_only_its_own();
}

#[test]
fn a_model_that_changes_is_replaced_while_it_serves() {
    for isolation in ["request", "worker"] {
        let settings = format!("workers = 1\nisolation = \"{isolation}\"");
        let daemon = Daemon::scriptable(&scripted("echo", "token_us=100", &settings));
        let old = daemon.model();
        let (mut first, mut second) = (daemon.client(), daemon.client());
        let running = Running::begin(&mut first, GenerateRequest::raw(held(1))).unwrap();
        let busy = Held::wait(&daemon, running.request());
        let waiting = Running::begin(&mut second, GenerateRequest::raw("waiting")).unwrap();
        reloads(&daemon, &scripted("echo", "token_us=101", &settings), &["echo: replaced, loaded in TIME (path)"]);
        // What waited is answered by the new one while the old one still finishes what it had
        // begun.
        assert_eq!(waiting.finish().unwrap().text, "waiting");
        let status = daemon.status();
        let states: Vec<&str> = status.models.iter().map(|model| model.state.as_str()).collect();
        assert_eq!(states, ["warm", "draining"]);
        assert_eq!((generation(&status.models[0]), generation(&status.models[1])), (2, 1));
        assert_eq!(ask(&daemon, "echo").unwrap(), "text");
        busy.release();
        let finished = running.finish().unwrap();
        assert_eq!((finished.text, finished.done.attempts), (held(1), 1));
        let new = daemon.until("the old one has gone", |status| status.models.len() == 1).models.remove(0);
        assert!(!pids(&new).iter().any(|pid| pids(&old).contains(pid)));
        assert_eq!((new.totals.accepted, new.totals.answered, new.totals.worker_crashes), (3, 3, 0), "{isolation}");
        daemon.settle();
        daemon.has_only_its_own();
    }
}

#[test]
fn a_killed_worker_of_the_old_model_is_replaced_by_one_of_the_old_model() {
    let daemon = Daemon::scriptable(&scripted("echo", "token_us=100", "workers = 1"));
    let mut client = daemon.client();
    let running = Running::begin(&mut client, GenerateRequest::raw(held(1))).unwrap();
    let busy = Held::wait(&daemon, running.request());
    reloads(&daemon, &scripted("echo", "token_us=101", "workers = 1"), &["echo: replaced, loaded in TIME (path)"]);
    process::kill(busy.pid(), Signal::SIGKILL);
    let finished = running.finish().unwrap();
    assert_eq!((finished.text, finished.done.attempts), (held(1), 2));
    daemon.until("the old one has gone", |status| status.models.len() == 1);
    let model = daemon.settle().models.remove(0);
    assert_eq!((model.totals.answered, model.totals.resumed, model.totals.worker_crashes), (1, 1, 1));
    daemon.has_only_its_own();
}

#[test]
fn a_file_that_was_replaced_is_loaded_and_the_answer_that_runs_is_undisturbed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pocket.gguf");
    let pocket = concat!(env!("CARGO_MANIFEST_DIR"), "/../worker/pocket");
    fs::copy(format!("{pocket}/pocket-q8_0.gguf"), &path).unwrap();
    let config = model(&path.display().to_string(), "workers = 2");
    let daemon = Daemon::start(&config);
    let long = || GenerateRequest { ignore_end: true, ..GenerateRequest::raw("Once upon a time") };
    let undisturbed = generate(&daemon, long()).unwrap();
    let mut client = daemon.client();
    let mut running = Running::begin(&mut client, long()).unwrap();
    assert!(running.read(1).unwrap());
    // As an upgrade does it: the new file takes the old one's name.
    let new = folder.path().join("new");
    fs::copy(format!("{pocket}/pocket-q4_k_m.gguf"), &new).unwrap();
    fs::rename(new, &path).unwrap();
    reloads(&daemon, &config, &["model: replaced, loaded in TIME (the files themselves)"]);
    assert_eq!(running.finish().unwrap().tokens, undisturbed.tokens);
    daemon.until("the old one has gone", |status| status.models.len() == 1);
    assert_ne!(generate(&daemon, long()).unwrap().tokens, undisturbed.tokens, "they are other weights");
    reloads(&daemon, &config, &["model: unchanged"]);
}

#[test]
fn what_is_broken_changes_nothing_and_says_why() {
    let good = echo("good", "token_us=5000", "workers = 1");
    let daemon = Daemon::start(&good);
    let before = daemon.model();
    let mut client = daemon.client();
    let mut running = Running::begin(&mut client, GenerateRequest::raw(TEXT)).unwrap();
    assert!(running.read(2).unwrap());
    refuses(&daemon, &format!("{good}worker = 2\n"), 2, "config.toml:5: unknown key \"worker\" in [[model]]");
    refuses(&daemon, &model("/nowhere.gguf", ""), 1, "model: cannot open the model /nowhere.gguf");
    // All of a configuration or nothing of it: what could be served is not there either.
    let fine = echo("fine", "", "workers = 1");
    let bad = model("builtin:echo?context=7", "context = 8");
    refuses(&daemon, &format!("{good}{fine}{bad}"), 1, "model: ");
    assert!(
        matches!(ask(&daemon, "fine"), Err(ClientError::Failed(failure)) if failure.kind == FailureKind::UnknownModel)
    );
    daemon.until("what was tried has gone", |status| status.models.len() == 1);
    assert_eq!(running.finish().unwrap().text, TEXT);
    assert_eq!(template(&daemon.model()), template(&before));
    reloads(&daemon, &good, &["good: unchanged"]);
    let status = daemon.settle();
    assert_eq!((status.reload_error, status.models[0].totals.worker_crashes), (None, 0));
    daemon.has_only_its_own();
}

#[test]
fn models_whose_workers_do_not_start_or_that_crash_while_they_load_change_nothing() {
    let executable = bad_worker().to_string_lossy().into_owned();
    let good = model("script:ok", "workers = 1");
    let daemon = Daemon::with(&good, &["--template-executable", &executable]);
    let before = template(&daemon.model());
    for script in ["kill@load", "crash@birth", "exit-7@go"] {
        let bad = model(&format!("script:{script}"), "workers = 1");
        refuses(&daemon, &bad, 1, "model: a process of it ended by ");
        assert_eq!(ask(&daemon, "model").unwrap(), "text");
    }
    daemon.until("what was tried has gone", |status| status.models.len() == 1);
    assert_eq!(template(&daemon.model()), before);
    daemon.has_only_its_own();
}

#[test]
fn two_that_do_not_fit_into_memory_at_once_are_refused_with_the_arithmetic() {
    let executable = bad_worker().to_string_lossy().into_owned();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let total = system::proc::bytes(&meminfo, "MemTotal:").unwrap();
    // More than half of all memory: one of them fits.
    let weights = total / 8 * 5;
    let config =
        |context: u32| model(&format!("script:ok?weights={weights}"), &format!("workers = 1\ncontext = {context}"));
    let daemon = Daemon::with(&config(100), &["--template-executable", &executable]);
    let before = daemon.model();
    if before.state != "warm" {
        skipped(&format!("a control group allows less than the machine has: {:?}", before.error));
        return;
    }
    refuses(&daemon, &config(101), 1, "it does not fit into memory: ");
    assert_eq!(template(&daemon.model()), template(&before));
    assert_eq!(ask(&daemon, "model").unwrap(), "text");
}

#[test]
fn models_come_and_go() {
    let (stays, goes) = (echo("stays", "", "workers = 1"), echo("goes", "token_us=5000", "workers = 1"));
    let daemon = Daemon::start(&format!("{stays}{goes}"));
    let before = daemon.status();
    let (mut first, mut second) = (daemon.client(), daemon.client());
    let begin = |client| {
        let asked = GenerateRequest { model: Some("goes".to_owned()), ..GenerateRequest::raw(TEXT) };
        Running::begin(client, asked).unwrap()
    };
    let (mut running, waiting) = (begin(&mut first), begin(&mut second));
    assert!(running.read(2).unwrap());
    let (comes, later) = (echo("comes", "", "workers = 1"), echo("later", "", "workers = 1\nload = \"lazy\""));
    let lines = [
        "comes: added, loaded in TIME",
        "stays: unchanged",
        "later: added, to be loaded when it is asked for",
        "goes: removed; what was admitted is finished",
    ];
    reloads(&daemon, &format!("{comes}{stays}{later}"), &lines);
    let Err(ClientError::Failed(failure)) = ask(&daemon, "goes") else { panic!("it is served") };
    assert_eq!(failure.kind, FailureKind::UnknownModel);
    assert_eq!(failure.message, "there is no model \"goes\"; there is: comes, stays, later");
    for name in ["comes", "stays", "later"] {
        assert_eq!(ask(&daemon, name).unwrap(), "text");
    }
    assert_eq!(running.finish().unwrap().text, TEXT);
    assert_eq!(waiting.finish().unwrap().text, TEXT);
    daemon.until("what was removed has gone", |status| status.models.len() == 3);
    let after = daemon.settle();
    assert_eq!(template(named(&after, "stays")), template(named(&before, "stays")));
    daemon.has_only_its_own();
}

#[test]
fn what_needs_no_other_template_is_changed_in_place() {
    let config = |workers: u32, more: &str| format!("{more}{}", scripted("echo", "", &format!("workers = {workers}")));
    let daemon = Daemon::scriptable(&config(1, ""));
    let before = template(&daemon.model());
    let (mut one, mut two, mut three) = (daemon.client(), daemon.client(), daemon.client());
    let begin = |client| Running::begin(client, GenerateRequest::raw(held(3))).unwrap();
    let mut running = vec![begin(&mut one), begin(&mut two), begin(&mut three)];
    reloads(&daemon, &config(3, ""), &["echo: changed in place (workers)"]);
    daemon.until_model("all three run", |model| {
        model.workers.iter().filter(|worker| worker.state == "busy").count() == 3
    });
    let refuse = "[supervisor]\nqueue = 0\n";
    reloads(&daemon, &config(1, refuse), &["echo: changed in place (workers and queue)"]);
    let Err(ClientError::Failed(failure)) = ask(&daemon, "echo") else { panic!("it is admitted") };
    assert_eq!(failure.kind, FailureKind::Busy, "the queue is full from now on");
    running.iter().for_each(|running| Held::wait(&daemon, running.request()).release());
    for running in running.drain(..) {
        let finished = running.finish().unwrap();
        assert_eq!((finished.text, finished.done.attempts), (held(3), 1), "what runs is finished in any slot");
    }
    let model = daemon.until_model("one slot is left", |model| model.workers.len() == 1);
    assert_eq!(template(&model), before);
    daemon.settle();
    daemon.has_only_its_own();
}

#[test]
fn a_signal_reloads_and_what_cannot_be_changed_is_said() {
    let config = |more: &str, options: &str| format!("{more}{}", echo("echo", options, "workers = 1"));
    let daemon = Daemon::start(&config("", ""));
    daemon.configure(&config("", "token_us=10"));
    daemon.signal(Signal::SIGHUP);
    daemon.until("it is replaced", |status| generation(&status.models[0]) == 2 && status.models[0].state == "warm");
    daemon.configure("this is no configuration");
    daemon.signal(Signal::SIGHUP);
    daemon.until("it is refused", |status| status.reload_error.is_some());
    let lines = ["echo: unchanged", "cores: as before until the supervisor is started again"];
    reloads(&daemon, &config("[supervisor]\ncores = 1\n", "token_us=10"), &lines);
}

#[test]
fn reloads_that_come_together_follow_each_other() {
    let config = |options: &str| echo("echo", options, "workers = 1");
    let daemon = Daemon::start(&config(""));
    daemon.configure(&config("load_ms=700"));
    thread::scope(|scope| {
        let first = scope.spawn(|| reload(&daemon));
        daemon.until("it loads", |status| status.state == "reloading" && status.models.len() == 2);
        // The second and the third read what the file says when the first is done.
        daemon.configure(&config("load_ms=1"));
        let others = [scope.spawn(|| reload(&daemon)), scope.spawn(|| reload(&daemon))];
        assert!(first.join().unwrap().stdout.starts_with("echo: replaced, loaded in "));
        for other in others {
            let ended = other.join().unwrap();
            let is_told =
                ["echo: replaced, loaded in ", "echo: unchanged"].iter().any(|line| ended.stdout.starts_with(line));
            assert!(is_told && ended.code() == 0, "{ended:?}");
        }
    });
    let model = daemon.until("only the last is left", |status| status.models.len() == 1).models.remove(0);
    assert_eq!((model.path.as_str(), generation(&model)), ("builtin:echo?load_ms=1", 3));
}

#[test]
fn nothing_goes_on_with_another_models_files() {
    let executable = bad_worker().to_string_lossy().into_owned();
    let daemon = Daemon::with(&model("script:ok", "workers = 1"), &["--template-executable", &executable]);
    let (mut first, mut second) = (daemon.client(), daemon.client());
    let mut running = Running::begin(&mut first, GenerateRequest::raw("!hang@3 half of it")).unwrap();
    assert!(running.read(3).unwrap());
    let waiting = Running::begin(&mut second, GenerateRequest::raw("!kill@prompt?times=1 not begun")).unwrap();
    let spare =
        |model: &ModelStatus| model.workers.iter().find(|worker| worker.state == "spare").and_then(|worker| worker.pid);
    let old = spare(&daemon.until_model("a spare stands by", |model| spare(model).is_some())).unwrap();
    // The model's file changes on disk, and then its template dies.
    fs::write(daemon.folder().join("script:ok"), "other weights").unwrap();
    let template = |model: &ModelStatus| model.template.as_ref().map(|template| template.pid);
    process::kill(template(&daemon.model()).unwrap(), Signal::SIGKILL);
    daemon.until_model("another one is there", |model| generation(model) == 2 && model.state == "warm");
    // So does the spare that could have gone on.
    process::kill(old, Signal::SIGKILL);
    daemon.until_model("another spare is there", |model| spare(model).is_some_and(|pid| pid != old));
    process::kill(daemon.pid_of(running.request()), Signal::SIGKILL);
    match running.finish() {
        Err(ClientError::Failed(failure)) => {
            assert_eq!(failure.kind, FailureKind::ModelChanged);
            assert!(failure.retry_after_ms.is_some(), "{failure:?}");
        }
        other => panic!("{other:?} goes on with other weights"),
    }
    // What nothing had been sent of begins anew, also after a death.
    let finished = waiting.finish().unwrap();
    assert_eq!((finished.text.as_str(), finished.done.attempts), ("!kill@prompt?times=1 not begun", 2));
    let totals = daemon.settle().models.remove(0).totals;
    assert_eq!((totals.failed, totals.answered, totals.replayed, totals.resumed), (1, 1, 1, 0));
    daemon.has_only_its_own();
}

#[test]
fn an_old_spare_goes_on_with_what_the_old_model_began() {
    let executable = bad_worker().to_string_lossy().into_owned();
    let daemon = Daemon::with(&model("script:ok", "workers = 1"), &["--template-executable", &executable]);
    let mut client = daemon.client();
    let prompt = "!hang@3?times=1 half of it";
    let mut running = Running::begin(&mut client, GenerateRequest::raw(prompt)).unwrap();
    assert!(running.read(3).unwrap());
    daemon.until_model("a spare stands by", |model| model.workers.iter().any(|worker| worker.state == "spare"));
    fs::write(daemon.folder().join("script:ok"), "other weights").unwrap();
    process::kill(daemon.model().template.unwrap().pid, Signal::SIGKILL);
    daemon.until_model("another template is there", |model| generation(model) == 2 && model.state == "warm");
    process::kill(daemon.pid_of(running.request()), Signal::SIGKILL);
    let finished = running.finish().unwrap();
    assert_eq!((finished.text.as_str(), finished.done.attempts), (prompt, 2));
    daemon.settle();
    daemon.has_only_its_own();
}

#[test]
fn requests_flow_while_a_model_is_replaced_again_and_again() {
    let config = |number: usize| echo("echo", &format!("token_us={}", 200 + number), "workers = 2");
    let daemon = Daemon::start(&config(0));
    let ask = |client: &mut Client, text: &str| Running::begin(client, GenerateRequest::raw(text))?.finish();
    let answered = AtomicUsize::new(0);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let (daemon, ask, answered) = (&daemon, &ask, &answered);
                scope.spawn(move || {
                    let mut connection = daemon.client();
                    for number in 0..60 {
                        let text = format!("request {number} of client {client}, which takes a while");
                        assert_eq!(ask(&mut connection, &text).unwrap().text, text);
                        answered.fetch_add(1, Relaxed);
                    }
                })
            })
            .collect();
        let mut number = 0;
        let is_over = || clients.iter().all(|client| client.is_finished());
        while !is_over() {
            number += 1;
            daemon.configure(&config(number));
            assert_eq!(reload(&daemon).code(), 0);
            let before = answered.load(Relaxed);
            until("some more are answered", LIMIT, || answered.load(Relaxed) > before + 10 || is_over());
        }
        assert!(number > 1);
    });
    daemon.until("only the last is left", |status| status.models.len() == 1);
    let totals = daemon.settle().models.remove(0).totals;
    assert_eq!((totals.accepted, totals.answered, totals.worker_crashes), (240, 240, 0));
    daemon.has_only_its_own();
}
