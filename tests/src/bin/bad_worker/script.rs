//! Scripts: what is to be done wrong, at which moment, and how often.
//!
//! A script is written `ACTION@MOMENT`, with `?times=N` after it if only the first N processes that
//! come to that moment are to do it, and `after=N` if that many do it right before. The moment is
//! `start` if it is not named. A script stands in the model's path, after `script:`, for every
//! worker. Each word at the beginning of a prompt that begins with an exclamation mark is one for
//! that request. `ok` does nothing wrong.
//!
//! How many have done it is counted in a file beside the daemon's configuration, so that all
//! processes count together. `as=NAME` names the file where two scripts would otherwise count as
//! one. Whoever is confined can count no more.
//!
//! * `cache=N` and `weights=N` claim that a request needs a cache and the model has files of N
//!   bytes; with `silent=1` this is said only when the model is loaded. `cache=model` is the truth.
//! * `confine=worker`, `confine=both` and `confine=paths` confine workers, or templates and
//!   workers, as the real ones are, or workers by Landlock alone.
//! * `model=FILE` loads that model instead of the echo engine. If it has a `cache=model`, it goes
//!   on with what is in a request's cache.
//! * `inherit=N` has the template keep N MiB.
//! * `embed=N` makes it a model of vectors of N numbers, each of which takes `text_us`
//!   microseconds.
//! * What else is asked for (`token_us`, `prompt_us`, `load_ms`, `context`) goes to the echo
//!   engine.
use ipc::ModelKind;
use std::{
    fs::File,
    io::{self, Write},
    ops::Range,
    path::{Path, PathBuf},
    process,
    str::FromStr,
    time::Duration,
};

/// When something goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// While the template loads.
    Load,
    /// [`worker::template::ForkStep::Requested`].
    Asked,
    /// [`worker::template::ForkStep::Between`].
    Between,
    /// [`worker::template::ForkStep::Born`].
    Born,
    /// [`worker::template::ForkStep::Known`].
    Known,
    /// [`worker::template::ForkStep::Told`].
    Told,
    /// In a worker just born.
    Birth,
    /// After `Go`, before `Hello`.
    Go,
    /// After `Hello`.
    Idle,
    /// When a request has come, before anything is said of it.
    Start,
    /// When the prompt's ids have been sent.
    Prompt,
    /// When the answer has this many tokens, or vectors in messages of three.
    Token(u32),
    /// When the answer is complete.
    Answer,
}

/// What is done wrong. What each means is in `act.rs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    pub(crate) action: String,
    pub(crate) moment: Moment,
    /// Which times, counted from 0, and which file counts them; always if there is no limit.
    limit: Option<(Range<u64>, PathBuf)>,
    /// The size of the cache that the template claims a request to need; the model's if `None`.
    pub(crate) cache: Option<u64>,
    /// The size of the files that the template claims to have loaded.
    pub(crate) weights: u64,
    /// Whether it does not say before it loads what it needs.
    pub(crate) silent: bool,
    /// The length of its vectors; 0 if it generates text.
    pub(crate) dimensions: u32,
    /// How long a vector takes.
    pub(crate) text_time: Duration,
    /// Options for the echo engine.
    pub(crate) engine: String,
    /// What confines its processes.
    pub(crate) confine: Confine,
    /// The model; the echo engine if `None`.
    pub(crate) model: Option<String>,
    /// MiB of memory that the template keeps.
    pub(crate) inherit: usize,
}

/// What confines processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Confine {
    /// Nothing.
    #[default]
    Nobody,
    /// Workers are, as the real ones.
    Worker,
    /// Templates and workers are, as the real ones.
    Both,
    /// Workers are, but only by Landlock.
    Paths,
}

impl Script {
    /// The script in a model's path, which the daemon has made absolute.
    pub(crate) fn in_path(path: &str) -> Result<Script, String> {
        let (folder, text) = path.split_once("script:").ok_or("the path names no script")?;
        Script::parse(text, Path::new(folder))
    }

    /// The scripts at the beginning of a prompt; `folder` is where they count.
    pub(crate) fn in_prompt(prompt: &str, folder: &Path) -> Result<Vec<Script>, String> {
        let texts = prompt.split_ascii_whitespace().map_while(|word| word.strip_prefix('!'));
        texts.map(|text| Script::parse(text, folder)).collect()
    }

