//! The isolation campaign: requests with secrets beside requests that were told nothing, one after
//! the other and many at once, while workers are killed. No answer may hold another request's
//! secret, and who was told nothing must hear just that.
//!
//! The secrets are codes of the kind that the pocket model was trained to recall
//! (`worker/pocket/corpus.py`); each is told to one request alone. Beside them, texts become
//! vectors among others' texts, and each must have the vector that it has alone.
use super::{
    catalogue::{Catalogue, Pool},
    expected::MAX_ATTEMPTS,
    harness::Harness,
    injector::Injector,
};
use crate::{
    Daemon,
    exchange::{Content, Line, Outcome},
    minilm,
    random::Random,
};
use ipc::{ChatMessage, EmbedRequest, GenerateRequest, Prompt, Request, Role, TextRole};
use nix::sys::signal::Signal;
use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

/// The length of a code.
const LENGTH: usize = 6;
/// What nobody was told is asked for in so many ways.
const QUESTIONS: usize = 60;
/// After so many texts a client has vectors made.
const BETWEEN: usize = 6;

/// What an isolation campaign is like.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// What its requests follow from.
    pub seed: u64,
    /// `request` or `worker`.
    pub isolation: &'static str,
    /// Texts that are generated.
    pub generations: usize,
    /// Clients, and no more than half as many workers; one of each for one after the other.
    pub clients: usize,
}

/// What came of one in which nothing was wrong.
#[derive(Clone, Debug)]
pub struct Kept {
    isolation: &'static str,
    clients: usize,
    /// All answers, in the order of the requests.
    pub answers: Vec<String>,
    /// Requests that were told a secret.
    pub told: usize,
    /// Those of them whose answer has it.
    pub recalled: usize,
    /// Vectors that were compared.
    pub vectors: usize,
    /// Workers that were killed.
    pub killed: usize,
}

/// One request for a text.
struct Question {
    prompt: Prompt,
    /// What it is told.
    secret: Option<String>,
    /// The right answer, if it is told nothing.
    answer: Option<String>,
}

impl Secrets {
    /// Runs it: what came of it, or what was wrong.
    pub fn run(&self) -> Result<Kept, String> {
        let Secrets { isolation, clients, seed, .. } = self;
        let common = format!("isolation = \"{isolation}\"\nmax_attempts = {MAX_ATTEMPTS}");
        let workers = clients.div_ceil(2);
        let vectors = minilm();
        let config = format!(
            "[[model]]\nname = \"text\"\npath = \"builtin:pocket\"\nworkers = {workers}\n{common}\n\
             [[model]]\nname = \"vectors\"\npath = {vectors:?}\nworkers = {workers}\n{common}\n"
        );
        let mut daemon = Daemon::launch(&config, &[]);
        daemon.live_for(std::time::Duration::from_secs(1800));
        daemon.settle();
        let kept = self.run_with(&daemon);
        kept.map_err(|wrong| {
            format!("{}\n{wrong}\nisolation {isolation}, {clients} clients, seed {seed}", daemon.last_words())
        })
    }

    fn run_with(&self, daemon: &Daemon) -> Result<Kept, String> {
        let unanswerable = unanswerable(daemon)?;
        let alone = vectors_alone(daemon)?;
        let questions: Vec<Question> = (0..self.generations).map(|at| self.question(at, &unanswerable)).collect();
        let secrets: HashSet<&str> = questions.iter().filter_map(|question| question.secret.as_deref()).collect();
        let harness = Harness::new(daemon);
        let game = Game {
            harness: &harness,
            questions: &questions,
            secrets: &secrets,
            alone: &alone,
            next: AtomicUsize::new(0),
            answers: Mutex::new(vec![String::new(); self.generations]),
            vectors: AtomicUsize::new(0),
        };
        let killed = thread::scope(|scope| {
            let killer = scope.spawn(|| self.kill(&harness));
            let game = &game;
            let client = |number| scope.spawn(move || game.play(Random::of(self.seed, usize::MAX / 2 + number)));
            let clients: Vec<_> = (0..self.clients).map(client).collect();
            let panicked = clients.into_iter().filter_map(|client| client.join().err()).count();
            if panicked > 0 {
                harness.wrong(format!("{panicked} clients have panicked"));
            }
            harness.end();
            killer.join().unwrap_or(0)
        });
        let wrong = harness.take_wrong();
        if !wrong.is_empty() {
            return Err(wrong.join("\n"));
        }
        daemon.settle();
        daemon.has_only_its_own();
        let answers = game.answers.into_inner().unwrap_or_else(PoisonError::into_inner);
        let has = |(question, answer): &(&Question, &String)| {
            question.secret.as_ref().is_some_and(|secret| answer.contains(secret.as_str()))
        };
        Ok(Kept {
            isolation: self.isolation,
            clients: self.clients,
            told: secrets.len(),
            recalled: questions.iter().zip(&answers).filter(has).count(),
            answers,
            vectors: game.vectors.into_inner(),
            killed,
        })
    }

