//! Which part of a rendered conversation the client said, so that nobody who writes a content can
//! forge a turn: the name of a control token is that token only where the template wrote it.
//!
//! A template is a program that may cut, trim and compare what it is given, so a text's origin
//! cannot be carried along beside it. It is carried in the text: the conversation is rendered once
//! as it is, and again with the client's letters moved to a private plane of Unicode, letter by
//! letter. Where both texts agree but for that, the moved letters are the client's. A template that
//! looks into what was said (`'</think>' in content`) may make something else of moved letters;
//! then only the names of control tokens are moved, which hardly any template looks for. If even
//! that changes the text, the template gets to see moved letters, and they are moved back behind it.
use super::{ChatError, conversation::Mark};
use std::{iter, ops::Range};

/// A conversation as a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// The parts of it, in order, that are the client's: the name of a control token that lies in
    /// one, even in part, is a text like any other. What no control token's name is in may be left
    /// out.
    pub client: Vec<Range<usize>>,
}

impl Rendered {
    /// A text that is the client's altogether.
    pub(super) fn of_client(text: &str) -> Rendered {
        Rendered { text: text.to_owned(), client: iter::once(0..text.len()).collect() }
    }
}

/// Renders a conversation with what `once` makes of it. `controls` says where in a text the names
/// of control tokens are.
pub(super) fn render(
    once: &dyn Fn(&Mark<'_>) -> Result<String, ChatError>,
    controls: &dyn Fn(&str) -> Vec<Range<usize>>,
) -> Result<Rendered, ChatError> {
    let text = once(&Mark::None)?;
    if controls(&text).is_empty() {
        return Ok(Rendered { text, client: Vec::new() });
    }
    // The client may use the letters of one plane itself.
    let plane = if text.chars().any(|letter| u32::from(letter) & PLANE == PLANES[0]) { PLANES[1] } else { PLANES[0] };
    let words = |text: &str| text.chars().map(|letter| moved_if_visible(letter, plane)).collect();
    let data = |text: &str| move_names(text, &controls(text), plane);

    let marked = once(&Mark::Words { words: &words, data: &data });
    if let Some(client) = marked.ok().and_then(|marked| moved_in(&text, &marked, plane)) {
        return Ok(Rendered { text, client });
    }
    let marked = once(&Mark::Data(&data)).map_err(|_| ChatError::ControlToken)?;
    if let Some(client) = moved_in(&text, &marked, plane) {
        return Ok(Rendered { text, client });
    }
    Ok(moved_back(&marked, plane))
}

const PLANE: u32 = 0x1F_0000;
/// The two private planes of Unicode.
const PLANES: [u32; 2] = [0xF_0000, 0x10_0000];

/// A letter's place in a private plane; one that is in no smaller plane stays.
fn moved(letter: char, plane: u32) -> char {
    let number = u32::from(letter);
    if number & PLANE == 0 { char::from_u32(plane | number).unwrap_or(letter) } else { letter }
}

/// White space stays, because templates trim it, and so do letters that a name of a control token
/// does not consist of alone.
fn moved_if_visible(letter: char, plane: u32) -> char {
    if letter.is_ascii_graphic() { moved(letter, plane) } else { letter }
}

fn move_names(text: &str, names: &[Range<usize>], plane: u32) -> String {
    let mut names = names.iter().peekable();
    // Where the names end that have begun.
    let mut end = 0;
    let letters = text.char_indices().map(|(at, letter)| {
        while let Some(name) = names.next_if(|name| name.start <= at) {
            end = end.max(name.end);
        }
        if at < end { moved(letter, plane) } else { letter }
    });
    letters.collect()
}

/// The parts of a text that are moved in another one, which must be the same but for that.
fn moved_in(text: &str, marked: &str, plane: u32) -> Option<Vec<Range<usize>>> {
    let mut parts = Parts::default();
    let mut others = marked.chars();
    for (at, letter) in text.char_indices() {
        let other = others.next()?;
        if other != letter {
            if other != moved(letter, plane) {
                return None;
            }
            parts.add(at..at + letter.len_utf8());
        }
    }
    others.next().is_none().then_some(parts.0)
}

/// A text with its moved letters where they belong.
fn moved_back(marked: &str, plane: u32) -> Rendered {
    let (mut text, mut parts) = (String::with_capacity(marked.len()), Parts::default());
    for letter in marked.chars() {
        let number = u32::from(letter);
        let at = text.len();
        match char::from_u32(number & !PLANE).filter(|_| number & PLANE == plane) {
            Some(letter) => {
                text.push(letter);
                parts.add(at..text.len());
            }
            None => text.push(letter),
        }
    }
    Rendered { text, client: parts.0 }
}

/// Parts of a text, in order. Those that touch are one.
#[derive(Default)]
struct Parts(Vec<Range<usize>>);

impl Parts {
    fn add(&mut self, part: Range<usize>) {
        match self.0.last_mut() {
            Some(last) if last.end == part.start => last.end = part.end,
            _ => self.0.push(part),
        }
    }
}
