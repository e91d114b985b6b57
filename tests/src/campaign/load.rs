//! The clients of a campaign: they ask without a pause, leave now and then, and look at every
//! answer.
use super::{
    catalogue::{Case, Catalogue, Pool, repeated},
    harness::Harness,
};
use crate::{
    exchange::{Content, Line, Outcome},
    random::Random,
    wait::pause_for,
};
use std::{collections::BTreeMap, thread, time::Duration};

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
enum ClientKind {
    Texts,
    Vectors,
    Ids,
    Repeated,
}

/// The clients: more than there are workers, so that there is always somebody who waits.
const CLIENTS: [ClientKind; 10] = [
    ClientKind::Texts,
    ClientKind::Texts,
    ClientKind::Texts,
    ClientKind::Texts,
    ClientKind::Texts,
    ClientKind::Vectors,
    ClientKind::Vectors,
    ClientKind::Ids,
    ClientKind::Repeated,
    ClientKind::Repeated,
];

/// What has become of requests.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests that were taken in.
    pub accepted: u64,
    /// Requests that had the right answer.
    pub answered: u64,
    /// Requests whose client left in the middle.
    pub left: u64,
    /// Requests that were lost, before anything of the answer had come.
    pub lost: u64,
    /// Requests that were lost with half an answer.
    pub half_lost: u64,
    /// Requests that have cost as many workers as they may, and were told so.
    pub fatal: u64,
    /// Requests that were refused because they were like those.
    pub refused: u64,
    /// Attempts to ask that the supervisor did not take in, and why.
    pub not_admitted: BTreeMap<String, u64>,
    /// Tokens and vectors of the answers.
    pub tokens: u64,
    /// Answers that took more than one worker.
    pub repeated: u64,
    /// Most workers of one answer.
    pub most_attempts: u32,
}

impl Tally {
    /// Adds what another one has counted.
    pub(crate) fn add(&mut self, other: Tally) {
        self.accepted += other.accepted;
        self.answered += other.answered;
        self.left += other.left;
        self.lost += other.lost;
        self.half_lost += other.half_lost;
        self.fatal += other.fatal;
        self.refused += other.refused;
        self.tokens += other.tokens;
        self.repeated += other.repeated;
        self.most_attempts = self.most_attempts.max(other.most_attempts);
        for (why, count) in other.not_admitted {
            *self.not_admitted.entry(why).or_default() += count;
        }
    }

    /// Notes what has become of a request; `Err` says what must not be.
    pub(crate) fn note(&mut self, outcome: Outcome, case: &Case) -> Result<(), String> {
        match outcome {
            Outcome::Answered(content, attempts) => {
                self.answered += 1;
                self.tokens += match &content {
                    Content::Text { tokens, .. } | Content::Ids(tokens) => tokens.len() as u64,
                    Content::Vectors(vectors) => vectors.len() as u64,
                };
                self.repeated += u64::from(attempts > 1);
                self.most_attempts = self.most_attempts.max(attempts);
                if content == case.expected {
                    return Ok(());
                }
                let Case { request, expected, .. } = case;
                Err(format!(
                    "after {attempts} attempts {request:?} was answered\n{content:?}\ninstead of\n{expected:?}"
                ))
            }
            Outcome::Left => {
                self.left += 1;
                Ok(())
            }
            Outcome::NotAdmitted(why) => {
                *self.not_admitted.entry(why).or_default() += 1;
                Ok(())
            }
            Outcome::Lost { streamed, why } => {
                *(if streamed { &mut self.half_lost } else { &mut self.lost }) += 1;
                Err(format!("lost, {streamed} that some of it had come: {:?}: {why}", case.request))
            }
        }
    }
}

