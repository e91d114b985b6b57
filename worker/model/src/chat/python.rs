//! What Jinja2 and Python have that templates use, where minijinja is otherwise: tests, filters,
//! and methods of texts, maps and lists.
use super::json::to_json;
use minijinja::{
    Environment, Error, ErrorKind, State, Value, filters,
    value::{Tuple, ValueKind, from_args},
};
use minijinja_contrib::pycompat::unknown_method_callback;

/// Puts all of it into an environment.
pub(super) fn install(environment: &mut Environment<'_>) {
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_sequence);
    environment.add_test("number", |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool));
    environment.add_filter("length", length);
    environment.add_filter("count", length);
    environment.add_filter("tojson", to_json);
    environment.set_unknown_method_callback(method);
}

/// `none` cannot be iterated over; what is not defined can, and so can a text.
fn is_iterable(value: &Value) -> bool {
    !value.is_none() && value.try_iter().is_ok()
}

/// Whatever has a length and can be asked for an element.
fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String | ValueKind::Undefined)
}

/// What is not defined has no elements.
fn length(value: &Value) -> Result<usize, Error> {
    if value.is_undefined() { Ok(0) } else { filters::length(value) }
}

/// Methods that `pycompat` does not know, and then those that it does.
fn method(state: &mut State<'_, '_>, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let known = match value.kind() {
        ValueKind::String => text_method(value.as_str().unwrap_or_default(), name, arguments)?,
        ValueKind::Map => match name {
            "copy" => from_args(arguments).map(|()| Some(value.clone()))?,
            _ => None,
        },
        ValueKind::Seq => list_method(value, name, arguments)?,
        _ => None,
    };
    match known {
        Some(known) => Ok(known),
        None => unknown_method_callback(state, value, name, arguments),
    }
}

fn parts(before: &str, mark: &str, after: &str) -> Value {
    Value::from(Tuple::from([before, mark, after].map(Value::from)))
}

fn text_method(text: &str, name: &str, arguments: &[Value]) -> Result<Option<Value>, Error> {
    let none = || from_args::<()>(arguments);
    let one = || from_args::<(&str,)>(arguments).map(|(argument,)| argument);
    Ok(Some(match name {
        "rsplit" => {
            let (mark, most): (Option<&str>, Option<i64>) = from_args(arguments)?;
            Value::from(split_from_the_right(text, mark, most.and_then(|most| usize::try_from(most).ok())))
        }
        "splitlines" => {
            let (keeps_ends,): (Option<bool>,) = from_args(arguments)?;
            Value::from(lines(text, keeps_ends.unwrap_or(false)))
        }
        "partition" => {
            let mark = one()?;
            text.split_once(mark).map_or(parts(text, "", ""), |(before, after)| parts(before, mark, after))
        }
        "rpartition" => {
            let mark = one()?;
            text.rsplit_once(mark).map_or(parts("", "", text), |(before, after)| parts(before, mark, after))
        }
        "removeprefix" => Value::from(text.strip_prefix(one()?).unwrap_or(text)),
        "removesuffix" => Value::from(text.strip_suffix(one()?).unwrap_or(text)),
        "index" | "rindex" => {
            let mark = one()?;
            let at = if name == "index" { text.find(mark) } else { text.rfind(mark) };
            let at = at.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "the text is not in the other one"))?;
            Value::from(text[..at].chars().count())
        }
        "casefold" => none().map(|()| Value::from(text.to_lowercase()))?,
        "swapcase" => none().map(|()| Value::from(swapped(text)))?,
        "istitle" => none().map(|()| Value::from(filters::title(text.into()).as_str() == text))?,
        "isdecimal" => none().map(|()| Value::from(!text.is_empty() && text.chars().all(char::is_numeric)))?,
        "ljust" | "rjust" | "center" | "zfill" => {
            let (width, fill): (i64, Option<&str>) = from_args(arguments)?;
            let fill = fill.and_then(|fill| fill.chars().next()).unwrap_or(' ');
            Value::from(padded(text, name, usize::try_from(width).unwrap_or(0), fill)?)
        }
        _ => return Ok(None),
    }))
}

fn list_method(list: &Value, name: &str, arguments: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match name {
        "copy" => from_args(arguments).map(|()| list.clone())?,
        "index" => {
            let (what,): (&Value,) = from_args(arguments)?;
            let at = list.try_iter()?.position(|item| item == *what);
            Value::from(at.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "the list has no such element"))?)
        }
        _ => return Ok(None),
    }))
}

/// The pieces between marks, or between white space, of which at most so many are looked for.
fn split_from_the_right(text: &str, mark: Option<&str>, most: Option<usize>) -> Vec<String> {
    let most = most.unwrap_or(usize::MAX);
    let mut pieces: Vec<&str> = Vec::new();
    let mut rest = if mark.is_none() { text.trim_end() } else { text };
    while pieces.len() < most {
        let cut = match mark {
            Some(mark) => rest.rsplit_once(mark),
            None => rest.rsplit_once(char::is_whitespace).map(|(before, after)| (before.trim_end(), after)),
        };
        let Some((before, after)) = cut else { break };
        pieces.push(after);
        rest = before;
    }
    if mark.is_some() || !rest.is_empty() {
        pieces.push(rest);
    }
    pieces.into_iter().rev().map(str::to_owned).collect()
}

/// The lines of a text, as Python ends them.
fn lines(text: &str, keeps_ends: bool) -> Vec<String> {
    const ENDS: [char; 10] =
        ['\n', '\r', '\u{B}', '\u{C}', '\u{1C}', '\u{1D}', '\u{1E}', '\u{85}', '\u{2028}', '\u{2029}'];
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(ENDS) {
        let ends = if rest[at..].starts_with("\r\n") { 2 } else { rest[at..].chars().next().map_or(1, char::len_utf8) };
        lines.push(rest[..if keeps_ends { at + ends } else { at }].to_owned());
        rest = &rest[at + ends..];
    }
    if !rest.is_empty() {
        lines.push(rest.to_owned());
    }
    lines
}

fn swapped(text: &str) -> String {
    let mut swapped = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_uppercase() {
            swapped.extend(letter.to_lowercase());
        } else {
            swapped.extend(letter.to_uppercase());
        }
    }
    swapped
}

fn padded(text: &str, how: &str, width: usize, fill: char) -> Result<String, Error> {
    /// Letters of a line that anyone pads.
    const WIDEST: usize = 10_000;
    if width > WIDEST {
        return Err(Error::new(ErrorKind::InvalidOperation, "the width is too large"));
    }
    let lacks = width.saturating_sub(text.chars().count());
    let fills = |count: usize| fill.to_string().repeat(count);
    Ok(match how {
        "ljust" => format!("{text}{}", fills(lacks)),
        "rjust" => format!("{}{text}", fills(lacks)),
        "center" => {
            // Python puts the odd one to the left where the width is odd, too.
            let left = lacks / 2 + (lacks & width & 1);
            format!("{}{text}{}", fills(left), fills(lacks - left))
        }
        _ => {
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            format!("{sign}{}{digits}", "0".repeat(lacks))
        }
    })
}