    fn parse(text: &str, folder: &Path) -> Result<Script, String> {
        let (what, query) = text.split_once('?').unwrap_or((text, ""));
        let (action, moment) = what.split_once('@').unwrap_or((what, "start"));
        let moment: Moment = moment.parse()?;
        let (mut after, mut times, mut cache, mut weights, mut dimensions, mut text_us) =
            (None, None, Some(0), 0, 0, 0);
        let mut counter = format!("{action}@{moment:?}");
        let mut silent = false;
        let (mut confine, mut model, mut inherit) = (Confine::Nobody, None, 0);
        let mut engine = Vec::new();
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let number = |text: &str| text.parse().map_err(|_| format!("no number: {option:?}"));
            match option.split_once('=') {
                Some(("times", text)) => times = Some(number(text)?),
                Some(("after", text)) => after = Some(number(text)?),
                Some(("cache", "model")) => cache = None,
                Some(("cache", text)) => cache = Some(number(text)?),
                Some(("weights", text)) => weights = number(text)?,
                Some(("silent", text)) => silent = number(text)? != 0,
                Some(("embed", text)) => dimensions = text.parse().map_err(|_| format!("no number: {option:?}"))?,
                Some(("text_us", text)) => text_us = number(text)?,
                Some(("confine", "worker")) => confine = Confine::Worker,
                Some(("confine", "both")) => confine = Confine::Both,
                Some(("confine", "paths")) => confine = Confine::Paths,
                Some(("model", path)) => model = Some(path.to_owned()),
                Some(("inherit", text)) => inherit = text.parse().map_err(|_| format!("no number: {option:?}"))?,
                Some(("as", name)) => counter = name.to_owned(),
                _ => engine.push(option),
            }
        }
        let first = after.unwrap_or(0);
        let range = first..times.map_or(u64::MAX, |times: u64| first.saturating_add(times));
        let limit = (after.is_some() || times.is_some()).then(|| (range, folder.join(format!("count-{counter}"))));
        let text_time = Duration::from_micros(text_us);
        Ok(Script {
            action: action.to_owned(),
            moment,
            limit,
            cache,
            weights,
            silent,
            dimensions,
            text_time,
            engine: engine.join("&"),
            confine,
            model,
            inherit,
        })
    }

    pub(crate) fn kind(&self) -> ModelKind {
        if self.dimensions == 0 { ModelKind::Generate } else { ModelKind::Embed }
    }

    /// Whether this process must do it now. Asking counts, so it must be asked once when the moment
    /// has come.
    pub(crate) fn strikes(&self, moment: Moment) -> bool {
        if self.moment != moment || self.action == "ok" {
            return false;
        }
        match &self.limit {
            None => true,
            Some((range, file)) => match count(file) {
                Ok(before) => range.contains(&before),
                Err(error) => {
                    // Its test is to fail for this reason and no other.
                    eprintln!("bad-worker: cannot count in {}: {error}", file.display());
                    process::abort()
                }
            },
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Moment, String> {
        Ok(match text {
            "load" => Moment::Load,
            "asked" => Moment::Asked,
            "between" => Moment::Between,
            "born" => Moment::Born,
            "known" => Moment::Known,
            "told" => Moment::Told,
            "birth" => Moment::Birth,
            "go" => Moment::Go,
            "idle" => Moment::Idle,
            "start" => Moment::Start,
            "prompt" => Moment::Prompt,
            "answer" => Moment::Answer,
            number => Moment::Token(number.parse().map_err(|_| format!("there is no moment {number:?}"))?),
        })
    }
}

/// Adds one to the length of `file` and returns what it was before.
fn count(file: &Path) -> io::Result<u64> {
    let mut file = File::options().append(true).create(true).open(file)?;
    file.lock()?;
    let before = file.metadata()?.len();
    file.write_all(b"+")?;
    Ok(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read_from_a_path_and_from_a_prompt() {
        let script = Script::in_path("/tmp/x/script:kill@between?times=2&token_us=5").unwrap();
        assert_eq!(
            (script.action.as_str(), script.moment, script.engine.as_str()),
            ("kill", Moment::Between, "token_us=5")
        );
        assert_eq!(script.limit, Some((0..2, PathBuf::from("/tmp/x/count-kill@Between"))));
        let prompt = "!crash@3?as=it&times=1 !stop@answer more !words";
        let scripts = Script::in_prompt(prompt, Path::new("/y")).unwrap();
        let all: Vec<_> = scripts.iter().map(|script| (script.action.as_str(), script.moment)).collect();
        assert_eq!(all, [("crash", Moment::Token(3)), ("stop", Moment::Answer)]);
        assert_eq!(scripts[0].limit, Some((0..1, PathBuf::from("/y/count-it"))));
        assert_eq!(Script::in_prompt("more words", Path::new("/y")), Ok(Vec::new()));
        assert!(Script::in_prompt("!crash@noon", Path::new("/y")).is_err());
    }

    #[test]
    fn only_the_first_so_many_strike() {
        let folder = tempfile::tempdir().unwrap();
        let script = Script::parse("crash@go?times=2", folder.path()).unwrap();
        assert!(!script.strikes(Moment::Idle), "another moment does not count");
        assert_eq!([(); 4].map(|()| script.strikes(Moment::Go)), [true, true, false, false]);
        let script = Script::parse("kill@go?after=1&times=1", folder.path()).unwrap();
        assert_eq!([(); 4].map(|()| script.strikes(Moment::Go)), [false, true, false, false]);
    }
}
