//! Which token comes next.
//!
//! The order is that of [`ipc::Sampling`]: repeat penalty, frequency and presence penalty,
//! temperature, top-k, top-p, min-p, draw. Nothing is remembered from one token to the next: the choice is
//! a function of the logits, the ids so far, the seed and the position, so that it is the same when
//! another worker makes it.
//!
//! * Repeat penalty: Keskar et al. 2019, "CTRL", <https://arxiv.org/abs/1909.05858>, section 4.1.
//! * Frequency and presence penalty: as OpenAI's API documents them, over the answer.
//! * Top-k: Fan et al. 2018, <https://arxiv.org/abs/1805.04833>. Top-p: Holtzman et al. 2019,
//!   <https://arxiv.org/abs/1904.09751>. Min-p: Nguyen et al. 2024, <https://arxiv.org/abs/2407.01082>.
//! * Randomness: ChaCha with 8 rounds. The seed, in little-endian bytes and then zeros, is the key;
//!   the position is the stream.
use ipc::Sampling;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use std::{cmp::Ordering, collections::HashMap};
use thiserror::Error;

/// How many ids back the repeat penalty looks.
pub const REPEAT_WINDOW: usize = 64;

/// Chooses tokens.
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    seed: u64,
    /// The logits after the penalties. It is kept for its memory only.
    logits: Vec<f32>,
    /// The tokens that are still to be had. It is kept for its memory only.
    candidates: Vec<Candidate>,
}

/// No token can be chosen, because the model gave a number to none.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the model gave no token a chance")]
pub struct NoCandidate;

#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: u32,
    logit: f32,
}

impl Sampler {
    /// A sampler for one request.
    pub fn new(sampling: &Sampling, seed: u64) -> Sampler {
        Sampler { sampling: *sampling, seed, logits: Vec::new(), candidates: Vec::new() }
    }

    /// Chooses the token at `position` of the answer, after the ids of the prompt and of the answer
    /// so far.
    pub fn sample(
        &mut self,
        logits: &[f32],
        position: u32,
        prompt: &[u32],
        answer: &[u32],
    ) -> Result<u32, NoCandidate> {
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        self.punish(prompt, answer);
        let possible = |logit: f32| logit > f32::NEG_INFINITY;
        // Adding zero makes the two zeros one.
        let all = (0..).zip(&self.logits).map(|(id, &logit)| Candidate { id, logit: logit + 0.0 });
        self.candidates.clear();
        self.candidates.extend(all.filter(|candidate| possible(candidate.logit)));
        let best = self.candidates.iter().copied().min_by(likelier).ok_or(NoCandidate)?;
        let temperature = f64::from(self.sampling.temperature);
        // Against an infinite logit nothing else has a chance at any temperature.
        if temperature > 0.0 && best.logit < f32::INFINITY {
            Ok(self.draw(best, temperature, uniform(self.seed, position)))
        } else {
            Ok(best.id)
        }
    }

    fn punish(&mut self, prompt: &[u32], answer: &[u32]) {
        let Sampling { repeat_penalty, frequency_penalty, presence_penalty, .. } = self.sampling;
        if repeat_penalty != 1.0 {
            let mut recent: Vec<u32> =
                answer.iter().rev().chain(prompt.iter().rev()).take(REPEAT_WINDOW).copied().collect();
            recent.sort_unstable();
            recent.dedup();
            for id in recent {
                if let Some(logit) = self.logits.get_mut(id as usize) {
                    *logit = if *logit > 0.0 { *logit / repeat_penalty } else { *logit * repeat_penalty };
                }
            }
        }
        if frequency_penalty != 0.0 || presence_penalty != 0.0 {
            let mut counts: HashMap<u32, u32> = HashMap::new();
            for id in answer {
                *counts.entry(*id).or_default() += 1;
            }
            for (id, count) in counts {
                if let Some(logit) = self.logits.get_mut(id as usize) {
                    *logit -= count as f32 * frequency_penalty + presence_penalty;
                }
            }
        }
    }

