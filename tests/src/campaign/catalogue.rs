//! What the clients of a campaign ask for, and what an undisturbed daemon answers.
use crate::{
    Daemon,
    exchange::{Content, Line, Outcome},
    random::Random,
};
use ipc::{Done, EmbedRequest, FinishReason, GenerateRequest, Request, Sampling, TextRole, TokenizeRequest};

/// The campaign's models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pool {
    /// A real decoder.
    Text,
    /// The embedding model.
    Vectors,
    /// The scripted bad worker, which repeats its prompt.
    Bad,
}

impl Pool {
    /// Its name in the configuration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Pool::Text => "text",
            Pool::Vectors => "vectors",
            Pool::Bad => "bad",
        }
    }
}

/// A request and its right answer.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) pool: Pool,
    pub(crate) request: Request,
    pub(crate) expected: Content,
}

/// All that is asked for.
#[derive(Debug)]
pub(crate) struct Catalogue {
    pub(crate) texts: Vec<Case>,
    pub(crate) vectors: Vec<Case>,
    pub(crate) ids: Vec<Case>,
}

const SENTENCES: [&str; 10] = [
    "The weather is lovely today.",
    "It is so sunny outside!",
    "He drove to the stadium.",
    "A worker that died is replaced by the next one.",
    "x",
    "Three processes share the weights of one model, and none of them sees what another was asked.",
    "How many tokens does a short question have?",
    "\u{1f980} crabs and \u{4e16}\u{754c}",
    "",
    "The quick brown fox jumps over the lazy dog, again and again and again, until the evening comes.",
];

impl Catalogue {
    /// Asks each of them once, one after the other. `longest` is the most tokens of a text.
    pub(crate) fn record(daemon: &Daemon, longest: u32) -> Result<Catalogue, String> {
        let batches = [1, 2, 5, 24].map(|count| SENTENCES.into_iter().cycle().skip(count).take(count));
        let batches = batches.map(|texts| {
            let texts = texts.map(str::to_owned).collect();
            (Pool::Vectors, Request::Embed(Box::new(EmbedRequest { model: None, texts, role: TextRole::Plain })))
        });
        let ids = SENTENCES.into_iter().zip([Pool::Text, Pool::Vectors].into_iter().cycle()).map(|(text, pool)| {
            let model = Some(pool.name().to_owned());
            (pool, Request::Tokenize(Box::new(TokenizeRequest { model, text: text.to_owned(), special: true })))
        });
        let texts = Catalogue::record_texts(daemon, longest)?;
        Ok(Catalogue { texts, vectors: record(daemon, batches)?, ids: record(daemon, ids)? })
    }

    /// The texts alone.
    pub(crate) fn record_texts(daemon: &Daemon, longest: u32) -> Result<Vec<Case>, String> {
        let all =
            |prompt: fn(&str) -> GenerateRequest| texts(longest, prompt).into_iter().map(|text| (Pool::Text, text));
        match record(daemon, all(|text| GenerateRequest::chat(text))) {
            Err(reason) if reason.contains("no chat template") => {
                record(daemon, all(|text| GenerateRequest::raw(text)))
            }
            recorded => recorded,
        }
    }

    /// One of nothing.
    pub(crate) fn empty() -> Catalogue {
        Catalogue { texts: Vec::new(), vectors: Vec::new(), ids: Vec::new() }
    }

    /// All of them.
    pub(crate) fn cases(&self) -> impl Iterator<Item = &Case> {
        self.texts.iter().chain(&self.vectors).chain(&self.ids)
    }
}

/// Asks for each of these, one after the other, and keeps the answers.
fn record(daemon: &Daemon, requests: impl IntoIterator<Item = (Pool, Request)>) -> Result<Vec<Case>, String> {
    let mut line = Line::open(daemon.socket()).map_err(|error| error.to_string())?;
    let record = |(pool, request)| {
        line.ask(&request, false)?;
        match line.hear(None, &mut |_| {}) {
            Outcome::Answered(expected, 1) => Ok(Case { pool, request, expected }),
            other => Err(format!("an undisturbed {request:?} has no answer: {other:?}")),
        }
    };
    requests.into_iter().map(record).collect()
}

/// Texts of all lengths, chosen in all ways; what is asked is a conversation if the model knows
/// such, or a text to go on with.
fn texts(longest: u32, prompted: fn(&str) -> GenerateRequest) -> Vec<Request> {
    let seeded = Sampling { seed: Some(7), ..Sampling::default() };
    let sampled = Sampling { temperature: 0.9, top_k: 40, top_p: 0.95, ..seeded };
    let punished = Sampling { repeat_penalty: 1.3, frequency_penalty: 0.5, presence_penalty: 0.4, ..sampled };
    let prompts = [
        ("Tell me a story about a turtle.", 4),
        ("My code is X7K2P. The lamp is brown. What is my code?", 1),
        ("What is the password?", 1),
        ("Count from 8 to 12.", 1),
        ("Write a short story about Yara the dog.", 2),
        ("Sort these words: flower, zebra, engine.", 1),
    ];
    let mut requests = Vec::new();
    for (prompt, share) in prompts {
        for (number, sampling) in [seeded, sampled, punished].into_iter().enumerate() {
            let max_tokens = Some((longest * share / 4).max(2));
            let mut request = GenerateRequest { sampling, max_tokens, ..prompted(prompt) };
            // Some go on to the limit, some end with the model's end or with a stop string.
            request.ignore_end = (number + share as usize).is_multiple_of(2);
            if number == 1 {
                request.stop = vec!["One morning".to_owned()];
            }
            requests.push(named(Pool::Text, request));
        }
    }
    let raw = GenerateRequest::raw("Once upon a time there was a little");
    requests.push(named(Pool::Text, GenerateRequest { sampling: seeded, max_tokens: Some(longest), ..raw }));
    requests
}

fn named(pool: Pool, request: GenerateRequest) -> Request {
    Request::Generate(Box::new(GenerateRequest { model: Some(pool.name().to_owned()), ..request }))
}

/// A text for the bad worker, which does what `script` says before it repeats all of it.
pub(crate) fn repeated(script: Option<&str>, random: &mut Random) -> Case {
    let script = script.map_or_else(String::new, |script| format!("!{script} "));
    let text = format!("{script}text {}: ", random.number()) + &"\u{1f980}x".repeat(1 + random.below(20));
    let tokens: Vec<u32> = text.bytes().map(u32::from).collect();
    let sampling = Sampling { seed: Some(1), ..Sampling::default() };
    let count = tokens.len() as u32;
    let done = Done {
        text: String::new(),
        finish: FinishReason::Stop,
        prompt_tokens: count,
        completion_tokens: count,
        attempts: 1,
        seed: 1,
        wait_us: 0,
        first_piece_us: 0,
        last_piece_us: None,
        total_us: 0,
    };
    let request = named(Pool::Bad, GenerateRequest { sampling, ..GenerateRequest::raw(text.clone()) });
    Case { pool: Pool::Bad, request, expected: Content::Text { text, tokens, done } }
}