/// Has all clients ask until the campaign is over.
pub(crate) fn drive(harness: &Harness<'_>, catalogue: &Catalogue, seed: u64) -> Tally {
    let mut tally = Tally::default();
    thread::scope(|scope| {
        let clients = CLIENTS.iter().enumerate().map(|(number, kind)| {
            scope.spawn(move || {
                let mut client =
                    Client { harness, catalogue, kind: *kind, random: Random::of(seed, number), line: None };
                client.live()
            })
        });
        for client in clients.collect::<Vec<_>>() {
            match client.join() {
                Ok(of_one) => tally.add(of_one),
                Err(_) => harness.wrong("a client has panicked".to_owned()),
            }
        }
    });
    tally
}

struct Client<'a> {
    harness: &'a Harness<'a>,
    catalogue: &'a Catalogue,
    kind: ClientKind,
    random: Random,
    line: Option<Line>,
}

impl Client<'_> {
    fn live(&mut self) -> Tally {
        let mut tally = Tally::default();
        while !self.harness.is_over() {
            let case = match self.kind {
                ClientKind::Texts => self.random.choose(&self.catalogue.texts).clone(),
                ClientKind::Vectors => self.random.choose(&self.catalogue.vectors).clone(),
                ClientKind::Ids => self.random.choose(&self.catalogue.ids).clone(),
                ClientKind::Repeated => repeated(None, &mut self.random),
            };
            let leaves = (self.random.below(8) == 0).then(|| self.random.below(30));
            let outcome = self.ask(&case, leaves, &mut tally);
            let is_turned_away = matches!(outcome, Outcome::NotAdmitted(_));
            if let Err(what) = tally.note(outcome, &case) {
                self.harness.wrong(what);
            }
            if is_turned_away {
                // There is no daemon at the socket at the moment, or too many clients.
                pause_for(Duration::from_millis(5));
            }
        }
        tally
    }

    /// Asks on the connection that there is, or on a new one, and listens to the outcome.
    fn ask(&mut self, case: &Case, leaves: Option<usize>, tally: &mut Tally) -> Outcome {
        let mut line = match self.line.take().map_or_else(|| Line::open(self.harness.daemon.socket()), Ok) {
            Ok(line) => line,
            Err(error) => return Outcome::NotAdmitted(error.to_string()),
        };
        // Some say right away that they will ask nothing more on this connection.
        let is_last = self.random.below(6) == 0;
        let open = self.harness.expected(case.pool).begin();
        if let Err(why) = line.ask(&case.request, is_last) {
            return Outcome::NotAdmitted(why);
        }
        let outcome = line.hear(leaves, &mut |_| tally.accepted += 1);
        drop(open);
        self.harness.ended();
        // A second outcome would be taken for what comes first on the next request, and is wrong
        // there.
        if matches!(outcome, Outcome::Answered(..)) && !is_last && self.random.below(6) > 0 {
            self.line = Some(line);
        }
        outcome
    }
}

/// Asks each of the catalogue once more, one after the other.
pub(crate) fn ask_all(harness: &Harness<'_>, catalogue: &Catalogue) -> Tally {
    let mut tally = Tally::default();
    let mut client = Client { harness, catalogue, kind: ClientKind::Texts, random: Random::new(0), line: None };
    for case in catalogue.cases() {
        let outcome = client.ask(case, None, &mut tally);
        if let Err(what) = tally.note(outcome, case) {
            harness.wrong(what);
        }
    }
    tally
}

/// Asks the bad worker for what `script` does once.
pub(crate) fn ask_script(harness: &Harness<'_>, script: &str, random: &mut Random) -> Result<Tally, String> {
    let case = repeated(Some(script), random);
    let mut tally = Tally::default();
    let mut line = harness.connect()?;
    let open = harness.expected(Pool::Bad).begin();
    // Whoever is turned away may find the connection closed before anything was said.
    let outcome = match line.ask(&case.request, false) {
        Ok(()) => line.hear(None, &mut |_| tally.accepted += 1),
        Err(why) => Outcome::NotAdmitted(why),
    };
    drop(open);
    tally.note(outcome, &case)?;
    Ok(tally)
}
