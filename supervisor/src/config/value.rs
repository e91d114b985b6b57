//! What a value must be: its type, its range, and the rule that it breaks if it is wrong.
//!
//! It is the same for a file and for the command line. Which keys there are is not known here: the
//! fields of the configuration name them, and the function that reads each of them. A rule goes on
//! after "but" in a sentence.
use super::{Auto, ConfigError, Confinement, Isolation, Load, LogFormat, LogPrompts, ModelConfig, Place};
use bytesize::ByteSize;
use ipc::{Listen, ModelSource, Precision, TemplateVars};
use nix::unistd::User;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use std::{
    fmt,
    net::IpAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};
use system::foreign_text::shorten;

/// Numbers of workers.
const WORKERS: RangeInclusive<u32> = 1..=256;
/// Numbers of cores and of threads.
const CORES: RangeInclusive<u32> = 1..=1024;
const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const MEMORY: RangeInclusive<u64> = 1 << 20..=16 << 40;
/// What fits the address of a Unix socket, which ends in a zero byte.
const SOCKET_LENGTH: usize = 107;
/// A longer text is cut in an error.
const SHOWN_LENGTH: usize = 80;

/// What every JSON value is and some TOML values are not.
pub(super) const JSON: &str = "must be what JSON can say, without dates";

/// A value without its place.
pub(super) enum Value {
    /// A whole number.
    Integer(i128),
    /// A string.
    Text(String),
    /// What no rule takes.
    Other,
}

impl Value {
    pub(super) fn text(&self) -> Option<&str> {
        if let Value::Text(text) = self { Some(text) } else { None }
    }

    fn number(&self, range: &RangeInclusive<u32>) -> Option<u32> {
        let Value::Integer(number) = self else { return None };
        u32::try_from(*number).ok().filter(|number| range.contains(number))
    }

    fn whole(&self, range: RangeInclusive<u32>) -> Result<u32, String> {
        let kind = if matches!(self, Value::Integer(_)) { "" } else { "a whole number " };
        self.number(&range).ok_or_else(|| format!("must be {kind}from {} to {}", range.start(), range.end()))
    }

    fn automatic(&self, range: RangeInclusive<u32>) -> Result<Auto<u32>, String> {
        if self.text() == Some("auto") {
            return Ok(Auto::Auto);
        }
        let number = self.number(&range).map(Auto::Fixed);
        number.ok_or_else(|| format!("must be \"auto\" or a whole number from {} to {}", range.start(), range.end()))
    }

    /// One of some words.
    fn choice<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, String> {
        let found = words.iter().find(|(word, _)| self.text() == Some(word));
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let quoted: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            let (last, others) = quoted.split_last().map_or(("", &[][..]), |(last, others)| (last.as_str(), others));
            format!("must be {} or {last}", others.join(", "))
        })
    }

    fn duration(&self) -> Result<Duration, String> {
        let Some(duration) = self.text().and_then(|text| humantime::parse_duration(text).ok()) else {
            return Err("must be a duration like \"30s\" or \"10m\"".to_owned());
        };
        if duration.is_zero() || duration > LONGEST {
            return Err("must be longer than 0 and at most 30 days".to_owned());
        }
        Ok(duration)
    }

    /// The uid of a user that is named or given by number.
    fn user(&self) -> Result<u32, String> {
        match self {
            // The largest number means "no user".
            Value::Integer(_) => self.whole(0..=u32::MAX - 1),
            Value::Text(name) => match User::from_name(name) {
                Ok(Some(user)) => Ok(user.uid.as_raw()),
                Ok(None) => Err("there is no such user".to_owned()),
                Err(error) => Err(format!("looking that user up failed: {}", error.desc())),
            },
            Value::Other => Err("must be a user name or a uid".to_owned()),
        }
    }

    pub(super) fn workers(&self) -> Result<Auto<u32>, String> {
        self.automatic(WORKERS)
    }

    pub(super) fn cores(&self) -> Result<Auto<u32>, String> {
        self.automatic(CORES)
    }

    pub(super) fn name(&self) -> Result<String, String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
        match self.text() {
            Some(name) if (1..=64).contains(&name.len()) && name.bytes().all(allowed) => Ok(name.to_owned()),
            _ => Err("must be 1 to 64 characters out of A-Z, a-z, 0-9, '.', '_', ':' and '-'".to_owned()),
        }
    }

    /// What a model's path names.
    pub(super) fn model_source(&self) -> Result<ModelSource, String> {
        let text = self.text().filter(|text| is_path(text));
        text.map(ModelSource::parse).ok_or_else(|| "must be a file, a folder or \"builtin:pocket\"".to_owned())
    }
}