    /// Kills workers between the requests until the campaign is over: how many.
    fn kill(&self, harness: &Harness<'_>) -> usize {
        let nothing = Catalogue::empty();
        let mut injector = Injector::new(harness, &nothing, None, 0, Random::of(self.seed, usize::MAX - 1));
        let mut killed = 0;
        while !harness.is_over() {
            injector.let_work();
            match injector.hit(Signal::SIGKILL, 1, false) {
                Ok(Some(_)) => killed += 1,
                Ok(None) => {}
                Err(what) => harness.wrong(what),
            }
        }
        killed
    }

    /// The request of this number.
    fn question(&self, at: usize, unanswerable: &[(String, String)]) -> Question {
        let mut random = Random::of(self.seed, at);
        if random.below(2) == 0 {
            let (prompt, answer) = random.choose(unanswerable).clone();
            return Question { prompt: chat(&[prompt]), secret: None, answer: Some(answer) };
        }
        let what = *random.choose(&THINGS);
        let secret = code(&mut random);
        let told = match random.below(3) {
            0 => format!("My {what} is {secret}."),
            1 => format!("Remember this: the {what} is {secret}."),
            _ => format!("The {what} is {secret}."),
        };
        let told = format!("{}{told}{}", before(&mut random), after(&mut random));
        let asked = ask(what, &mut random);
        let prompt = match random.below(2) {
            0 => chat(&[format!("{told} {asked}")]),
            _ => chat(&[told, "I will remember that.".to_owned(), asked]),
        };
        Question { prompt, secret: Some(secret), answer: None }
    }
}

impl Question {
    /// Whether this may be its answer, if these are all that anybody was told.
    fn judge(&self, text: &str, secrets: &HashSet<&str>) -> Result<(), String> {
        let about = || format!("{:?} was answered {text:?}", self.prompt);
        if let Some(leaked) = codes(text).find(|code| secrets.contains(code) && self.secret.as_deref() != Some(code)) {
            return Err(format!("another request's secret, {leaked}: {}", about()));
        }
        if self.answer.as_ref().is_some_and(|answer| answer != text) {
            return Err(format!("who was told nothing did not hear so: {}", about()));
        }
        Ok(())
    }
}

/// What the clients share.
struct Game<'a> {
    harness: &'a Harness<'a>,
    questions: &'a [Question],
    secrets: &'a HashSet<&'a str>,
    alone: &'a HashMap<String, Vec<f32>>,
    next: AtomicUsize,
    answers: Mutex<Vec<String>>,
    vectors: AtomicUsize,
}

impl Game<'_> {
    /// One client, until all has been asked.
    fn play(&self, mut random: Random) {
        while !self.harness.is_over() {
            let at = self.next.fetch_add(1, Relaxed);
            let Some(question) = self.questions.get(at) else { return };
            let played = self
                .ask_text(at, question)
                .and_then(|()| if at.is_multiple_of(BETWEEN) { self.ask_vectors(&mut random) } else { Ok(()) });
            if let Err(what) = played {
                self.harness.wrong(what);
            }
        }
    }

    fn ask_text(&self, at: usize, question: &Question) -> Result<(), String> {
        let request = GenerateRequest { max_tokens: Some(40), ..GenerateRequest::new(question.prompt.clone()) };
        let Content::Text { text, .. } = self.ask(Pool::Text, Request::Generate(Box::new(request)))? else {
            return Err("a text is no text".to_owned());
        };
        question.judge(&text, self.secrets)?;
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)[at] = text;
        Ok(())
    }

    fn ask_vectors(&self, random: &mut Random) -> Result<(), String> {
        let all: Vec<&String> = self.alone.keys().collect();
        let texts: Vec<String> = (0..1 + random.below(12)).map(|_| (*random.choose(&all)).clone()).collect();
        let request = EmbedRequest { model: None, texts: texts.clone(), role: TextRole::Plain };
        let Content::Vectors(vectors) = self.ask(Pool::Vectors, Request::Embed(Box::new(request)))? else {
            return Err("vectors are no vectors".to_owned());
        };
        self.vectors.fetch_add(vectors.len(), Relaxed);
        match texts.iter().zip(&vectors).find(|(text, vector)| self.alone[*text] != **vector) {
            Some((text, _)) => Err(format!("{text:?} has another vector among {texts:?} than alone")),
            None => Ok(()),
        }
    }

    fn ask(&self, pool: Pool, request: Request) -> Result<Content, String> {
        let mut line = self.harness.connect()?;
        let open = self.harness.expected(pool).begin();
        let answer = answer(&mut line, &request);
        drop(open);
        self.harness.ended();
        answer
    }
}

fn answer(line: &mut Line, request: &Request) -> Result<Content, String> {
    line.ask(request, false)?;
    match line.hear(None, &mut |_| {}) {
        Outcome::Answered(content, _) => Ok(content),
        other => Err(format!("{request:?} was not answered: {other:?}")),
    }
}

