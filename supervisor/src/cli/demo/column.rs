//! Texts cut into lines, and one answer as a column of lines. Nothing here knows the terminal.
use super::conversation::{Conversation, Fate};

/// What a line is, for those who can see colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Look {
    #[default]
    Plain,
    Head,
    Faint,
    Bad,
    Good,
}

/// A line and its look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) look: Look,
}

impl Line {
    pub(super) fn new(look: Look, text: impl Into<String>) -> Line {
        Line { text: text.into(), look }
    }
}

/// The words on lines of at most `width` characters. Only a word that is longer is split.
pub(super) fn lines(words: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    for word in words.split_whitespace() {
        let mut letters = word.chars().peekable();
        let used = lines.last().map_or(0, |line| line.chars().count());
        if used > 0 && used + 1 + word.chars().count() > width {
            lines.push(String::new());
        } else if used > 0 {
            lines.last_mut().into_iter().for_each(|line| line.push(' '));
        }
        loop {
            let used = lines.last().map_or(0, |line| line.chars().count());
            let part: String = letters.by_ref().take(width - used).collect();
            lines.last_mut().into_iter().for_each(|line| *line += &part);
            if letters.peek().is_none() {
                break;
            }
            lines.push(String::new());
        }
    }
    lines
}

/// The words as a paragraph that ends in a newline, on one line if the width does not matter.
pub(super) fn wrapped(words: &str, width: Option<usize>) -> String {
    width.map_or_else(|| format!("{words}\n"), |width| lines(words, width).join("\n") + "\n")
}

/// At most `most` characters of a text, the last ones dots if there are more.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept = most.saturating_sub(3);
    text.chars().take(kept).chain("...".chars().take(most)).collect()
}

/// One request and its answer so far. Of an answer that is too long for `height`, the end.
pub(super) fn column(conversation: &Conversation, width: usize, height: usize) -> Vec<Line> {
    let request = conversation.request.map_or_else(|| "a request".to_owned(), |request| request.to_string());
    let worker = conversation.parts.last().and_then(|part| part.worker);
    let doing = match (&conversation.outcome, worker) {
        (Some(Ok(done)), _) if done.attempts > 1 => format!("answered by {} workers", done.attempts),
        (Some(Ok(_)), _) => "answered".to_owned(),
        (Some(Err(_)), _) => "failed".to_owned(),
        (None, Some(pid)) => format!("worker {pid}"),
        (None, None) if conversation.killed().is_some() => "its worker is dead".to_owned(),
        (None, None) => "waits for a worker".to_owned(),
    };
    let mut lines = vec![Line::new(Look::Head, cut(&format!("{request}: {doing}"), width))];
    lines.extend(self::lines(conversation.task.question(), width).into_iter().map(|line| Line::new(Look::Faint, line)));
    lines.push(Line::new(Look::Faint, "-".repeat(width)));
    let body = body(conversation, width);
    let first = body.len().saturating_sub(height.saturating_sub(lines.len()));
    lines.extend(body.into_iter().skip(first));
    lines
}

/// The answer, with what happened to its workers where it happened.
fn body(conversation: &Conversation, width: usize) -> Vec<Line> {
    let mut body = Vec::new();
    for (number, part) in conversation.parts.iter().enumerate() {
        if let (1.., Some(pid)) = (number, part.worker) {
            body.push(Line::new(Look::Good, cut(&format!(">>> worker {pid} goes on:"), width)));
        }
        if !part.text.is_empty() {
            body.extend(lines(&part.text, width).into_iter().map(|line| Line::new(Look::Plain, line)));
        }
        let Some(pid) = part.worker else { continue };
        let mark = match part.fate {
            Fate::None => continue,
            Fate::Stopped => format!("xxx kill -9 {pid} is next"),
            Fate::Killed => format!("xxx kill -9 {pid}: dead"),
        };
        body.push(Line::new(Look::Bad, cut(&mark, width)));
    }
    body
}

#[cfg(test)]
mod tests;
