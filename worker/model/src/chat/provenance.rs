//! Which part of a rendered conversation the client said, so that nobody who writes a content can
//! forge a turn: the name of a control token is that token only where the template wrote all of it.
//!
//! A template is a program that may cut, trim and compare what it is given, so a text's origin
//! cannot be carried along beside it. It is carried in the text: the conversation is rendered once
//! as it is, and again with the client's letters moved to a private plane of Unicode, letter by
//! letter. Where both texts agree but for that, the moved letters are the client's.
//!
//! A template that looks into what was said (`'</think>' in content`) may make something else of
//! moved letters. Then fewer of them are moved, in steps ([`Step`]), so that it finds what it looks
//! for while no name of a control token is left as it was. If the texts never agree, the template
//! is shown moved letters, and what it makes of them is moved back behind it. Only what both
//! renderings prove to be the template's own is ever read as a control token.
//!
//! Not moved, and so taken for the template's: numbers among the template variables, and letters
//! beyond the first plane, as emoji are. No model that is known has a control token whose name is
//! made of these alone.
use super::{ChatError, conversation::Mark};
use aho_corasick::AhoCorasick;
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

/// The names of a model's control tokens.
pub trait ControlTokens {
    /// Where they are in a text.
    fn find(&self, text: &str) -> Vec<Range<usize>>;

    /// Whether one of them has this letter.
    fn has_letter(&self, letter: char) -> bool;
}

/// None.
impl ControlTokens for () {
    fn find(&self, _: &str) -> Vec<Range<usize>> {
        Vec::new()
    }

    fn has_letter(&self, _: char) -> bool {
        false
    }
}

/// The strings that stand in a template's source, for which it may look in what was said.
pub(super) struct Literals(Option<AhoCorasick>);

impl Literals {
    /// Bytes of one that a template looks for; what is longer is only written.
    const LONGEST: usize = 256;
    /// How many are looked for.
    const MOST: usize = 1000;

    /// Those of a source that a template may look for.
    pub(super) fn of(source: &str) -> Literals {
        let mut literals = super::jinja_source::literals(source);
        literals.retain(|literal| !literal.is_empty() && literal.len() <= Self::LONGEST);
        literals.truncate(Self::MOST);
        Literals(AhoCorasick::new(literals).ok())
    }

    /// Where they stand in a text, in order, but for those that have one of the `names` of control
    /// tokens in them, which are in order, and those that a name is written with: a single letter of
    /// one, or two signs, as `<|`.
    fn found(&self, text: &str, names: &[Range<usize>], controls: &dyn ControlTokens) -> Vec<Range<usize>> {
        let tells = |found: &Range<usize>| {
            let literal = &text[found.clone()];
            let letters = literal.chars().count();
            letters > 2
                || letters == 2 && literal.contains(char::is_alphanumeric)
                || !literal.contains(|letter| controls.has_letter(letter))
        };
        let found = self.0.iter().flat_map(|literals| literals.find_overlapping_iter(text));
        let has_name = |found: &Range<usize>| {
            let first = names.partition_point(|name| name.start < found.start);
            names[first..].iter().take_while(|name| name.start < found.end).any(|name| name.end <= found.end)
        };
        let mut found: Vec<_> =
            found.map(|found| found.range()).filter(|found| tells(found) && !has_name(found)).collect();
        found.sort_unstable_by_key(|found| found.start);
        found
    }
}

/// Which of the client's letters are moved. White space never is, because templates trim it, and
/// neither are quotes and backslashes, which JSON writes in another way: no name of a control token
/// consists of them alone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// All.
    All,
    /// All but those of strings that stand in the template's source.
    Unsought,
    /// Of these only signs, which are in nearly all names of control tokens, and the whole names
    /// that are there: a template may look into words, of which `_` is a letter.
    Signs,
}

