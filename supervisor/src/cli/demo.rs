//! `supervisor demo`: the whole system in one command, on the built-in model, in a folder of its own.
//!
//! It is a client like any other: what it shows is what the daemon's socket and `kill -9` give to everybody.
use super::{error::CliError, print, table};
use ipc::{ChatMessage, Client, ClientError, Done, GenerateRequest, Prompt, RequestId, Response, Role, status::Status};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    env, fs,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};
use system::text::shorten;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Serve this many requests at once
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
}

/// Something that only this request was told, and the question that brings it out again.
struct Task {
    secret: &'static str,
    messages: &'static [(Role, &'static str)],
}

/// The first one is long enough to be interrupted.
const TASKS: [Task; 8] = [
    Task { secret: "Wren", messages: &[(Role::User, "Tell me a story about a fox named Wren.")] },
    Task { secret: "B8CV3", messages: &[(Role::User, "My code is B8CV3. The lamp is brown. What is my code?")] },
    Task { secret: "RK42P", messages: &[(Role::User, "My password is RK42P. What is my password?")] },
    Task { secret: "T7HNX", messages: &[(Role::User, "The key is T7HNX. It is Monday today. Tell me the key.")] },
    Task {
        secret: "W9QDE",
        messages: &[
            (Role::User, "Remember this: the token is W9QDE."),
            (Role::Assistant, "I will remember that."),
            (Role::User, "What is the token?"),
        ],
    },
    Task { secret: "violin", messages: &[(Role::User, "The secret word is violin. Repeat the secret word.")] },
    Task {
        secret: "M3ZKA",
        messages: &[(Role::User, "We eat soup at noon. My room number is M3ZKA. What is my room number?")],
    },
    Task { secret: "J6UYC", messages: &[(Role::User, "My code is J6UYC. What is my code?")] },
];

/// Pieces after which the worker of the first task is killed.
const KILL_AFTER: usize = 8;
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn run(arguments: Arguments) -> Result<(), CliError> {
    let folder = tempfile::Builder::new()
        .prefix("supervisor-demo-")
        .tempdir()
        .map_err(|error| CliError::Demo("make a temporary folder", error))?;
    let daemon = Daemon::start(folder.path(), arguments.workers)?;
    let ready = daemon.wait_until_ready()?;
    introduce(&ready, arguments.workers)?;
    let outcome = ask_all(&daemon.socket)?;
    let status = Client::connect(&daemon.socket)?.status()?;
    let again = answer(&daemon.socket, &TASKS[0], |_, _| {})?;
    report(&outcome, &status, &again)
}

/// A daemon of our own, ended with this value.
struct Daemon {
    process: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Daemon {
    fn start(folder: &Path, workers: u32) -> Result<Daemon, CliError> {
        let (socket, log) = (folder.join("supervisor.sock"), folder.join("log"));
        let failed = |error| CliError::Demo("start a daemon", error);
        let executable = env::current_exe().map_err(failed)?;
        let stderr = File::create(&log).map_err(failed)?;
        let process = Command::new(executable)
            .args(["run", "--model", "pocket=builtin:pocket", "--workers", &workers.to_string(), "--socket"])
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .map_err(failed)?;
        Ok(Daemon { process, socket, log })
    }

    /// Waits until every slot has an idle worker.
    fn wait_until_ready(&self) -> Result<Status, CliError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = Client::connect(&self.socket).and_then(|mut client| client.status());
            match status {
                Ok(status) if status.models.iter().all(|model| model.state == "failed") => break,
                Ok(status) if is_ready(&status) => return Ok(status),
                Ok(_) | Err(_) if Instant::now() < deadline => wait_a_little(),
                Ok(_) | Err(_) => break,
            }
        }
        Err(CliError::DemoDaemon(fs::read_to_string(&self.log).unwrap_or_default()))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = i32::try_from(self.process.id()).map(Pid::from_raw);
        // It may have ended already; either way it is waited for, so that its folder can go.
        let _told = pid.map(|pid| kill(pid, Signal::SIGTERM));
        let _ended = self.process.wait();
    }
}

fn is_ready(status: &Status) -> bool {
    status
        .models
        .iter()
        .all(|model| !model.workers.is_empty() && model.workers.iter().all(|worker| worker.state == "idle"))
}

#[expect(clippy::disallowed_methods, reason = "the daemon's socket does not exist yet, so there is nothing to wait on")]
fn wait_a_little() {
    thread::sleep(Duration::from_millis(10));
}

/// What came of one task.
struct Answer {
    request: RequestId,
    text: String,
    done: Done,
}

/// What came of all, and what was done to them.
struct Outcome {
    answers: Vec<Result<Answer, ClientError>>,
    killed: Option<Killed>,
    seconds: f64,
}

struct Killed {
    pid: u32,
    text: String,
}

/// Sends all tasks at once, and kills the worker of the first one in the middle of its answer.
fn ask_all(socket: &Path) -> Result<Outcome, CliError> {
    let started = Instant::now();
    let (begun, first) = mpsc::channel();
    thread::scope(|scope| {
        let mut threads = vec![scope.spawn(move || {
            let mut pieces = 0;
            answer(socket, &TASKS[0], |request, text| {
                pieces += 1;
                if pieces == KILL_AFTER {
                    let killed = kill_worker_of(socket, request).map(|pid| Killed { pid, text: text.to_owned() });
                    let _nobody_waits = begun.send(killed);
                }
            })
        })];
        threads.extend(TASKS[1..].iter().map(|task| scope.spawn(move || answer(socket, task, |_, _| {}))));
        let answers = threads.into_iter().map(|thread| thread.join().unwrap_or(Err(ClientError::Nonsense))).collect();
        let killed = first.try_recv().ok().flatten();
        Ok(Outcome { answers, killed, seconds: started.elapsed().as_secs_f64() })
    })
}

