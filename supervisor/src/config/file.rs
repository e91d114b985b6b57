//! The configuration's file: which keys its tables have, and on which line each of them is.
//!
//! The tables are walked in the order of the file, so that the first thing that is wrong is the one
//! that is told.
use super::entry::{self, Entry, Value};
use super::{Config, ConfigError, ModelConfig, Place, SupervisorConfig};
use ipc::{ModelSource, TemplateVars};
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A table and its keys, which the hint for an unknown one is taken from.
struct Table {
    name: &'static str,
    keys: &'static [&'static str],
}

const ROOT: Table = Table { name: "the file", keys: &["supervisor", "model"] };
const SUPERVISOR: Table = Table {
    name: "[supervisor]",
    keys: &[
        "socket",
        "queue",
        "queue_timeout",
        "cores",
        "allow_users",
        "shutdown_timeout",
        "sandbox",
        "log_format",
        "log_prompts",
    ],
};
const MODEL: Table = Table {
    name: "[[model]]",
    keys: &[
        "name",
        "path",
        "workers",
        "threads",
        "isolation",
        "context",
        "load",
        "idle_unload",
        "precision",
        "memory_per_worker",
        "progress_timeout",
        "request_timeout",
        "client_timeout",
        "max_attempts",
        "sha256",
        "template_vars",
    ],
};

/// Parses the text of the file at `path`. There may be no model in it.
pub(super) fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let file = File { text, name: path.display().to_string(), folder: path.parent().unwrap_or(Path::new("")) };
    let root = DeTable::parse(text).map_err(|error| file.syntax(&error))?;
    let mut config = Config { supervisor: SupervisorConfig::default(), models: Vec::new(), names_models: false };
    for entry in file.entries(root.get_ref()) {
        match entry.key {
            "supervisor" => config.supervisor = file.supervisor(&entry)?,
            "model" => file.models(&entry, &mut config)?,
            _ => return Err(unknown(entry, &ROOT)),
        }
    }
    Ok(config)
}

/// Every key of `[supervisor]` and `[[model]]`.
#[cfg(test)]
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    SUPERVISOR.keys.iter().chain(MODEL.keys).copied()
}

struct File<'a> {
    text: &'a str,
    name: String,
    folder: &'a Path,
}

impl<'a> File<'a> {
    fn supervisor(&self, table: &Entry<'a>) -> Result<SupervisorConfig, ConfigError> {
        let Value::Table(keys) = table.value else {
            return Err(table.refused("must be a table, which begins with [supervisor]"));
        };
        let mut supervisor = SupervisorConfig::default();
        for entry in self.entries(keys) {
            match entry.key {
                "socket" => supervisor.socket = Some(entry.socket(self.folder)?),
                "queue" => supervisor.queue = entry.whole(0..=100_000)? as usize,
                "queue_timeout" => supervisor.queue_timeout = entry.duration()?,
                "cores" => supervisor.cores = entry.automatic(entry::CORES)?,
                "allow_users" => supervisor.allow_users = self.users(&entry)?,
                "shutdown_timeout" => supervisor.shutdown_timeout = entry.duration()?,
                "sandbox" => supervisor.sandbox = entry.confinement()?,
                "log_format" => supervisor.log_format = entry.log_format()?,
                "log_prompts" => supervisor.log_prompts = entry.log_prompts()?,
                _ => return Err(unknown(entry, &SUPERVISOR)),
            }
        }
        Ok(supervisor)
    }

    fn users(&self, list: &Entry<'a>) -> Result<Vec<u32>, ConfigError> {
        let Value::Array(users) = list.value else {
            return Err(list.refused("must be a list of user names and uids, like [\"alice\", 1000]"));
        };
        users.iter().map(|user| self.entry("a user in allow_users", user).user()).collect()
    }

    fn models(&self, list: &Entry<'a>, config: &mut Config) -> Result<(), ConfigError> {
        const RULE: &str = "must be a list of tables, each of which begins with [[model]]";
        let Value::Array(models) = list.value else { return Err(list.refused(RULE)) };
        for model in models.iter() {
            let model = self.entry("model", model);
            let Value::Table(keys) = model.value else { return Err(model.refused(RULE)) };
            let (model, place) = self.model(keys, model.place)?;
            config.add(model, &place)?;
        }
        Ok(())
    }

