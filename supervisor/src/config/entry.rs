//! The check of one value: its type, its range, and the sentence if it is wrong.
//!
//! It is the same for a file and for the command line. Which keys there are is not known here.
use super::{Auto, ConfigError, Confinement, Isolation, Load, LogFormat, LogPrompts, Place};
use bytesize::ByteSize;
use ipc::{ModelSource, Precision};
use nix::unistd::User;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;
use system::foreign_text::shorten;
use toml::de::{DeArray, DeTable};

/// Numbers of workers.
pub(super) const WORKERS: RangeInclusive<u32> = 1..=256;
/// Numbers of cores and of threads.
pub(super) const CORES: RangeInclusive<u32> = 1..=1024;

const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const MEMORY: RangeInclusive<u64> = 1 << 20..=16 << 40;
/// What fits the address of a Unix socket, which ends in a zero byte.
const SOCKET_LENGTH: usize = 107;
/// A longer text is cut in an error.
const SHOWN_LENGTH: usize = 80;

/// A key's value and where it stands.
pub(super) struct Entry<'a> {
    pub(super) place: Place,
    pub(super) key: &'a str,
    pub(super) value: Value<'a>,
}

/// A value as it was written.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    /// A whole number.
    Integer(i128),
    /// A string.
    Text(&'a str),
    /// A list.
    Array(&'a DeArray<'a>),
    /// A table.
    Table(&'a DeTable<'a>),
    /// What no key takes, by its text.
    Other(&'a str),
}

impl<'a> Entry<'a> {
    pub(super) fn new(place: &Place, key: &'a str, value: Value<'a>) -> Entry<'a> {
        Entry { place: place.clone(), key, value }
    }

    /// The error that this value breaks `rule`, which goes on after "but".
    pub(super) fn refused(&self, rule: impl Into<String>) -> ConfigError {
        let value = match self.value {
            Value::Integer(number) => number.to_string(),
            Value::Text(text) => quoted(text),
            Value::Array(_) => "a list".to_string(),
            Value::Table(_) => "a table".to_string(),
            Value::Other(text) => shortened(text),
        };
        ConfigError::Value { place: self.place.clone(), key: self.key.to_string(), value, rule: rule.into() }
    }

    pub(super) fn whole(&self, range: RangeInclusive<u32>) -> Result<u32, ConfigError> {
        let kind = if matches!(self.value, Value::Integer(_)) { "" } else { "a whole number " };
        self.number(&range)
            .ok_or_else(|| self.refused(format!("must be {kind}from {} to {}", range.start(), range.end())))
    }

    pub(super) fn automatic(&self, range: RangeInclusive<u32>) -> Result<Auto<u32>, ConfigError> {
        if matches!(self.value, Value::Text("auto")) {
            return Ok(Auto::Auto);
        }
        self.number(&range).map(Auto::Fixed).ok_or_else(|| {
            self.refused(format!("must be \"auto\" or a whole number from {} to {}", range.start(), range.end()))
        })
    }

    pub(super) fn duration(&self) -> Result<Duration, ConfigError> {
        let Some(duration) = self.text().and_then(|text| humantime::parse_duration(text).ok()) else {
            return Err(self.refused("must be a duration like \"30s\" or \"10m\""));
        };
        if duration.is_zero() || duration > LONGEST {
            return Err(self.refused("must be longer than 0 and at most 30 days"));
        }
        Ok(duration)
    }

    pub(super) fn memory(&self) -> Result<u64, ConfigError> {
        let Some(ByteSize(bytes)) = self.text().and_then(|text| text.parse().ok()) else {
            return Err(self.refused("must be a size like \"512MiB\" or \"2GiB\""));
        };
        if !MEMORY.contains(&bytes) {
            return Err(self.refused("must be from \"1MiB\" to \"16TiB\""));
        }
        Ok(bytes)
    }

    pub(super) fn isolation(&self) -> Result<Auto<Isolation>, ConfigError> {
        match self.text() {
            Some("auto") => Ok(Auto::Auto),
            Some("request") => Ok(Auto::Fixed(Isolation::Request)),
            Some("worker") => Ok(Auto::Fixed(Isolation::Worker)),
            _ => Err(self.refused("must be \"auto\", \"request\" or \"worker\"")),
        }
    }

    pub(super) fn confinement(&self) -> Result<Confinement, ConfigError> {
        match self.text() {
            Some("on") => Ok(Confinement::On),
            Some("require-landlock") => Ok(Confinement::RequireLandlock),
            _ => Err(self.refused("must be \"on\" or \"require-landlock\"")),
        }
    }

    pub(super) fn load(&self) -> Result<Load, ConfigError> {
        match self.text() {
            Some("eager") => Ok(Load::Eager),
            Some("lazy") => Ok(Load::Lazy),
            _ => Err(self.refused("must be \"eager\" or \"lazy\"")),
        }
    }

    pub(super) fn precision(&self) -> Result<Precision, ConfigError> {
        match self.text() {
            Some("f32") => Ok(Precision::F32),
            Some("int8") => Ok(Precision::Int8),
            _ => Err(self.refused("must be \"f32\" or \"int8\"")),
        }
    }

    pub(super) fn log_format(&self) -> Result<Auto<LogFormat>, ConfigError> {
        match self.text() {
            Some("auto") => Ok(Auto::Auto),
            Some("text") => Ok(Auto::Fixed(LogFormat::Text)),
            Some("json") => Ok(Auto::Fixed(LogFormat::Json)),
            _ => Err(self.refused("must be \"auto\", \"text\" or \"json\"")),
        }
    }

    pub(super) fn log_prompts(&self) -> Result<LogPrompts, ConfigError> {
        match self.text() {
            Some("none") => Ok(LogPrompts::None),
            Some("hash") => Ok(LogPrompts::Hash),
            Some("full") => Ok(LogPrompts::Full),
            _ => Err(self.refused("must be \"none\", \"hash\" or \"full\"")),
        }
    }

    pub(super) fn idle_unload(&self) -> Result<Option<Duration>, ConfigError> {
        match self.text() {
            Some("never") => Ok(None),
            Some(text) if humantime::parse_duration(text).is_ok() => self.duration().map(Some),
            _ => Err(self.refused("must be \"never\" or a duration like \"5m\"")),
        }
    }

    pub(super) fn sha256(&self) -> Result<Option<String>, ConfigError> {
        match self.text() {
            Some("") => Ok(None),
            Some(digest) if digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                Ok(Some(digest.to_ascii_lowercase()))
            }
            _ => Err(self.refused("must be 64 hexadecimal digits, or \"\" for any file")),
        }
    }

    pub(super) fn name(&self) -> Result<String, ConfigError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
        match self.text() {
            Some(name) if (1..=64).contains(&name.len()) && name.bytes().all(allowed) => Ok(name.to_string()),
            _ => Err(self.refused("must be 1 to 64 characters out of A-Z, a-z, 0-9, '.', '_', ':' and '-'")),
        }
    }

    /// What a model's path names; a relative one starts from `folder`.
    pub(super) fn model_source(&self, folder: &Path) -> Result<ModelSource, ConfigError> {
        let Some(text) = self.text().filter(|text| is_path(text)) else {
            return Err(self.refused("must be a file, a folder or \"builtin:pocket\""));
        };
        let source = ModelSource::parse_in(text, folder);
        if source.path().is_some_and(|path| path.to_str().is_none()) {
            return Err(self.refused("the folder that it is relative to has a name that is not valid UTF-8"));
        }
        Ok(source)
    }

    /// The socket's path; a relative one starts from `folder`.
    pub(super) fn socket(&self, folder: &Path) -> Result<PathBuf, ConfigError> {
        let Some(text) = self.text().filter(|text| is_path(text)) else {
            return Err(self.refused("must be the path of a socket"));
        };
        socket(&self.place, folder.join(text))
    }

    /// The uid of a user that is named or given by number.
    pub(super) fn user(&self) -> Result<u32, ConfigError> {
        match self.value {
            // The largest number means "no user".
            Value::Integer(_) => self.whole(0..=u32::MAX - 1),
            Value::Text(name) => match User::from_name(name) {
                Ok(Some(user)) => Ok(user.uid.as_raw()),
                Ok(None) => Err(self.refused("there is no such user")),
                Err(error) => Err(self.refused(format!("looking that user up failed: {}", error.desc()))),
            },
            _ => Err(self.refused("must be a user name or a uid")),
        }
    }

    fn text(&self) -> Option<&'a str> {
        if let Value::Text(text) = self.value { Some(text) } else { None }
    }

    fn number(&self, range: &RangeInclusive<u32>) -> Option<u32> {
        let Value::Integer(number) = self.value else { return None };
        u32::try_from(number).ok().filter(|number| range.contains(number))
    }
}

/// The socket at `path`, if one can be there.
pub(super) fn socket(place: &Place, path: PathBuf) -> Result<PathBuf, ConfigError> {
    if (1..=SOCKET_LENGTH).contains(&path.as_os_str().len()) {
        return Ok(path);
    }
    let rule = format!("must be a path of 1 to {SOCKET_LENGTH} bytes");
    let value = quoted(&path.to_string_lossy());
    Err(ConfigError::Value { place: place.clone(), key: "socket".to_string(), value, rule })
}

fn is_path(text: &str) -> bool {
    !text.is_empty() && !text.contains('\0')
}

fn quoted(text: &str) -> String {
    format!("{:?}", shortened(text))
}

/// The text, or as much of it as an error shows.
pub(super) fn shortened(text: &str) -> String {
    shorten(text, SHOWN_LENGTH).into_owned()
}