/// The socket at `path`, if one can be there.
pub(super) fn socket_at(path: PathBuf) -> Result<PathBuf, String> {
    if (1..=SOCKET_LENGTH).contains(&path.as_os_str().len()) {
        return Ok(path);
    }
    Err(format!("must be a path of 1 to {SOCKET_LENGTH} bytes"))
}

/// A model's source of which a relative path starts from `folder`.
pub(super) fn source_in(source: &ModelSource, folder: &Path) -> Result<ModelSource, String> {
    let source = ModelSource::parse_in(&source.to_string(), folder);
    if source.path().is_some_and(|path| path.to_str().is_none()) {
        return Err("the folder that it is relative to has a name that is not valid UTF-8".to_owned());
    }
    Ok(source)
}

/// The error that a value breaks a rule.
pub(super) fn refused(place: &Place, key: &str, value: String, rule: String) -> ConfigError {
    ConfigError::Value { place: place.clone(), key: key.to_owned(), value, rule }
}

pub(super) fn quoted(text: &str) -> String {
    format!("{:?}", shortened(text))
}

/// The text, or as much of it as an error shows.
pub(super) fn shortened(text: &str) -> String {
    shorten(text, SHOWN_LENGTH).into_owned()
}

fn is_path(text: &str) -> bool {
    !text.is_empty() && !text.contains('\0')
}

fn read<'de, D: Deserializer<'de>, T>(from: D, check: fn(&Value) -> Result<T, String>) -> Result<T, D::Error> {
    // Whatever it is, `check` words what is wrong with it.
    check(&from.deserialize_ignored_any(AnyValue)?).map_err(D::Error::custom)
}

pub(super) fn queue<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    read(from, |value| Ok(value.whole(0..=100_000)? as usize))
}

pub(super) fn workers<'de, D: Deserializer<'de>>(from: D) -> Result<Auto<u32>, D::Error> {
    read(from, Value::workers)
}

pub(super) fn cores<'de, D: Deserializer<'de>>(from: D) -> Result<Auto<u32>, D::Error> {
    read(from, Value::cores)
}

pub(super) fn context<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    read(from, |value| value.whole(1..=u32::MAX).map(Some))
}

pub(super) fn attempts<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    read(from, |value| value.whole(1..=100))
}

pub(super) fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    read(from, Value::duration)
}

pub(super) fn idle_unload<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    read(from, |value| match value.text() {
        Some("never") => Ok(None),
        Some(text) if humantime::parse_duration(text).is_ok() => value.duration().map(Some),
        _ => Err("must be \"never\" or a duration like \"5m\"".to_owned()),
    })
}

pub(super) fn memory<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    read(from, |value| {
        let Some(ByteSize(bytes)) = value.text().and_then(|text| text.parse().ok()) else {
            return Err("must be a size like \"512MiB\" or \"2GiB\"".to_owned());
        };
        if !MEMORY.contains(&bytes) {
            return Err("must be from \"1MiB\" to \"16TiB\"".to_owned());
        }
        Ok(bytes)
    })
}

pub(super) fn isolation<'de, D: Deserializer<'de>>(from: D) -> Result<Auto<Isolation>, D::Error> {
    read(from, |value| {
        value.choice(&[
            ("auto", Auto::Auto),
            ("request", Auto::Fixed(Isolation::Request)),
            ("worker", Auto::Fixed(Isolation::Worker)),
        ])
    })
}

pub(super) fn sandbox<'de, D: Deserializer<'de>>(from: D) -> Result<Confinement, D::Error> {
    read(from, |value| value.choice(&[("on", Confinement::On), ("require-landlock", Confinement::RequireLandlock)]))
}

pub(super) fn load<'de, D: Deserializer<'de>>(from: D) -> Result<Load, D::Error> {
    read(from, |value| value.choice(&[("eager", Load::Eager), ("lazy", Load::Lazy)]))
}

pub(super) fn precision<'de, D: Deserializer<'de>>(from: D) -> Result<Precision, D::Error> {
    read(from, |value| value.choice(&[("f32", Precision::F32), ("int8", Precision::Int8)]))
}

pub(super) fn log_format<'de, D: Deserializer<'de>>(from: D) -> Result<Auto<LogFormat>, D::Error> {
    read(from, |value| {
        value.choice(&[
            ("auto", Auto::Auto),
            ("text", Auto::Fixed(LogFormat::Text)),
            ("json", Auto::Fixed(LogFormat::Json)),
        ])
    })
}

pub(super) fn log_prompts<'de, D: Deserializer<'de>>(from: D) -> Result<LogPrompts, D::Error> {
    read(from, |value| {
        value.choice(&[("none", LogPrompts::None), ("hash", LogPrompts::Hash), ("full", LogPrompts::Full)])
    })
}

pub(super) fn sha256<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    read(from, |value| match value.text() {
        Some("") => Ok(None),
        Some(digest) if digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Ok(Some(digest.to_ascii_lowercase()))
        }
        _ => Err("must be 64 hexadecimal digits, or \"\" for any file".to_owned()),
    })
}

