//! Texts that become vectors, in parts that several workers compute; what was computed goes to the
//! client in order.
//!
//! A part whose worker died is computed again as a whole, because only then its tokens are counted;
//! what was heard of it before is not heard again.
use super::{ProtocolViolation, Times, WorkerReply};
use ipc::{EmbedJob, EmbedRequest, Embedded, FromWorker, MAX_FRAME, ModelInfo, RequestId, Response, TextRole};
use std::{collections::BTreeMap, iter, mem, ops::Range, time::Instant};

/// Batches of fewer texts stay whole.
const WHOLE: usize = 8;
/// Fewest texts that are worth a worker of their own.
const FEWEST: usize = 4;
/// Most texts of a part.
const MOST: usize = 32;
/// Bytes of text that a part has at most, unless it is one text.
const MOST_TEXT: usize = 64 << 10;

/// What is kept of it.
#[derive(Debug)]
pub(crate) struct Embedding {
    texts: Vec<String>,
    role: TextRole,
    /// Where each part begins, and where the last one ends.
    cuts: Vec<usize>,
    /// What was heard of the parts that were begun and have not gone to the client.
    heard: BTreeMap<u32, Progress>,
    /// The part that goes to the client next.
    front: u32,
    /// Texts whose vectors have gone to the client.
    delivered: u32,
    tokens: u64,
}

/// What was heard of a part.
#[derive(Debug, Default)]
struct Progress {
    /// Vectors that have not gone to the client.
    vectors: Vec<Vec<f32>>,
    /// How many were heard, of all attempts.
    received: usize,
    /// How many this attempt's worker has sent.
    sent: usize,
    is_done: bool,
}

impl Embedding {
    /// A batch for a model that runs so many at once.
    pub(super) fn new(asked: EmbedRequest, workers: u32) -> Embedding {
        let lengths: Vec<usize> = asked.texts.iter().map(String::len).collect();
        Embedding {
            cuts: cut(&lengths, workers as usize),
            texts: asked.texts,
            role: asked.role,
            heard: BTreeMap::new(),
            front: 0,
            delivered: 0,
            tokens: 0,
        }
    }

    pub(super) fn parts(&self) -> u32 {
        u32::try_from(self.cuts.len() - 1).unwrap_or(u32::MAX)
    }

    pub(super) fn job(&mut self, request: RequestId, part: u32) -> EmbedJob {
        self.heard.entry(part).or_default().sent = 0;
        let texts = self.texts.get(self.range(part)).unwrap_or_default().to_vec();
        EmbedJob { request, texts, role: self.role }
    }

    pub(super) fn has_begun(&self, part: u32) -> bool {
        self.heard.get(&part).is_some_and(|heard| heard.received > 0)
    }

    pub(super) fn hear(
        &mut self,
        part: u32,
        message: FromWorker,
        dimensions: u32,
    ) -> Result<WorkerReply, ProtocolViolation> {
        let range = self.range(part);
        let heard = self.heard.get_mut(&part).filter(|heard| !heard.is_done).ok_or(ProtocolViolation)?;
        match message {
            FromWorker::Vectors { first, vectors, .. } => {
                let is_next = first as usize == heard.sent && !vectors.is_empty();
                if !is_next || vectors.len() > range.len() - heard.sent || !are_sane(&vectors, dimensions) {
                    return Err(ProtocolViolation);
                }
                let known = heard.received.saturating_sub(heard.sent).min(vectors.len());
                heard.sent += vectors.len();
                heard.received = heard.received.max(heard.sent);
                heard.vectors.extend(vectors.into_iter().skip(known));
                Ok(WorkerReply::More(self.deliver()))
            }
            FromWorker::Embedded { tokens, .. } if heard.sent == range.len() => {
                heard.is_done = true;
                self.tokens = self.tokens.saturating_add(tokens);
                // They have served.
                self.texts.get_mut(range).unwrap_or_default().fill_with(String::new);
                Ok(WorkerReply::Done(self.deliver()))
            }
            _ => Err(ProtocolViolation),
        }
    }

    /// How many texts have their vectors, and how many tokens the parts had that are done.
    pub(super) fn done(&self) -> (u64, u64) {
        (self.delivered.into(), self.tokens)
    }

    pub(super) fn answer(&self, times: Times, attempts: u32, now: Instant) -> Response {
        Response::Embedded(Embedded {
            texts: self.delivered,
            tokens: self.tokens,
            parts: self.parts(),
            attempts,
            wait_us: times.after(times.dispatched, now),
            total_us: times.after(None, now),
        })
    }

    /// What can go to the client now: all that follows what it has without a gap.
    fn deliver(&mut self) -> Vec<Response> {
        let mut ready = Vec::new();
        while let Some(heard) = self.heard.get_mut(&self.front) {
            if !heard.vectors.is_empty() {
                let mut vectors = mem::take(&mut heard.vectors);
                let most = most_in_a_frame(vectors.first().map_or(0, Vec::len));
                while !vectors.is_empty() {
                    let rest = vectors.split_off(vectors.len().min(most));
                    let first = self.delivered;
                    self.delivered += u32::try_from(vectors.len()).unwrap_or(u32::MAX);
                    ready.push(Response::Vectors { first, vectors });
                    vectors = rest;
                }
            }
            if !heard.is_done {
                break;
            }
            self.heard.remove(&self.front);
            self.front += 1;
        }
        ready
    }