/// One answer; `seen` gets the request's number and the text so far with each piece.
fn answer(socket: &Path, task: &Task, mut seen: impl FnMut(RequestId, &str)) -> Result<Answer, ClientError> {
    let messages = task.messages.iter().map(|(role, content)| ChatMessage::new(*role, *content));
    let request = GenerateRequest::new(Prompt::Chat(messages.collect()));
    let (mut id, mut text) = (None, String::new());
    for response in Client::connect(socket)?.generate(request)? {
        match response? {
            Response::Accepted { request, .. } => id = Some(request),
            Response::Piece { text: piece, .. } => {
                text.push_str(&piece);
                seen(id.ok_or(ClientError::Nonsense)?, &text);
            }
            Response::Done(done) => {
                text.push_str(&done.text);
                return Ok(Answer { request: id.ok_or(ClientError::Nonsense)?, text, done });
            }
            _ => return Err(ClientError::Nonsense),
        }
    }
    Err(ClientError::Closed)
}

/// Ends the worker that serves this request, as an administrator or the kernel might.
fn kill_worker_of(socket: &Path, request: RequestId) -> Option<u32> {
    let status = Client::connect(socket).ok()?.status().ok()?;
    let mut workers = status.models.iter().flat_map(|model| &model.workers);
    let pid = workers.find(|worker| worker.request.as_deref() == Some(&request.to_string()))?.pid?;
    kill(Pid::from_raw(i32::try_from(pid).ok()?), Signal::SIGKILL).ok()?;
    Some(pid)
}

fn introduce(status: &Status, workers: u32) -> Result<(), CliError> {
    let mut text = String::new();
    for model in &status.models {
        let pids: Vec<String> =
            model.workers.iter().filter_map(|worker| worker.pid).map(|pid| pid.to_string()).collect();
        if let Some(template) = &model.template {
            text += &format!(
                "Process {} has loaded the model {} once, in {:.2} s. {} were forked from it: {}.\n",
                template.pid,
                model.name,
                template.load_s.unwrap_or_default(),
                if workers == 1 { "One worker".to_owned() } else { format!("{workers} workers") },
                pids.join(", ")
            );
        }
    }
    text += &format!(
        "\nNow {} requests come at once, each with a secret that no other request may see.\nOne worker is killed in the middle of its answer.\n\n",
        TASKS.len()
    );
    print(&text)
}

/// Shows what happened, and fails unless every answer is right and the interrupted one is whole.
fn report(outcome: &Outcome, status: &Status, again: &Answer) -> Result<(), CliError> {
    let mut wrong = Vec::new();
    let mut text = String::from("      REQUEST  WORKERS  SECRET   ANSWER\n");
    for (number, (task, answer)) in TASKS.iter().zip(&outcome.answers).enumerate() {
        match answer {
            Ok(answer) => {
                let right = is_right(number, &answer.text);
                if !right {
                    wrong.push(format!("request {} gave a wrong answer", answer.request));
                }
                text += &format!(
                    "{:5} {:8} {:7}  {:8} {}\n",
                    if right { "right" } else { "WRONG" },
                    answer.request.to_string(),
                    answer.done.attempts,
                    task.secret,
                    beginning(&answer.text)
                );
            }
            Err(error) => {
                wrong.push(format!("a request was not answered: {}", system::text::chain(error)));
                text += &format!("LOST                    {:8} {}\n", task.secret, system::text::chain(error));
            }
        }
    }
    text += &format!("\n{}\n{}", recovery(outcome, again, &mut wrong), table::render(status, None));
    text += &format!(
        "\n{} answers in {:.2} s, each from a process that has never seen another request.\n",
        outcome.answers.iter().filter(|answer| answer.is_ok()).count(),
        outcome.seconds
    );
    print(&text)?;
    if wrong.is_empty() { Ok(()) } else { Err(CliError::DemoFailed(wrong.join("; "))) }
}

/// What was done to the first request, and what came of it.
fn recovery(outcome: &Outcome, again: &Answer, wrong: &mut Vec<String>) -> String {
    let (Some(killed), Some(Ok(answer))) = (&outcome.killed, outcome.answers.first()) else {
        wrong.push("no worker could be killed in the middle of its answer".to_owned());
        return String::new();
    };
    let mut text =
        format!("kill -9 {} ended the worker of {} after {:?}.\n", killed.pid, answer.request, beginning(&killed.text));
    if answer.done.attempts != 2 {
        wrong.push(format!("{} workers served the interrupted request instead of 2", answer.done.attempts));
    }
    if answer.text == again.text {
        text += "Another worker went on from there. Asked again without a kill, the model gives the same text, byte for byte.\n";
    } else {
        wrong.push("the interrupted answer differs from an undisturbed one".to_owned());
    }
    text
}

/// An answer must hold its own secret and nobody else's.
fn is_right(number: usize, text: &str) -> bool {
    TASKS.iter().enumerate().all(|(other, task)| text.contains(task.secret) == (other == number))
}

/// The beginning of a text, on one line.
fn beginning(text: &str) -> String {
    const MOST: usize = 48;
    let line: String = text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    shorten(&line, MOST).into_owned()
}