    /// Draws by the number `uniform` from 0 to 1 out of the candidates, of which `best` is the
    /// likeliest.
    fn draw(&mut self, best: Candidate, temperature: f64, uniform: f64) -> u32 {
        let weight = |candidate: &Candidate| ((f64::from(candidate.logit) - f64::from(best.logit)) / temperature).exp();
        let candidates = &mut self.candidates;
        let top_k = self.sampling.top_k as usize;
        if top_k > 0 && top_k < candidates.len() {
            candidates.select_nth_unstable_by(top_k - 1, likelier);
            candidates.truncate(top_k);
        }
        let min_p = f64::from(self.sampling.min_p);
        let top_p = f64::from(self.sampling.top_p);
        let mut all: f64 = if top_p < 1.0 {
            // The sum depends on the order in the last bits, and which of the unlikely ones come
            // first is the standard library's affair.
            candidates.sort_unstable_by_key(|candidate| candidate.id);
            let total: f64 = candidates.iter().map(weight).sum();
            keep_likeliest(candidates, weight, top_p * total)
        } else {
            candidates.sort_unstable_by_key(|candidate| candidate.id);
            candidates.iter().map(weight).sum()
        };
        if min_p > 0.0 {
            // The best one's weight is 1.
            candidates.retain(|candidate| weight(candidate) >= min_p);
            all = candidates.iter().map(weight).sum();
        }
        let mut rest = uniform * all;
        for candidate in candidates.iter() {
            rest -= weight(candidate);
            if rest < 0.0 {
                return candidate.id;
            }
        }
        // Only rounding leads here: the last of the sum's terms were lost in it.
        best.id
    }
}

/// Keeps the likeliest candidates that together have the weight `enough`, at least one, the
/// likeliest first; returns their weight.
fn keep_likeliest(candidates: &mut Vec<Candidate>, weight: impl Fn(&Candidate) -> f64, enough: f64) -> f64 {
    // Few are needed nearly always, and to sort all of a large vocabulary takes longer than a small
    // model's step.
    let mut sorted = 256;
    loop {
        if sorted < candidates.len() {
            candidates.select_nth_unstable_by(sorted - 1, likelier);
        }
        let front = sorted.min(candidates.len());
        candidates[..front].sort_unstable_by(likelier);
        let mut sum = 0.0;
        for (index, candidate) in candidates[..front].iter().enumerate() {
            sum += weight(candidate);
            if sum >= enough {
                candidates.truncate(index + 1);
                return sum;
            }
        }
        if front == candidates.len() {
            return sum;
        }
        sorted *= 8;
    }
}

/// The likelier first; of equals the one with the smaller id, so that there is one order only.
fn likelier(one: &Candidate, other: &Candidate) -> Ordering {
    other.logit.total_cmp(&one.logit).then(one.id.cmp(&other.id))
}