    /// The texts of a part.
    fn range(&self, part: u32) -> Range<usize> {
        let cut = |at: usize| self.cuts.get(at).copied().unwrap_or(self.texts.len());
        cut(part as usize)..cut(part as usize + 1)
    }
}

/// Most bytes that the vectors of one part can have in frames: of one text each in the worst case.
pub(super) fn most_bytes(info: Option<&ModelInfo>) -> usize {
    info.map_or(0, |info| MOST * (ipc::HEADER + ENVELOPE + vector_bytes(info.dimensions as usize)))
}

/// Bytes of a message of vectors around them.
const ENVELOPE: usize = r#"{"vectors":{"first":4294967295,"vectors":[]}}"#.len();

/// Bytes of a vector in a message: its base64, two quotes and a comma.
const fn vector_bytes(dimensions: usize) -> usize {
    (dimensions * size_of::<f32>()).div_ceil(3) * 4 + 3
}

/// Vectors that fit into one frame, whatever their numbers are.
const fn most_in_a_frame(dimensions: usize) -> usize {
    match (MAX_FRAME - ENVELOPE) / vector_bytes(dimensions) {
        0 => 1,
        count => count,
    }
}

/// Whether vectors are what a model makes whose vectors have so many numbers.
fn are_sane(vectors: &[Vec<f32>], dimensions: u32) -> bool {
    let is_sane = |vector: &Vec<f32>| vector.len() == dimensions as usize && vector.iter().all(|x| x.is_finite());
    vectors.iter().all(is_sane)
}

