//! What Jinja2 and Python have that templates use, where minijinja is otherwise: tests, filters,
//! and methods of texts, maps and lists.
use super::json::to_json;
use minijinja::{
    Environment, Error, ErrorKind, State, Value, filters,
    value::{Kwargs, Rest, Tuple, ValueKind, from_args},
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
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("trim", trim);
    environment.add_filter("replace", replace);
    environment.add_filter("dictsort", dictsort);
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

/// The arguments of a call in the order of these names, whether they came by place or by name. What
/// is not given is none.
pub(super) fn arranged(names: &[&str], by_place: &[Value], by_name: &Kwargs) -> Result<Vec<Value>, Error> {
    if by_place.len() > names.len() {
        return Err(Error::new(ErrorKind::TooManyArguments, "there are more arguments than it takes"));
    }
    let mut arguments = by_place.to_vec();
    arguments.resize(names.len(), Value::from(()));
    for name in by_name.args() {
        let place = names.iter().position(|known| *known == name).filter(|place| *place >= by_place.len());
        let unknown = || Error::new(ErrorKind::TooManyArguments, format!("it takes no argument {name:?} here"));
        arguments[place.ok_or_else(unknown)?] = by_name.get(name)?;
    }
    Ok(arguments)
}

fn default(value: &Value, by_place: Rest<Value>, by_name: Kwargs) -> Result<Value, Error> {
    let arguments = arranged(&["default_value", "boolean"], &by_place, &by_name)?;
    let is_missing = value.is_undefined() || arguments[1].is_true() && !value.is_true();
    let other = if arguments[0].is_none() { Value::from("") } else { arguments[0].clone() };
    Ok(if is_missing { other } else { value.clone() })
}

fn trim(value: &Value, by_place: Rest<Value>, by_name: Kwargs) -> Result<String, Error> {
    let arguments = arranged(&["chars"], &by_place, &by_name)?;
    let text = value.to_string();
    Ok(match arguments[0].as_str() {
        Some(letters) => text.trim_matches(|letter| letters.contains(letter)).to_owned(),
        None => text.trim().to_owned(),
    })
}

fn replace(value: &Value, by_place: Rest<Value>, by_name: Kwargs) -> Result<String, Error> {
    let arguments = arranged(&["old", "new", "count"], &by_place, &by_name)?;
    let (text, old, new) = (value.to_string(), arguments[0].to_string(), arguments[1].to_string());
    Ok(match usize::try_from(arguments[2].clone()) {
        Ok(count) => text.replacen(&old, &new, count),
        Err(_) => text.replace(&old, &new),
    })
}

fn dictsort(value: &Value, by_place: Rest<Value>, by_name: Kwargs) -> Result<Value, Error> {
    let names = ["case_sensitive", "by", "reverse"];
    let arguments = arranged(&names, &by_place, &by_name)?;
    let given = names.into_iter().zip(arguments).filter(|(_, argument)| !argument.is_none());
    filters::dictsort(value, Kwargs::from_iter(given))
}

/// Methods that `pycompat` does not know, and then those that it does.
fn method(state: &mut State<'_, '_>, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let arranged_here;
    let names: Option<&[&str]> = match name {
        "split" | "rsplit" if value.as_str().is_some() => Some(&["sep", "maxsplit"]),
        "splitlines" => Some(&["keepends"]),
        _ => None,
    };
    let arguments = match (names, arguments.split_last()) {
        (Some(names), Some((last, by_place))) if last.is_kwargs() => {
            arranged_here = arranged(names, by_place, &Kwargs::try_from(last.clone())?)?;
            &arranged_here[..]
        }
        _ => arguments,
    };
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
        "find" | "rfind" | "count" | "startswith" | "endswith" if arguments.len() > 1 => {
            let (mark, start, end): (&str, Option<i64>, Option<i64>) = from_args(arguments)?;
            within(text, name, mark, start, end)
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

/// What a method finds between two places of a text, which count letters, from its end if they are
/// negative.
fn within(text: &str, name: &str, mark: &str, start: Option<i64>, end: Option<i64>) -> Value {
    let letters = text.chars().count();
    let place = |place: i64| match usize::try_from(place) {
        Ok(place) => place,
        Err(_) => letters.saturating_sub(usize::try_from(place.unsigned_abs()).unwrap_or(usize::MAX)),
    };
    let (start, end) = (start.map_or(0, place), end.map_or(letters, |end| place(end).min(letters)));
    let part: String = text.chars().skip(start).take(end.saturating_sub(start)).collect();
    let found = |at: Option<usize>| {
        let at = at.filter(|_| start <= end).map(|at| start + part[..at].chars().count());
        Value::from(at.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1))
    };
    match name {
        "find" => found(part.find(mark)),
        "rfind" => found(part.rfind(mark)),
        "count" => Value::from(part.matches(mark).count()),
        "startswith" => Value::from(start <= end && part.starts_with(mark)),
        _ => Value::from(start <= end && part.ends_with(mark)),
    }
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
