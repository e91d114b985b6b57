//! The configuration's file: which keys its tables have, and on which line each of them is.
//!
//! The keys are the fields of the structs that serde reads; here is a deserializer that knows where
//! each value stands. The tables are walked in the order of the file, so that the first thing that
//! is wrong is the one that is told.
use super::value::{self, Value};
use super::{Config, ConfigError, HttpConfig, ModelConfig, Place, SupervisorConfig};
use ipc::{Listen, ModelSource};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Expected, MapAccess, SeqAccess, Unexpected, Visitor, value::StrDeserializer},
    forward_to_deserialize_any,
};
use std::{
    fmt::{self, Display, Formatter},
    marker::PhantomData,
    path::Path,
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// The file as a whole.
#[derive(Default, Deserialize)]
#[serde(default, rename = "the file")]
struct Root {
    supervisor: SupervisorConfig,
    http: HttpConfig,
    #[serde(deserialize_with = "value::models")]
    model: Vec<ModelConfig>,
}

/// Parses the text of the file at `path`. There may be no model in it.
pub(super) fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let file = File { text, name: path.display().to_string() };
    let folder = path.parent().unwrap_or(Path::new(""));
    let tree = DeTable::parse(text).map_err(|error| file.syntax(&error))?;
    let tree = Spanned::new(tree.span(), DeValue::Table(tree.into_inner()));
    let root = Entry { file: &file, key: "the file", value: &tree };
    let read = read(root, PhantomData::<Root>).map_err(|error| match error {
        Refusal::Config(error) => error,
        Refusal::Rule(rule) => root.refused(rule),
    });
    let Root { mut supervisor, mut http, model: models } = read?;
    if let Some(path) = &mut http.api_keys_file {
        *path = folder.join(&*path);
    }
    for listen in &mut http.listen {
        if let Listen::Unix(path) = listen {
            *path = folder.join(&*path);
        }
    }
    let socket = root.entry("supervisor").and_then(|entry| entry.entry("socket"));
    if let Some((socket, entry)) = supervisor.socket.as_mut().zip(socket) {
        *socket = value::socket_at(folder.join(&socket)).map_err(|rule| entry.refused(rule))?;
    }
    let mut config = Config { supervisor, http, models: Vec::new(), names_models: false };
    let tables = root.entry("model").map(|entry| entry.items()).unwrap_or_default();
    for (model, table) in models.into_iter().zip(tables) {
        let (model, place) = file.complete(model, &table, folder)?;
        config.add(model, &place)?;
    }
    Ok(config)
}

/// Every key of `[supervisor]`, `[http]` and `[[model]]`.
#[cfg(test)]
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    [SupervisorConfig::keys(), HttpConfig::keys(), ModelConfig::keys()].into_iter().flat_map(|(_, keys)| keys).copied()
}

struct File<'a> {
    text: &'a str,
    name: String,
}

impl File<'_> {
    /// A model with what depends on where its path and its name stand, and where its name comes
    /// from.
    fn complete(
        &self,
        mut model: ModelConfig,
        table: &Entry<'_>,
        folder: &Path,
    ) -> Result<(ModelConfig, Place), ConfigError> {
        let path = table.entry("path").ok_or_else(|| ConfigError::NoPath { place: table.place() })?;
        model.source = value::source_in(&model.source, folder).map_err(|rule| path.refused(rule))?;
        if let Some(name) = table.entry("name") {
            return Ok((model, name.place()));
        }
        let derived = name_of(&model.source).to_owned();
        let refused = |rule| value::refused(&path.place(), "name (from path)", value::quoted(&derived), rule);
        model.name = Value::Text(derived.clone()).name().map_err(refused)?;
        Ok((model, path.place()))
    }

    fn place(&self, start: usize) -> Place {
        let before = self.text.as_bytes().get(..start).unwrap_or(self.text.as_bytes());
        Place::line(&self.name, 1 + before.iter().filter(|byte| **byte == b'\n').count())
    }

    fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        let span = error.span().unwrap_or_default();
        // The parser's words alone do not say which key is there twice.
        let message = match self.text.get(span.clone()).and_then(|text| text.lines().next()) {
            Some(text) if !text.is_empty() => format!("{} at {:?}", error.message(), value::shortened(text)),
            _ => error.message().to_string(),
        };
        ConfigError::Syntax { place: self.place(span.start), message }
    }
}