pub(super) fn name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    read(from, Value::name)
}

pub(super) fn model_source<'de, D: Deserializer<'de>>(from: D) -> Result<ModelSource, D::Error> {
    read(from, Value::model_source)
}

pub(super) fn socket<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    read(from, |value| {
        let text = value.text().filter(|text| is_path(text));
        text.map(|text| Some(PathBuf::from(text))).ok_or_else(|| "must be the path of a socket".to_owned())
    })
}

pub(super) fn users<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u32>, D::Error> {
    let expected = "a list of user names and uids, like [\"alice\", 1000]";
    from.deserialize_seq(List { check: Value::user, expected })
}

pub(super) fn listens<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Listen>, D::Error> {
    let expected = "a list of addresses, like [\"127.0.0.1:8080\", \"unix:/run/supervisor/http.sock\"]";
    from.deserialize_seq(List { check: super::http::listen, expected })
}

pub(super) fn addresses<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpAddr>, D::Error> {
    let check = |value: &Value| {
        let address = value.text().and_then(|text| text.parse::<IpAddr>().ok());
        address
            .map(|address| address.to_canonical())
            .ok_or_else(|| "must be an address like \"192.168.1.7\"".to_owned())
    };
    from.deserialize_seq(List { check, expected: "a list of addresses, like [\"192.168.1.7\"]" })
}

pub(super) fn names<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let check = |value: &Value| {
        let text = value.text().filter(|text| !text.is_empty() && text.len() <= 256);
        text.map(str::to_owned).ok_or_else(|| "must be a text of 1 to 256 characters".to_owned())
    };
    from.deserialize_seq(List { check, expected: "a list of texts" })
}

pub(super) fn keys_file<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    read(from, |value| match value.text() {
        Some("") => Ok(None),
        Some(text) if is_path(text) => Ok(Some(PathBuf::from(text))),
        _ => Err("must be the path of a file, or \"\" for none".to_owned()),
    })
}

pub(super) fn connections<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    read(from, |value| value.whole(1..=100_000))
}

pub(super) fn body<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    /// What fits into one message to the supervisor, with room for what it is wrapped in.
    const MOST: u64 = 4 << 20;
    read(from, |value| {
        let size = value.text().and_then(|text| text.parse().ok()).map(|ByteSize(bytes)| bytes);
        size.filter(|bytes| (1024..=MOST).contains(bytes)).ok_or_else(|| "must be from \"1KiB\" to \"4MiB\"".to_owned())
    })
}

pub(super) fn models<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<ModelConfig>, D::Error> {
    from.deserialize_seq(Models)
}

pub(super) fn template_vars<'de, D: Deserializer<'de>>(from: D) -> Result<TemplateVars, D::Error> {
    from.deserialize_map(Variables)
}

/// Reads any value, of which more than numbers and texts is not looked at.
struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_i128<E>(self, number: i128) -> Result<Value, E> {
        Ok(Value::Integer(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Other)
    }
}

/// A list of values, each of which this reads.
struct List<T> {
    check: fn(&Value) -> Result<T, String>,
    expected: &'static str,
}

impl<'de, T> Visitor<'de> for List<T> {
    type Value = Vec<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.expected)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        struct Item<T>(fn(&Value) -> Result<T, String>);
        impl<'de, T> DeserializeSeed<'de> for Item<T> {
            type Value = T;

            fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<T, D::Error> {
                read(from, self.0)
            }
        }
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(Item(self.check))? {
            items.push(item);
        }
        Ok(items)
    }
}

/// The models of a list.
struct Models;

impl<'de> Visitor<'de> for Models {
    type Value = Vec<ModelConfig>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of tables, each of which begins with [[model]]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<ModelConfig>, A::Error> {
        let mut models = Vec::new();
        while let Some(model) = list.next_element()? {
            models.push(model);
        }
        Ok(models)
    }
}

/// The variables of a chat template.
struct Variables;

impl<'de> Visitor<'de> for Variables {
    type Value = TemplateVars;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a table, like { enable_thinking = false }")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<TemplateVars, A::Error> {
        let mut variables = TemplateVars::new();
        while let Some(name) = table.next_key::<String>()? {
            let value = table.next_value_seed(Variable(&name))?;
            variables.insert(name, value);
        }
        Ok(variables)
    }
}

/// The variable of this name.
struct Variable<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Variable<'_> {
    type Value = serde_json::Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<serde_json::Value, D::Error> {
        if ipc::check_template_var(self.0).is_err() {
            let rule = if self.0.is_empty() { "a variable has a name" } else { "a template has it from the request" };
            return Err(D::Error::custom(rule));
        }
        serde_json::Value::deserialize(from)
    }
}
