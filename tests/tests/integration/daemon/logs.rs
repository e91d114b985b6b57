//! The daemon's log: what it says of each request, in which forms, what it never says, and that
//! nobody waits for whoever reads it.
mod forms;
mod lines;
mod outcomes;
mod prompts;
mod unheard;

use integration_tests::{Daemon, LIMIT, until};
use serde_json::{Map, Value};

/// A line of a log in JSON.
type Line = Map<String, Value>;

/// A daemon that serves the echo model as `echo`, with a log in JSON.
fn echo(options: &str, settings: &str) -> Daemon {
    Daemon::start(&format!(
        "[supervisor]\nlog_format = \"json\"\n{settings}\n\
         [[model]]\nname = \"echo\"\npath = \"builtin:echo?{options}\"\nworkers = 1\n"
    ))
}

/// All lines, each of which must be an object.
fn all(daemon: &Daemon) -> Vec<Line> {
    let text = daemon.log();
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
    whole.lines().map(parse).collect()
}

/// The lines about requests, once there are so many.
#[track_caller]
fn requests(daemon: &Daemon, count: usize) -> Vec<Line> {
    let found = || all(daemon).into_iter().filter(|line| line.contains_key("outcome")).collect::<Vec<_>>();
    until("each request has its line", LIMIT, || found().len() >= count);
    let found = found();
    assert_eq!(found.len(), count, "{found:#?}");
    found
}

/// The text of a field.
#[track_caller]
fn text<'a>(line: &'a Line, key: &str) -> &'a str {
    line.get(key).and_then(Value::as_str).unwrap_or_else(|| panic!("{key} is no text in {line:#?}"))
}

/// The number of a field.
#[track_caller]
fn number(line: &Line, key: &str) -> f64 {
    line.get(key).and_then(Value::as_f64).unwrap_or_else(|| panic!("{key} is no number in {line:#?}"))
}