/// Questions after what nobody was told, with the answers of an undisturbed daemon, which must say
/// so.
fn unanswerable(daemon: &Daemon) -> Result<Vec<(String, String)>, String> {
    let mut line = Line::open(daemon.socket()).map_err(|error| error.to_string())?;
    let mut questions = Vec::new();
    for number in 0..QUESTIONS {
        let mut random = Random::of(0, number);
        let what = *random.choose(&THINGS);
        let prompt = before(&mut random) + &ask(what, &mut random);
        let request =
            GenerateRequest { max_tokens: Some(40), ..GenerateRequest::new(chat(std::slice::from_ref(&prompt))) };
        if let Content::Text { text, .. } = answer(&mut line, &Request::Generate(Box::new(request)))?
            && text == format!("You have not told me the {what}.")
        {
            questions.push((prompt, text));
        }
    }
    // It is a small model.
    let enough = questions.len() >= QUESTIONS * 3 / 4;
    if enough { Ok(questions) } else { Err(format!("an undisturbed model knows {questions:?} only of {QUESTIONS}")) }
}

/// The vectors of some texts, each asked for alone.
fn vectors_alone(daemon: &Daemon) -> Result<HashMap<String, Vec<f32>>, String> {
    let mut line = Line::open(daemon.socket()).map_err(|error| error.to_string())?;
    let mut alone = HashMap::new();
    for number in 0..40 {
        let mut random = Random::of(1, number);
        let text = format!("{}My code is {}.{}", before(&mut random), code(&mut random), after(&mut random));
        let request = EmbedRequest { model: None, texts: vec![text.clone()], role: TextRole::Plain };
        let Content::Vectors(mut vectors) = answer(&mut line, &Request::Embed(Box::new(request)))? else { continue };
        alone.extend(vectors.pop().map(|vector| (text, vector)));
    }
    Ok(alone)
}

/// What is told and asked for.
const THINGS: [&str; 5] = ["code", "password", "key", "token", "room number"];
const FILLERS: [&str; 6] = [
    "The lamp is brown.",
    "It is Monday today.",
    "We eat soup at noon.",
    "The spider sleeps in the river.",
    "Sam has a orange kite.",
    "The letter is green.",
];

fn ask(what: &str, random: &mut Random) -> String {
    match random.below(3) {
        0 => format!("What is my {what}?"),
        1 => format!("What is the {what}?"),
        _ => format!("Tell me the {what}."),
    }
}

fn before(random: &mut Random) -> String {
    (0..random.below(3)).map(|_| format!("{} ", random.choose(&FILLERS))).collect()
}

fn after(random: &mut Random) -> String {
    (0..random.below(3)).map(|_| format!(" {}", random.choose(&FILLERS))).collect()
}

/// A code that nobody else has, if there is any chance at all.
fn code(random: &mut Random) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    (0..LENGTH).map(|_| char::from(*random.choose(LETTERS))).collect()
}

/// All parts of a text that could be a code.
fn codes(text: &str) -> impl Iterator<Item = &str> {
    (0..text.len()).filter_map(move |from| text.get(from..from + LENGTH))
}

/// A conversation whose turns are the user's and the model's by turns.
fn chat(turns: &[String]) -> Prompt {
    let roles = [Role::User, Role::Assistant].into_iter().cycle();
    let messages = roles.zip(turns).map(|(role, content)| ChatMessage::new(role, content.clone()));
    Prompt::Chat(messages.collect())
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Kept { isolation, clients, answers, told, recalled, vectors, killed } = self;
        let nothing = answers.len() - told;
        write!(
            f,
            "| \"{isolation}\" | {clients} | {} | {told} | {recalled} | 0 | {nothing}, {nothing} | {vectors}, 0 | {killed} |",
            answers.len()
        )
    }
}

impl Kept {
    /// The heading of the table whose rows these are.
    pub const HEADING: &str = "| isolation | clients | texts | told a secret | recalled it | leaked | told nothing, heard so | vectors, changed by others | workers killed |\n|---|---|---|---|---|---|---|---|---|";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_would_be_found() {
        let secrets = HashSet::from(["X7K2PQ", "B4M9TZ"]);
        let question = |secret: Option<&str>, answer: Option<&str>| Question {
            prompt: chat(&["What is my code?".to_owned()]),
            secret: secret.map(str::to_owned),
            answer: answer.map(str::to_owned),
        };
        let told = question(Some("X7K2PQ"), None);
        assert_eq!(told.judge("The code is X7K2PQ.", &secrets), Ok(()));
        assert!(
            told.judge("The code is B4M9TZ.", &secrets).unwrap_err().starts_with("another request's secret, B4M9TZ")
        );
        assert!(told.judge("The code is X7K2PQB4M9TZ.", &secrets).is_err(), "beside its own, too");
        let untold = question(None, Some("I do not know."));
        assert_eq!(untold.judge("I do not know.", &secrets), Ok(()));
        assert!(untold.judge("The code is X7K2PQ.", &secrets).is_err());
        assert!(untold.judge("The code is AAAAAA.", &secrets).is_err(), "nobody's secret is no answer either");
    }
}