/// Renders a conversation with what `once` makes of it. `controls` are the names of control
/// tokens; `literals` are those of the template.
pub(super) fn render(
    once: &dyn Fn(&Mark<'_>) -> Result<String, ChatError>,
    controls: &dyn ControlTokens,
    literals: &Literals,
) -> Result<Rendered, ChatError> {
    let text = once(&Mark::None)?;
    if controls.find(&text).is_empty() {
        return Ok(Rendered { text, client: Vec::new() });
    }
    // The client may use the letters of one plane itself, but not those of both.
    let uses = |plane: u32| text.chars().any(|letter| u32::from(letter) & PLANE == plane);
    let plane = PLANES.into_iter().find(|plane| !uses(*plane)).ok_or(ChatError::ControlToken)?;
    let marked = |step| {
        let moves = |text: &str| {
            let names = controls.find(text);
            let sought = if step == Step::All { Vec::new() } else { literals.found(text, &names, controls) };
            move_letters(text, step, &sought, &names, plane)
        };
        // A template asks for keys by names that are no strings in its source.
        let of_keys = if step == Step::All { Step::All } else { Step::Signs };
        let keys = |text: &str| move_letters(text, of_keys, &[], &controls.find(text), plane);
        once(&Mark::Texts { words: &moves, keys: &keys }).map(|marked| unescaped(marked, plane))
    };
    let mut shown = None;
    for step in [Step::All, Step::Unsought, Step::Signs] {
        let Ok(marked) = marked(step) else { continue };
        if let Some(client) = moved_in(&text, &marked, plane) {
            return Ok(Rendered { text, client });
        }
        if step == Step::Unsought {
            shown = Some(marked);
        }
    }
    shown.map(|marked| moved_back(&marked, plane)).ok_or(ChatError::ControlToken)
}

const PLANE: u32 = 0x1F_0000;
/// The two private planes of Unicode.
const PLANES: [u32; 2] = [0xF_0000, 0x10_0000];

/// A letter's place in a private plane; one that is in no smaller plane stays.
fn moved(letter: char, plane: u32) -> char {
    let number = u32::from(letter);
    if number & PLANE == 0 { char::from_u32(plane | number).unwrap_or(letter) } else { letter }
}

/// A text with those letters moved that the step moves. What is `sought` and the `names` of control
/// tokens are in the order in which they begin.
fn move_letters(text: &str, step: Step, sought: &[Range<usize>], names: &[Range<usize>], plane: u32) -> String {
    let (mut in_sought, mut in_name) = (Cover::new(sought), Cover::new(names));
    let letters = text.char_indices().map(|(at, letter)| {
        let (is_sought, is_name) = (in_sought.covers(at), in_name.covers(at));
        let moves = match step {
            _ if letter.is_whitespace() || matches!(letter, '"' | '\'' | '\\') => is_name,
            Step::All => true,
            Step::Unsought => is_name || !is_sought,
            Step::Signs => is_name || !(is_sought || letter.is_alphanumeric() || letter == '_'),
        };
        if moves { moved(letter, plane) } else { letter }
    });
    letters.collect()
}

/// Parts of a text that may overlap, asked for one place after the other.
struct Cover<'a> {
    parts: iter::Peekable<std::slice::Iter<'a, Range<usize>>>,
    /// Where those end that have begun.
    end: usize,
}

impl Cover<'_> {
    fn new(parts: &[Range<usize>]) -> Cover<'_> {
        Cover { parts: parts.iter().peekable(), end: 0 }
    }

    fn covers(&mut self, at: usize) -> bool {
        while let Some(part) = self.parts.next_if(|part| part.start <= at) {
            self.end = self.end.max(part.end);
        }
        at < self.end
    }
}

/// A text in which moved letters that JSON has escaped, as two halves, are letters again.
fn unescaped(text: String, plane: u32) -> String {
    if !text.contains("\\ud") && !text.contains("\\uD") {
        return text;
    }
    let (mut plain, mut rest) = (String::with_capacity(text.len()), text.as_str());
    while let Some(at) = rest.find("\\u") {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let half = |at: usize| u16::from_str_radix(rest.get(at..at + 4)?, 16).ok();
        let second = rest.get(6..8).filter(|between| *between == "\\u").and_then(|_| half(8));
        let pair = half(2).zip(second).and_then(|(first, second)| char::decode_utf16([first, second]).next()?.ok());
        let (letter, length) = match pair.filter(|letter| u32::from(*letter) & PLANE == plane) {
            Some(letter) => (letter, 12),
            None => ('\\', 1),
        };
        plain.push(letter);
        rest = &rest[length..];
    }
    plain + rest
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