/// A number from 0 inclusive to 1 exclusive, a function of the seed and the position alone.
fn uniform(seed: u64, position: u32) -> f64 {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut random = ChaCha8Rng::from_seed(key);
    random.set_stream(position.into());
    // An f64 holds 53 bits.
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: u32 = 20_000;

    fn greedy() -> Sampling {
        Sampling::default()
    }

    fn warm() -> Sampling {
        Sampling { temperature: 1.0, ..Sampling::default() }
    }

    fn choose(sampling: Sampling, logits: &[f32]) -> Result<u32, NoCandidate> {
        Sampler::new(&sampling, 1).sample(logits, 0, &[], &[])
    }

    /// How often each token is drawn in many positions.
    fn frequencies(sampling: Sampling, logits: &[f32]) -> Vec<f64> {
        let mut sampler = Sampler::new(&sampling, 1);
        let mut counts = vec![0.0; logits.len()];
        for position in 0..MANY {
            counts[sampler.sample(logits, position, &[], &[]).unwrap() as usize] += 1.0 / f64::from(MANY);
        }
        counts
    }

    fn logarithms(probabilities: &[f32]) -> Vec<f32> {
        probabilities.iter().map(|probability| probability.ln() + 3.0).collect()
    }

    fn assert_near(found: &[f64], expected: &[f64]) {
        let near = found.iter().zip(expected).all(|(one, other)| (one - other).abs() < 0.015);
        assert!(near, "{found:?} is not {expected:?}");
    }

    #[test]
    fn without_temperature_the_first_of_the_likeliest_is_taken() {
        assert_eq!(choose(greedy(), &[1.0, 3.0, 3.0, 2.0]), Ok(1));
        assert_eq!(choose(greedy(), &[-0.0, 0.0]), Ok(0));
        assert_eq!(choose(greedy(), &[1.0, f32::INFINITY, f32::INFINITY]), Ok(1));
    }

    #[test]
    fn what_is_no_number_is_never_taken() {
        for sampling in [greedy(), warm(), Sampling { top_k: 3, top_p: 0.5, min_p: 0.5, ..warm() }] {
            assert_eq!(choose(sampling, &[f32::NAN, f32::NEG_INFINITY, -5.0, -f32::NAN]), Ok(2));
            assert_eq!(choose(sampling, &[f32::NAN, f32::INFINITY, 5.0]), Ok(1));
            assert_eq!(choose(sampling, &[f32::NAN, f32::NAN]), Err(NoCandidate));
            assert_eq!(choose(sampling, &[f32::NEG_INFINITY]), Err(NoCandidate));
            assert_eq!(choose(sampling, &[]), Err(NoCandidate));
        }
    }

    #[test]
    fn draws_follow_the_distribution_and_the_temperature() {
        let logits = logarithms(&[0.5, 0.3, 0.2]);
        assert_near(&frequencies(warm(), &logits), &[0.5, 0.3, 0.2]);
        // At temperature 1/2 the probabilities are squared.
        let cold = Sampling { temperature: 0.5, ..warm() };
        assert_near(&frequencies(cold, &logits), &[0.25 / 0.38, 0.09 / 0.38, 0.04 / 0.38]);
        let freezing = Sampling { temperature: f32::MIN_POSITIVE, ..warm() };
        assert_near(&frequencies(freezing, &logits), &[1.0, 0.0, 0.0]);
    }

    #[test]
    fn top_k_keeps_that_many_and_the_first_of_equals() {
        let logits = logarithms(&[0.1, 0.4, 0.1, 0.4]);
        let top = |top_k| frequencies(Sampling { top_k, ..warm() }, &logits);
        assert_near(&top(1), &[0.0, 1.0, 0.0, 0.0]);
        assert_near(&top(2), &[0.0, 0.5, 0.0, 0.5]);
        let three = top(3);
        assert_near(&three, &[0.1 / 0.9, 0.4 / 0.9, 0.0, 0.4 / 0.9]);
        assert_eq!(three[2], 0.0);
        assert_near(&top(4), &[0.1, 0.4, 0.1, 0.4]);
        assert_near(&top(1000), &[0.1, 0.4, 0.1, 0.4]);
    }

    #[test]
    fn top_p_keeps_the_fewest_that_have_the_probability() {
        let logits = logarithms(&[0.2, 0.5, 0.3]);
        let top = |top_p| frequencies(Sampling { top_p, ..warm() }, &logits);
        assert_near(&top(0.0), &[0.0, 1.0, 0.0]);
        assert_near(&top(0.49), &[0.0, 1.0, 0.0]);
        assert_near(&top(0.51), &[0.0, 0.625, 0.375]);
        assert_near(&top(0.79), &[0.0, 0.625, 0.375]);
        assert_near(&top(0.81), &[0.2, 0.5, 0.3]);
        assert_near(&top(1.0), &[0.2, 0.5, 0.3]);
        // Top-k comes first: of the two that it leaves, the better one has 0.625.
        assert_near(&frequencies(Sampling { top_k: 2, top_p: 0.6, ..warm() }, &logits), &[0.0, 1.0, 0.0]);
    }

    #[test]
    fn min_p_keeps_what_has_that_share_of_the_best() {
        let logits = logarithms(&[0.2, 0.5, 0.3]);
        let least = |min_p| frequencies(Sampling { min_p, ..warm() }, &logits);
        assert_near(&least(0.0), &[0.2, 0.5, 0.3]);
        assert_near(&least(0.39), &[0.2, 0.5, 0.3]);
        assert_near(&least(0.41), &[0.0, 0.625, 0.375]);
        assert_near(&least(0.61), &[0.0, 1.0, 0.0]);
        assert_near(&least(1.0), &[0.0, 1.0, 0.0]);
        // The temperature comes first: at 1/2 the shares are squared.
        let cold = Sampling { min_p: 0.3, temperature: 0.5, ..warm() };
        assert_near(&frequencies(cold, &logits), &[0.0, 0.25 / 0.34, 0.09 / 0.34]);
        // What top-p took away does not come back, and of equals all are kept.
        assert_near(&frequencies(Sampling { top_p: 0.4, min_p: 0.1, ..warm() }, &logits), &[0.0, 1.0, 0.0]);
        assert_near(&frequencies(Sampling { min_p: 1.0, ..warm() }, &[2.0, 1.0, 2.0]), &[0.5, 0.0, 0.5]);
    }

    #[test]
    fn top_p_keeps_many_of_many() {
        let mut sampler = Sampler::new(&Sampling { top_p: 0.8, ..warm() }, 1);
        let drawn: Vec<u32> =
            (0..500).map(|position| sampler.sample(&[0.0; 2000], position, &[], &[]).unwrap()).collect();
        // Of equals the first 1600 are kept, one more if rounding wants it.
        assert!(drawn.iter().all(|id| *id <= 1600));
        assert!(drawn.iter().any(|id| *id >= 1500));
    }

    #[test]
    fn a_draw_depends_on_the_seed_and_the_position_alone() {
        let sampling = Sampling { top_k: 40, top_p: 0.9, ..warm() };
        let logits: Vec<f32> = (0..500).map(|id| ((id * 37) % 101) as f32 / 25.0).collect();
        let forwards: Vec<u32> = {
            let mut sampler = Sampler::new(&sampling, 9);
            (0..200).map(|position| sampler.sample(&logits, position, &[], &[]).unwrap()).collect()
        };
        let mut backwards: Vec<u32> = (0..200)
            .rev()
            .map(|position| Sampler::new(&sampling, 9).sample(&logits, position, &[], &[]).unwrap())
            .collect();
        backwards.reverse();
        assert_eq!(forwards, backwards);
        let mut other = Sampler::new(&sampling, 10);
        let others: Vec<u32> = (0..200).map(|position| other.sample(&logits, position, &[], &[]).unwrap()).collect();
        assert_ne!(forwards, others);
    }

    #[test]
    fn randomness_is_chacha8_as_documented() {
        // From an implementation of the cipher in another language.
        let known = [
            (0, 0, 0.836_919_756_882_647_2),
            (0, 1, 0.789_161_889_278_416_4),
            (7, 0, 0.764_109_042_047_738),
            (7, 1000, 0.659_063_790_037_536_1),
            (0x1234_5678_9abc_def0, 3, 0.390_377_016_753_802_9),
        ];
        for (seed, position, expected) in known {
            assert_eq!(uniform(seed, position), expected, "seed {seed}, position {position}");
        }
    }

    #[test]
    fn the_repeat_penalty_is_for_the_last_64_of_prompt_and_answer() {
        let sampling = Sampling { repeat_penalty: 2.0, ..greedy() };
        let mut sampler = Sampler::new(&sampling, 1);
        let logits = [4.0, 3.0, -1.0, -1.5];
        let mut after = |prompt: &[u32], answer: &[u32]| {
            let _chosen = sampler.sample(&logits, 0, prompt, answer);
            sampler.logits.clone()
        };
        assert_eq!(after(&[], &[]), [4.0, 3.0, -1.0, -1.5]);
        assert_eq!(after(&[0, 0], &[2]), [2.0, 3.0, -2.0, -1.5]);
        // The first 0 is the 65th from the end.
        let far = [[0].as_slice(), &[1; 40]].concat();
        assert_eq!(after(&far, &[1; 23]), [2.0, 1.5, -1.0, -1.5]);
        assert_eq!(after(&far, &[1; 24]), [4.0, 1.5, -1.0, -1.5]);
        // An id of another vocabulary cannot do harm.
        assert_eq!(after(&[99], &[99]), logits);
        assert_eq!(sampler.sample(&logits, 0, &[0], &[]), Ok(1));
    }

    #[test]
    fn frequency_and_presence_penalties_are_for_the_answer() {
        let sampling = Sampling { frequency_penalty: 0.5, presence_penalty: 0.25, ..greedy() };
        let mut sampler = Sampler::new(&sampling, 1);
        let _chosen = sampler.sample(&[4.0, 3.0, 2.0], 0, &[2, 2, 2], &[0, 1, 0, 99]);
        assert_eq!(sampler.logits, [4.0 - 1.25, 3.0 - 0.75, 2.0]);
    }
}