/// A value, by whose key it is called in errors.
#[derive(Clone, Copy)]
struct Entry<'a> {
    file: &'a File<'a>,
    key: &'a str,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Entry<'a> {
    fn place(&self) -> Place {
        self.file.place(self.value.span().start)
    }

    fn table(&self) -> Option<&'a DeTable<'a>> {
        if let DeValue::Table(table) = self.value.get_ref() { Some(table) } else { None }
    }

    /// A value of a table.
    fn entry(&self, key: &str) -> Option<Entry<'a>> {
        let (key, value) = self.table()?.get_key_value(key)?;
        Some(Entry { key: key.get_ref(), value, ..*self })
    }

    /// The values of a list, called as the list is, or as what is in it.
    fn items(&self) -> Vec<Entry<'a>> {
        let DeValue::Array(items) = self.value.get_ref() else { return Vec::new() };
        let key = match self.key {
            "allow_users" => "a user in allow_users",
            "listen" => "an address in listen",
            "trusted" => "an address in trusted",
            "hosts" => "a name in hosts",
            "origins" => "an origin in origins",
            key => key,
        };
        items.iter().map(|value| Entry { value, key, ..*self }).collect()
    }

    /// The error that this value breaks a rule.
    fn refused(&self, rule: String) -> ConfigError {
        let value = match (self.value.get_ref(), self.integer()) {
            (_, Some(number)) => number.to_string(),
            (DeValue::String(text), _) => value::quoted(text),
            (DeValue::Array(_), _) => "a list".to_owned(),
            (DeValue::Table(_), _) => "a table".to_owned(),
            _ => value::shortened(self.file.text.get(self.value.span()).unwrap_or_default()),
        };
        value::refused(&self.place(), self.key, value, rule)
    }

    fn integer(&self) -> Option<i128> {
        let DeValue::Integer(number) = self.value.get_ref() else { return None };
        i128::from_str_radix(number.as_str(), number.radix()).ok()
    }
}

/// What is wrong: a rule that some value breaks, or the sentence that says which.
#[derive(Debug)]
enum Refusal {
    Rule(String),
    Config(ConfigError),
}