/// Where the parts of a batch begin, and where the last one ends. They are as equal as may be, and
/// as many as there are workers, if that does not make them too small or too large.
fn cut(lengths: &[usize], workers: usize) -> Vec<usize> {
    let count = lengths.len();
    let parts = if count < WHOLE { 1 } else { count.div_ceil(MOST).max(workers.min(count / FEWEST)).max(1) };
    let even = (0..parts).map(|part| part * count / parts);
    let mut cuts = Vec::with_capacity(parts + 1);
    let mut bytes = 0;
    let mut even = even.peekable();
    for (at, length) in lengths.iter().enumerate() {
        let is_due = even.next_if_eq(&at).is_some();
        if is_due || bytes + length > MOST_TEXT && bytes > 0 {
            cuts.push(at);
            bytes = 0;
        }
        bytes += length;
    }
    if cuts.is_empty() {
        cuts.push(0);
    }
    cuts.extend(iter::once(count));
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: RequestId = RequestId(1);

    fn embedding(texts: usize, workers: u32) -> Embedding {
        let texts = (0..texts).map(|number| format!("text {number}")).collect();
        Embedding::new(EmbedRequest { model: None, texts, role: TextRole::Plain }, workers)
    }

    fn vectors(first: u32, numbers: impl IntoIterator<Item = usize>) -> FromWorker {
        FromWorker::Vectors {
            request: REQUEST,
            first,
            vectors: numbers.into_iter().map(|x| vec![x as f32, 1.0]).collect(),
        }
    }

    fn embedded(tokens: u64) -> FromWorker {
        FromWorker::Embedded { request: REQUEST, tokens }
    }

    /// The first components that go to the client by this.
    fn sent(heard: Result<WorkerReply, ProtocolViolation>) -> Vec<(u32, Vec<f32>)> {
        let (Ok(WorkerReply::More(pieces)) | Ok(WorkerReply::Done(pieces))) = heard else { panic!("{heard:?}") };
        let sent = pieces.into_iter().map(|piece| match piece {
            Response::Vectors { first, vectors } => (first, vectors.iter().map(|vector| vector[0]).collect()),
            other => panic!("{other:?}"),
        });
        sent.collect()
    }

    #[test]
    fn batches_are_cut_evenly_into_parts_that_are_worth_it() {
        let sizes = |texts: usize, workers| {
            let cuts = cut(&vec![10; texts], workers);
            cuts.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>()
        };
        assert_eq!(sizes(1, 4), [1]);
        assert_eq!(sizes(7, 4), [7], "a small batch stays whole");
        assert_eq!(sizes(8, 4), [4, 4]);
        assert_eq!(sizes(16, 2), [8, 8]);
        assert_eq!(sizes(17, 4), [4, 4, 4, 5]);
        assert_eq!(sizes(32, 1), [32]);
        assert_eq!(sizes(33, 1), [16, 17]);
        assert_eq!(sizes(100, 2), [25, 25, 25, 25]);
    }

    #[test]
    fn long_texts_make_small_parts() {
        let half = MOST_TEXT / 2;
        assert_eq!(cut(&[half, half, 1, half, half], 4), [0, 2, 4, 5]);
        assert_eq!(cut(&[9 * MOST_TEXT, 9 * MOST_TEXT, 1], 1), [0, 1, 2, 3]);
        assert_eq!(cut(&[], 1), [0, 0]);
    }

    #[test]
    fn vectors_go_to_the_client_in_order_and_without_gaps() {
        let mut embedding = embedding(16, 2);
        assert_eq!((embedding.parts(), embedding.job(REQUEST, 0).texts.len()), (2, 8));
        assert_eq!(embedding.job(REQUEST, 1).texts[0], "text 8");
        assert_eq!(sent(embedding.hear(1, vectors(0, 8..13), 2)), [], "the first part comes first");
        assert_eq!(sent(embedding.hear(0, vectors(0, 0..2), 2)), [(0, vec![0.0, 1.0])], "as soon as they are there");
        assert_eq!(sent(embedding.hear(1, vectors(5, 13..16), 2)), []);
        assert_eq!(sent(embedding.hear(1, embedded(80), 2)), []);
        assert_eq!(sent(embedding.hear(0, vectors(2, 2..8), 2)), [(2, (2..8).map(|x| x as f32).collect::<Vec<_>>())]);
        assert_eq!(sent(embedding.hear(0, embedded(20), 2)), [(8, (8..16).map(|x| x as f32).collect::<Vec<_>>())]);
        let times = Times { submitted: Instant::now(), dispatched: None };
        let Response::Embedded(end) = embedding.answer(times, 2, times.submitted) else { panic!("no end") };
        assert_eq!((end.texts, end.tokens, end.parts, end.attempts), (16, 100, 2, 2));
    }

    #[test]
    fn what_was_heard_of_a_part_before_its_worker_died_is_not_heard_again() {
        let mut embedding = embedding(7, 2);
        assert_eq!(embedding.job(REQUEST, 0).texts.len(), 7);
        assert_eq!(sent(embedding.hear(0, vectors(0, 0..3), 2)).len(), 1);
        assert!(embedding.has_begun(0));
        assert_eq!(embedding.job(REQUEST, 0).texts.len(), 7, "its tokens must be counted");
        assert_eq!(sent(embedding.hear(0, vectors(0, 90..92), 2)), []);
        assert_eq!(sent(embedding.hear(0, vectors(2, [92, 3]), 2)), [(3, vec![3.0])]);
        assert_eq!(sent(embedding.hear(0, vectors(4, 4..7), 2)), [(4, vec![4.0, 5.0, 6.0])]);
        assert_eq!(sent(embedding.hear(0, embedded(7), 2)), []);
    }

    #[test]
    fn vectors_fit_into_frames() {
        for dimensions in [1, 2, 3, 384, 100_000] {
            let most = most_in_a_frame(dimensions).min(MOST);
            let vectors = vec![vec![f32::NAN; dimensions]; most];
            let payload = ipc::encode(&Response::Vectors { first: u32::MAX, vectors }).unwrap();
            assert!(payload.len() <= MAX_FRAME);
            // One comma fewer than vectors.
            assert_eq!(payload.len(), ENVELOPE + most * vector_bytes(dimensions) - 1);
        }
        let wide = 200_000;
        let mut embedding = embedding(MOST - 1, 1);
        embedding.job(REQUEST, 0);
        let vectors = vec![vec![0.5; wide]; MOST - 1];
        let Ok(WorkerReply::More(pieces)) =
            embedding.hear(0, FromWorker::Vectors { request: REQUEST, first: 0, vectors }, wide as u32)
        else {
            panic!("not believed")
        };
        let sizes: Vec<usize> = pieces.iter().map(|piece| ipc::encode(piece).unwrap().len()).collect();
        assert!(sizes.len() > 1 && sizes.iter().all(|size| *size <= MAX_FRAME), "{sizes:?}");
    }

    #[test]
    fn what_cannot_be_true_is_not_believed() {
        let lies = |message: FromWorker, dimensions| {
            let mut embedding = embedding(3, 1);
            embedding.job(REQUEST, 0);
            assert_eq!(sent(embedding.hear(0, vectors(0, [0]), 2)).len(), 1);
            embedding.hear(0, message, dimensions).is_err()
        };
        assert!(!lies(vectors(1, [1]), 2));
        assert!(lies(vectors(0, [1]), 2), "again");
        assert!(lies(vectors(2, [2]), 2), "a gap");
        assert!(lies(vectors(1, [1, 2, 3]), 2), "too many");
        assert!(lies(vectors(1, []), 2), "none");
        assert!(lies(vectors(1, [1]), 3), "too short");
        assert!(lies(embedded(1), 2), "too early");
        let request = REQUEST;
        assert!(lies(FromWorker::Vectors { request, first: 1, vectors: vec![vec![f32::NAN, 0.0]] }, 2));
        assert!(lies(FromWorker::Vectors { request, first: 1, vectors: vec![vec![f32::INFINITY, 0.0]] }, 2));
        assert!(lies(FromWorker::Tokenized { request, ids: vec![] }, 2));
        let mut embedding = embedding(3, 1);
        assert!(embedding.hear(0, vectors(0, [0]), 2).is_err(), "a part that nobody was given");
    }
}
