//! What came of the show: every answer, what was recovered, and the daemon's status.
use super::{
    AGAIN,
    column::{cut, wrapped},
    conversation::Conversation,
    task::is_right,
};
use crate::cli::{error::CliError, print, table};
use ipc::{Done, status::Status};
use std::time::Duration;
use system::foreign_text::chain;

/// Longest part of an answer that a line shows.
const SHORT: usize = 51;

/// Shows what happened, and fails unless every answer is right and the interrupted one is whole.
pub(super) fn report(
    conversations: &[Conversation],
    seconds: f64,
    pause: Duration,
    status: &Status,
    width: Option<usize>,
) -> Result<(), CliError> {
    let mut wrong = Vec::new();
    let mut text = answers(&conversations[..AGAIN], width, &mut wrong);
    let recovery = recovery(&conversations[0], &conversations[AGAIN], &mut wrong);
    text += &format!("\n{}\n{}\n", wrapped(&recovery, width), table::render(status, width));
    if let Some(milliseconds) = conversations[AGAIN].answer().and_then(milliseconds_per_token) {
        let pause = pause.as_millis();
        let words = format!("One token took {milliseconds:.1} ms, {pause} ms of it the pause.");
        text += &wrapped(&words, width);
    }
    let answered = conversations[..AGAIN].iter().filter(|conversation| conversation.answer().is_some()).count();
    let verdict = if wrong.is_empty() { "All right: " } else { "" };
    let words = format!(
        "{verdict}{answered} answers in {seconds:.2} s, each from a process that has never seen another request."
    );
    text += &wrapped(&words, width);
    print(&text)?;
    if wrong.is_empty() { Ok(()) } else { Err(CliError::DemoFailed(wrong.join("; "))) }
}

/// One line for each answer.
fn answers(conversations: &[Conversation], width: Option<usize>, wrong: &mut Vec<String>) -> String {
    let mut text = String::from("      REQUEST  WORKERS  SECRET   ANSWER\n");
    for (number, conversation) in conversations.iter().enumerate() {
        let request = conversation.request.map(|request| request.to_string()).unwrap_or_default();
        let (verdict, attempts, answer) = match &conversation.outcome {
            Some(Ok(done)) => {
                let answer = conversation.text();
                let right = is_right(number, &answer);
                if !right {
                    wrong.push(format!("request {request} gave a wrong answer"));
                }
                (if right { "right" } else { "WRONG" }, done.attempts.to_string(), on_one_line(&answer))
            }
            Some(Err(error)) => {
                wrong.push(format!("a request was not answered: {}", chain(error)));
                ("LOST", String::new(), chain(error))
            }
            None => {
                wrong.push("a request was not answered".to_owned());
                ("LOST", String::new(), String::new())
            }
        };
        let line =
            format!("{verdict:5} {request:8} {attempts:>7}  {:8} {}", conversation.task.secret, cut(&answer, SHORT));
        text += &width.map_or(line.clone(), |width| cut(&line, width));
        text.push('\n');
    }
    text
}

/// What was done to the first request, and what came of it.
fn recovery(first: &Conversation, again: &Conversation, wrong: &mut Vec<String>) -> String {
    let (Some(killed), Some(done)) = (first.killed(), first.answer()) else {
        wrong.push("no worker could be killed in the middle of its answer".to_owned());
        return String::new();
    };
    let request = first.request.map(|request| request.to_string()).unwrap_or_default();
    let pid = |worker: Option<u32>| worker.map(|pid| pid.to_string());
    let mut text = format!(
        "kill -9 {} ended the worker of {request} after {:?}.",
        pid(killed.worker).unwrap_or_default(),
        ending(&killed.text)
    );
    if done.attempts != 2 {
        wrong.push(format!("{} workers served the interrupted request instead of 2", done.attempts));
    }
    match again.answer() {
        Some(_) if again.text() == first.text() => {
            let other = first.parts.last().and_then(|part| pid(part.worker));
            let other = other.map_or_else(|| "Another worker".to_owned(), |pid| format!("Worker {pid}"));
            text += &format!(
                " {other} went on from there. \
                 Asked again without a kill, the model gives the same text, byte for byte."
            );
        }
        Some(_) => wrong.push("the interrupted answer differs from an undisturbed one".to_owned()),
        None => wrong.push("the interrupted request, asked again, was not answered".to_owned()),
    }
    text
}

/// From the first token to the last, by the worker's clock.
fn milliseconds_per_token(done: &Done) -> Option<f64> {
    let tokens = f64::from(done.completion_tokens.checked_sub(1).filter(|tokens| *tokens > 0)?);
    let time = Duration::from_micros(done.last_piece_us?.saturating_sub(done.first_piece_us));
    Some(time.as_secs_f64() * 1e3 / tokens)
}

/// The end of a text, on one line.
pub(super) fn ending(text: &str) -> String {
    let line = on_one_line(text);
    match line.char_indices().rev().nth(SHORT - 1) {
        Some((start, _)) if start > 0 => format!("...{}", line[start..].trim_start()),
        _ => line,
    }
}

fn on_one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}