impl Display for Refusal {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Rule(rule) => formatter.write_str(rule),
            Refusal::Config(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for Refusal {}

impl serde::de::Error for Refusal {
    fn custom<T: Display>(rule: T) -> Refusal {
        Refusal::Rule(rule.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Refusal {
        Refusal::Rule(format!("must be {expected}"))
    }
}

/// A walk through entries, the last of which are the next.
struct Walk<'a> {
    rest: Vec<Entry<'a>>,
    /// What the table is called and which keys it has, if it does not take any.
    fields: Option<(&'static str, &'static [&'static str])>,
    next: Option<Entry<'a>>,
}

impl<'a> Walk<'a> {
    /// Through a table, in the order of the file.
    fn through(table: &'a DeTable<'a>, of: Entry<'a>, fields: Option<(&'static str, &'static [&'static str])>) -> Self {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| std::cmp::Reverse(key.span().start));
        let entry = |(key, value): (&'a Spanned<_>, _)| Entry { key: AsRef::<str>::as_ref(key.get_ref()), value, ..of };
        Walk { rest: entries.into_iter().map(entry).collect(), fields, next: None }
    }
}

impl<'de> MapAccess<'de> for Walk<'de> {
    type Error = Refusal;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Refusal> {
        self.next = self.rest.pop();
        let Some(entry) = self.next else { return Ok(None) };
        if let Some((table, fields)) = self.fields.filter(|(_, fields)| !fields.contains(&entry.key)) {
            let (key, hint) = (value::shortened(entry.key), hint(entry.key, table, fields));
            return Err(Refusal::Config(ConfigError::UnknownKey { place: entry.place(), key, table, hint }));
        }
        seed.deserialize(StrDeserializer::new(entry.key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refusal> {
        let entry = self.next.take().ok_or_else(|| Refusal::Rule("must have a key".to_owned()))?;
        read(entry, seed)
    }
}

impl<'de> SeqAccess<'de> for Walk<'de> {
    type Error = Refusal;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Refusal> {
        self.rest.pop().map(|entry| read(entry, seed)).transpose()
    }
}

/// Reads a value. A rule that it breaks becomes a sentence about it.
fn read<'de, T: DeserializeSeed<'de>>(entry: Entry<'de>, seed: T) -> Result<T::Value, Refusal> {
    seed.deserialize(entry).map_err(|error| match error {
        Refusal::Rule(rule) => Refusal::Config(entry.refused(rule)),
        Refusal::Config(error) => Refusal::Config(error),
    })
}

impl<'de> Deserializer<'de> for Entry<'de> {
    type Error = Refusal;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        let rest = || self.items().into_iter().rev().collect();
        match self.value.get_ref() {
            DeValue::String(text) => visitor.visit_str(text),
            DeValue::Boolean(flag) => visitor.visit_bool(*flag),
            DeValue::Integer(_) => match self.integer().map(i64::try_from) {
                Some(Ok(number)) => visitor.visit_i64(number),
                Some(Err(_)) | None => Err(Refusal::Rule(value::JSON.to_owned())),
            },
            DeValue::Float(number) => match number.as_str().replace('_', "").parse::<f64>() {
                Ok(number) if number.is_finite() => visitor.visit_f64(number),
                Ok(_) | Err(_) => Err(Refusal::Rule(value::JSON.to_owned())),
            },
            DeValue::Datetime(_) => Err(Refusal::Rule(value::JSON.to_owned())),
            DeValue::Array(_) => visitor.visit_seq(Walk { rest: rest(), fields: None, next: None }),
            DeValue::Table(table) => visitor.visit_map(Walk::through(table, self, None)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        match self.table() {
            Some(table) => visitor.visit_map(Walk::through(table, self, Some((name, fields)))),
            None => Err(serde::de::Error::invalid_type(Unexpected::Other("no table"), &visitor)),
        }
    }

    /// Reads a value whatever it is, for those who say themselves what it must be.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match (self.value.get_ref(), self.integer()) {
            (DeValue::String(text), _) => visitor.visit_str(text),
            (_, Some(number)) => visitor.visit_i128(number),
            _ => visitor.visit_unit(),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier
    }
}

/// A struct's name and its fields, as serde reads them.
trait Keys: Sized {
    fn keys() -> (&'static str, &'static [&'static str]);
}

impl<T: for<'de> Deserialize<'de>> Keys for T {
    fn keys() -> (&'static str, &'static [&'static str]) {
        let mut keys = ("", &[][..]);
        let _asked = T::deserialize(Asking(&mut keys));
        keys
    }
}

/// Finds out for which fields it is asked, and gives nothing.
struct Asking<'a>(&'a mut (&'static str, &'static [&'static str]));

impl<'de> Deserializer<'de> for Asking<'_> {
    type Error = Refusal;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Refusal> {
        Err(Refusal::Rule(String::new()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        *self.0 = (name, fields);
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The name of a model that is given none: what follows `builtin:`, or the file's name without
/// `.gguf`.
fn name_of(source: &ModelSource) -> &str {
    let path = match source {
        ModelSource::BuiltIn { name, .. } => return name,
        ModelSource::File(path) | ModelSource::Folder(path) => path,
    };
    let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match file.rsplit_once('.') {
        Some((stem, extension)) if extension.eq_ignore_ascii_case("gguf") => stem,
        _ => file,
    }
}

/// The table that the key belongs to, or the key of this table that is spelled most alike; nothing
/// if none is near.
fn hint(key: &str, table: &str, fields: &[&str]) -> String {
    let spelled = key.to_lowercase().replace('-', "_");
    let others = [SupervisorConfig::keys(), HttpConfig::keys(), ModelConfig::keys()];
    let has_key = |(name, keys): &&(&str, &[&str])| *name != table && keys.contains(&spelled.as_str());
    if let Some((other, _)) = others.iter().find(has_key) {
        return format!("; {spelled:?} belongs in {other}");
    }
    let distances = fields.iter().map(|known| (strsim::damerau_levenshtein(&spelled, known), known));
    match distances.min() {
        Some((distance, known)) if distance <= 1 + spelled.chars().count() / 3 => format!("; did you mean {known:?}?"),
        _ => String::new(),
    }
}