    /// A model, and where its name comes from.
    fn model(&self, keys: &'a DeTable<'a>, place: Place) -> Result<(ModelConfig, Place), ConfigError> {
        let mut model = ModelConfig::new(String::new(), ModelSource::parse(""));
        let mut name = None;
        let mut path = None;
        for entry in self.entries(keys) {
            match entry.key {
                "name" => {
                    model.name = entry.name()?;
                    name = Some(entry.place);
                }
                "path" => {
                    model.source = entry.model_source(self.folder)?;
                    path = Some(entry.place);
                }
                "workers" => model.workers = entry.automatic(entry::WORKERS)?,
                "threads" => model.threads = entry.automatic(entry::CORES)?,
                "isolation" => model.isolation = entry.isolation()?,
                "context" => model.context = Some(entry.whole(1..=u32::MAX)?),
                "load" => model.load = entry.load()?,
                "precision" => model.precision = entry.precision()?,
                "idle_unload" => model.idle_unload = entry.idle_unload()?,
                "memory_per_worker" => model.memory_per_worker = entry.memory()?,
                "progress_timeout" => model.progress_timeout = entry.duration()?,
                "request_timeout" => model.request_timeout = entry.duration()?,
                "client_timeout" => model.client_timeout = entry.duration()?,
                "max_attempts" => model.max_attempts = entry.whole(1..=100)?,
                "sha256" => model.sha256 = entry.sha256()?,
                "template_vars" => model.template_vars = self.template_vars(&entry)?,
                _ => return Err(unknown(entry, &MODEL)),
            }
        }
        let path = path.ok_or(ConfigError::NoPath { place })?;
        let name = match name {
            Some(name) => name,
            None => {
                let derived = Entry::new(&path, "name (from path)", Value::Text(name_of(&model.source))).name()?;
                model.name = derived;
                path
            }
        };
        Ok((model, name))
    }

    fn template_vars(&self, table: &Entry<'a>) -> Result<TemplateVars, ConfigError> {
        let Value::Table(values) = table.value else {
            return Err(table.refused("must be a table, like { enable_thinking = false }"));
        };
        let mut variables = TemplateVars::new();
        for entry in self.entries(values) {
            ipc::check_template_var(entry.key).map_err(|_| {
                entry.refused(if entry.key.is_empty() {
                    "a variable has a name"
                } else {
                    "a template has it from the request"
                })
            })?;
            let (_, value) = values.get_key_value(entry.key).ok_or_else(|| entry.refused("must be there"))?;
            let json =
                json(value.get_ref()).ok_or_else(|| entry.refused("must be what JSON can say, without dates"))?;
            variables.insert(entry.key.to_owned(), json);
        }
        Ok(variables)
    }

    /// A table's entries, in the order of the file.
    fn entries(&self, table: &'a DeTable<'a>) -> Vec<Entry<'a>> {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        entries.into_iter().map(|(key, value)| self.entry(key.get_ref(), value)).collect()
    }

    fn entry(&self, key: &'a str, value: &'a Spanned<DeValue<'a>>) -> Entry<'a> {
        let raw = self.text.get(value.span()).unwrap_or_default();
        let place = self.place(value.span().start);
        let value = match value.get_ref() {
            DeValue::Integer(number) => {
                i128::from_str_radix(number.as_str(), number.radix()).map_or(Value::Other(raw), Value::Integer)
            }
            DeValue::String(text) => Value::Text(text),
            DeValue::Array(array) => Value::Array(array),
            DeValue::Table(table) => Value::Table(table),
            DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => Value::Other(raw),
        };
        Entry { place, key, value }
    }

    fn place(&self, start: usize) -> Place {
        let before = self.text.as_bytes().get(..start).unwrap_or(self.text.as_bytes());
        Place::line(&self.name, 1 + before.iter().filter(|byte| **byte == b'\n').count())
    }

    fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        let span = error.span().unwrap_or_default();
        // The parser's words alone do not say which key is there twice.
        let message = match self.text.get(span.clone()).and_then(|text| text.lines().next()) {
            Some(text) if !text.is_empty() => format!("{} at {:?}", error.message(), entry::shortened(text)),
            _ => error.message().to_string(),
        };
        ConfigError::Syntax { place: self.place(span.start), message }
    }
}

/// A value as JSON; none if it has one that JSON has not.
fn json(value: &DeValue<'_>) -> Option<serde_json::Value> {
    Some(match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok()?.into(),
        DeValue::Float(number) => number.as_str().parse::<f64>().ok().filter(|number| number.is_finite())?.into(),
        DeValue::Boolean(flag) => (*flag).into(),
        DeValue::Array(items) => items.iter().map(|item| json(item.get_ref())).collect::<Option<Vec<_>>>()?.into(),
        DeValue::Table(pairs) => {
            let mut object = serde_json::Map::new();
            for (key, value) in pairs {
                object.insert(key.get_ref().to_string(), json(value.get_ref())?);
            }
            object.into()
        }
        DeValue::Datetime(_) => return None,
    })
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

fn unknown(entry: Entry<'_>, table: &Table) -> ConfigError {
    let hint = hint(entry.key, table);
    ConfigError::UnknownKey { place: entry.place, key: entry::shortened(entry.key), table: table.name, hint }
}

/// The table that the key belongs to, or the key of this table that is spelled most alike; nothing
/// if none is near.
fn hint(key: &str, table: &Table) -> String {
    let spelled = key.to_lowercase().replace('-', "_");
    if let Some(other) = [SUPERVISOR, MODEL].iter().find(|other| other.keys.contains(&spelled.as_str()))
        && other.name != table.name
    {
        return format!("; {spelled:?} belongs in {}", other.name);
    }
    let distances = table.keys.iter().map(|known| (strsim::damerau_levenshtein(&spelled, known), known));
    match distances.min() {
        Some((distance, known)) if distance <= 1 + spelled.chars().count() / 3 => format!("; did you mean {known:?}?"),
        _ => String::new(),
    }
}
