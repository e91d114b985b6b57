//! New configurations against the machine's memory: all models are counted by what they are to be.
use super::*;

/// The memory of this machine, in sixteenths of which the tests count.
fn sixteenth() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    system::proc::bytes(&meminfo, "MemTotal:").unwrap() / 16
}

/// A model of which each slot takes a sixteenth of all memory, and a bit.
fn counted(name: &str, options: &str, workers: u32) -> String {
    let path = format!("script:ok?cache={}{options}", sixteenth());
    model(&path, &format!("workers = {workers}")).replace("\"model\"", &format!("\"{name}\""))
}

fn config(one: u32, two: u32) -> String {
    format!("{}{}", counted("one", "", one), counted("two", "", two))
}

/// A daemon with these two models, if a sixteenth of the memory can be had here.
fn daemon(one: u32, two: u32) -> Option<Daemon> {
    let start = |one, two| Daemon::with(&config(one, two), &["--template-executable", &bad_worker().to_string_lossy()]);
    // A control group may allow less than the machine has.
    let all = start(9, 1).status();
    if let Some(model) = all.models.iter().find(|model| model.state != "warm") {
        skipped(&format!("less memory can be had here than the machine has: {:?}", model.error));
        return None;
    }
    Some(start(one, two))
}

#[test]
fn models_that_grow_together_must_fit_together() {
    let Some(daemon) = daemon(1, 1) else { return };
    // Each would fit beside what the other is now. Which of them is named says nothing.
    refuses(&daemon, &config(9, 9), 1, " of weights and 9 x (64.0 MiB for a worker + ");
    let slots = |status: &Status| status.models.iter().map(|model| model.workers.len()).collect::<Vec<_>>();
    assert_eq!(slots(&daemon.settle()), [1, 1]);
    // The same file is refused at a start too.
    let fresh = Daemon::with(&config(9, 9), &["--template-executable", &bad_worker().to_string_lossy()]);
    assert!(fresh.status().models.iter().any(|model| model.state == "failed"));
    reloads(&daemon, &config(9, 1), &["one: changed in place (workers)", "two: unchanged"]);
}

#[test]
fn one_may_grow_into_what_another_gives_up() {
    let Some(daemon) = daemon(9, 1) else { return };
    refuses(&daemon, &config(9, 9), 1, "two: it does not fit into memory: ");
    reloads(&daemon, &config(1, 9), &["one: changed in place (workers)", "two: changed in place (workers)"]);
    let status =
        daemon.until("all slots are there", |status| status.models.iter().map(|model| model.workers.len()).eq([1, 9]));
    assert!(status.models.iter().all(|model| model.state == "warm"));
    daemon.settle();
    daemon.has_only_its_own();
}

#[test]
fn what_is_loaded_anew_must_fit_beside_what_others_are_to_be() {
    let Some(daemon) = daemon(1, 1) else { return };
    let other = counted("two", "&token_us=1", 9);
    refuses(&daemon, &format!("{}{other}", counted("one", "", 9)), 1, "two: it does not fit into memory: ");
    daemon.until("what was tried has gone", |status| status.models.len() == 2);
    // What one has now counts too while the other loads: it may still be used then.
    let Some(daemon) = self::daemon(9, 1) else { return };
    refuses(&daemon, &format!("{}{other}", counted("one", "", 1)), 1, "two: it does not fit into memory: ");
}

#[test]
fn a_model_that_can_never_be_loaded_is_refused() {
    let Some(daemon) = daemon(1, 1) else { return };
    let lazy = |workers| format!("{}load = \"lazy\"\n", counted("later", "", workers));
    refuses(&daemon, &format!("{}{}", config(1, 1), lazy(16)), 1, "later: it does not fit into memory: ");
    // What else is there when it is asked for is known only then.
    let lines =
        ["one: changed in place (workers)", "two: unchanged", "later: added, to be loaded when it is asked for"];
    reloads(&daemon, &format!("{}{}", config(8, 1), lazy(9)), &lines);
}
