//! The show as it happens: two columns that grow on a terminal, or plain lines for everything else.
//!
//! The picture is drawn over itself with two control sequences: some lines up, and erase the rest
//! of the line. The cursor stays visible and behind the picture, so that an interrupt leaves
//! nothing to repair.
use super::{
    AGAIN, SHOWN,
    column::{Line, Look, column, cut},
    conversation::{Conversation, Fate},
    report::ending,
};
use crate::cli::{error::CliError, print};
use std::{
    env,
    io::{self, IsTerminal},
};

/// Between the columns.
const BETWEEN: &str = " | ";
/// A column that is wider is hard to read.
const WIDEST: usize = 60;
/// What terminals have that do not tell their size.
const USUAL: (usize, usize) = (80, 24);

/// Where the show is seen.
pub(super) struct Screen {
    form: Form,
    colours: bool,
}

enum Form {
    /// Facts that have been printed, of each conversation.
    Lines([usize; SHOWN.len()]),
    /// Lines of the picture that is on the terminal.
    Picture(usize),
}

impl Screen {
    /// A picture if the standard output is a terminal that can show one.
    pub(super) fn new(plain: bool) -> Screen {
        let terminal = env::var_os("TERM").unwrap_or_default();
        let able = io::stdout().is_terminal() && !terminal.is_empty() && terminal != "dumb";
        let form = if able && !plain { Form::Picture(0) } else { Form::Lines([0; SHOWN.len()]) };
        let colours = able && !plain && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Screen { form, colours }
    }

    /// The columns of the terminal, if the output is one.
    pub(super) fn width(&self) -> Option<usize> {
        io::stdout().is_terminal().then(|| size().0)
    }

    /// Shows that something has happened to the conversation of this number.
    pub(super) fn show(&mut self, conversations: &[Conversation], number: usize) -> Result<(), CliError> {
        let text = match &mut self.form {
            Form::Lines(printed) => {
                let Some(printed) = printed.get_mut(number) else { return Ok(()) };
                let facts = facts(&conversations[number]);
                // The first request may have been begun anew.
                let new = facts.get(*printed..).unwrap_or(&facts).concat();
                *printed = facts.len();
                new
            }
            Form::Picture(drawn) => {
                let (columns, rows) = size();
                let picture = picture(conversations, columns, rows);
                let lines = picture.len().max(*drawn).min(rows);
                let up = if *drawn > 1 { format!("\x1b[{}A", *drawn - 1) } else { String::new() };
                *drawn = lines;
                let text: Vec<String> = (0..lines)
                    .map(|index| {
                        picture.get(index).map_or(String::new(), |line| coloured_line(line, self.colours)) + "\x1b[K"
                    })
                    .collect();
                format!("\r{up}{}", text.join("\n"))
            }
        };
        if text.is_empty() { Ok(()) } else { print(&text) }
    }

    /// Puts what comes next below the show.
    pub(super) fn leave(&self) -> Result<(), CliError> {
        match self.form {
            Form::Picture(1..) => print("\n\n"),
            Form::Lines([0, 0]) | Form::Picture(_) => Ok(()),
            Form::Lines(_) => print("\n"),
        }
    }
}

/// Columns and rows of the terminal.
fn size() -> (usize, usize) {
    rustix::termios::tcgetwinsize(io::stdout()).map_or(USUAL, |size| {
        let or = |found: u16, usual| if found == 0 { usual } else { usize::from(found) };
        (or(size.ws_col, USUAL.0), or(size.ws_row, USUAL.1))
    })
}

/// What has happened to a long answer, each as a line.
fn facts(conversation: &Conversation) -> Vec<String> {
    let request = conversation.request.map(|request| request.to_string()).unwrap_or_default();
    let mut facts = Vec::new();
    for (number, part) in conversation.parts.iter().enumerate() {
        let Some(pid) = part.worker else { continue };
        facts.push(match number {
            0 => format!("{request}: worker {pid} answers {:?}\n", conversation.task.question()),
            _ => format!("{request}: worker {pid} goes on from there\n"),
        });
        if part.fate == Fate::Killed {
            facts.push(format!("{request}: kill -9 {pid} after {:?}\n", ending(&part.text)));
        }
    }
    if let Some(done) = conversation.answer() {
        facts.push(format!("{request}: complete after {} tokens\n", done.completion_tokens));
    }
    facts
}

/// A picture's lines, each in pieces that may look different.
fn picture(conversations: &[Conversation], columns: usize, rows: usize) -> Vec<Vec<Line>> {
    // Where a line ends in the last column, terminals differ.
    let all = columns.saturating_sub(1);
    let width = (all.saturating_sub(BETWEEN.len()) / 2).clamp(1, WIDEST);
    let below = below(conversations);
    let height = rows.saturating_sub(below.len() + 2);
    let [left, right] = SHOWN.map(|number| column(&conversations[number], width, height));
    let mut picture: Vec<Vec<Line>> = (0..left.len().max(right.len()))
        .map(|index| {
            let mut line = left.get(index).cloned().unwrap_or_default();
            line.text = format!("{:width$}", line.text);
            vec![line, Line::new(Look::Faint, BETWEEN), right.get(index).cloned().unwrap_or_default()]
        })
        .collect();
    picture.push(Vec::new());
    picture.extend(below.iter().map(|words| vec![Line::new(Look::Plain, cut(words, all))]));
    picture
}

/// What is said below the columns: always as many lines.
fn below(conversations: &[Conversation]) -> [String; 2] {
    let others = &conversations[SHOWN.len()..AGAIN];
    let answered = others.iter().filter(|other| other.has_ended()).count();
    let served = others.iter().filter(|other| !other.has_ended() && other.parts[0].pieces > 0).count();
    let counts = [(others.len() - answered - served, "wait"), (served, "being answered"), (answered, "answered")];
    let words: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    let short = format!("And {} short requests: {}", others.len(), words.join(", "));
    let (first, again) = (&conversations[0], &conversations[AGAIN]);
    let check = match again.request {
        None => String::new(),
        Some(request) if first.text().starts_with(&again.text()) => {
            let ended = if again.has_ended() { "to the end" } else { "so far" };
            format!("{request} asks again, no kill: {} tokens, the same {ended}", again.pieces())
        }
        Some(request) => format!("{request} asks again, no kill: the answer differs"),
    };
    [short, check]
}

fn coloured_line(line: &[Line], colours: bool) -> String {
    let Some((last, others)) = line.split_last() else { return String::new() };
    let end = Line::new(last.look, last.text.trim_end());
    others.iter().chain([&end]).map(|piece| coloured(piece, colours)).collect()
}

fn coloured(line: &Line, colours: bool) -> String {
    let code = match line.look {
        _ if !colours || line.text.is_empty() => return line.text.clone(),
        Look::Plain => return line.text.clone(),
        Look::Head => "1",
        Look::Faint => "2",
        Look::Bad => "1;31",
        Look::Good => "1;32",
    };
    format!("\x1b[{code}m{}\x1b[0m", line.text)
}
