//! Merges neighbouring symbols, the best pair first: what byte-level BPE and SentencePiece have in
//! common.
//!
//! The candidates wait in a heap, and one whose symbols have changed since is dropped when it comes
//! up, so that a text of n symbols takes O(n log n) steps whatever is in it. Which pairs may be
//! merged, and which is better, the caller says. The method: Sennrich et al. 2016, "Neural Machine
//! Translation of Rare Pretokenizer with Subword Units"; with a heap as in SentencePiece (Kudo and
//! Richardson 2018).
use std::{cmp::Reverse, collections::BinaryHeap};

/// Merges texts one after another, in memory that it keeps for the next one.
pub(super) struct Merger<S, P> {
    nodes: Vec<Node>,
    /// The best first; of equally good ones the leftmost.
    candidates: BinaryHeap<Candidate<S, P>>,
}

/// A symbol's place in the chain of those that are left.
struct Node {
    previous: usize,
    next: usize,
    /// Of how many symbols it is made; 0 if it is part of another one.
    size: usize,
}

struct Candidate<S, P> {
    key: (P, Reverse<usize>),
    right: usize,
    /// Of how many symbols both were made when they became a candidate.
    size: usize,
    joined: S,
}

/// The place before the first symbol and after the last.
const NOWHERE: usize = usize::MAX;

impl<S: Copy, P: Ord> Merger<S, P> {
    pub(super) fn new() -> Merger<S, P> {
        Merger { nodes: Vec::new(), candidates: BinaryHeap::new() }
    }

    /// Merges until no pair can be. `join` gives the symbol that two neighbours make, and how good
    /// that would be.
    pub(super) fn merge(&mut self, symbols: &mut Vec<S>, join: impl Fn(S, S) -> Option<(P, S)>) {
        let count = symbols.len();
        self.nodes.clear();
        self.nodes.extend((0..count).map(|at| Node {
            previous: at.checked_sub(1).unwrap_or(NOWHERE),
            next: if at + 1 < count { at + 1 } else { NOWHERE },
            size: 1,
        }));
        for right in 1..count {
            self.offer(symbols, right - 1, right, &join);
        }
        while let Some(Candidate { key: (_, Reverse(left)), right, size, joined }) = self.candidates.pop() {
            let changed = self.nodes[left].size + self.nodes[right].size != size;
            if changed || self.nodes[left].size == 0 || self.nodes[right].size == 0 {
                continue;
            }
            let next = self.nodes[right].next;
            self.nodes[right].size = 0;
            self.nodes[left].size = size;
            self.nodes[left].next = next;
            if next != NOWHERE {
                self.nodes[next].previous = left;
            }
            symbols[left] = joined;
            self.offer(symbols, self.nodes[left].previous, left, &join);
            self.offer(symbols, left, next, &join);
        }
        let mut nodes = self.nodes.iter();
        symbols.retain(|_| nodes.next().is_some_and(|node| node.size > 0));
    }

    fn offer(&mut self, symbols: &[S], left: usize, right: usize, join: impl Fn(S, S) -> Option<(P, S)>) {
        if left == NOWHERE || right == NOWHERE {
            return;
        }
        if let Some((priority, joined)) = join(symbols[left], symbols[right]) {
            let size = self.nodes[left].size + self.nodes[right].size;
            self.candidates.push(Candidate { key: (priority, Reverse(left)), right, size, joined });
        }
    }
}

impl<S, P: Ord> Ord for Candidate<S, P> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

impl<S, P: Ord> PartialOrd for Candidate<S, P> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<S, P: Ord> PartialEq for Candidate<S, P> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<S, P: Ord> Eq for Candidate<S, P> {}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::{
        ChaCha8Rng,
        rand_core::{Rng, SeedableRng},
    };

    /// The definition: look for the best pair, merge it, start again.
    fn naive(symbols: &[u32], join: impl Fn(u32, u32) -> Option<(u32, u32)>) -> Vec<u32> {
        let mut symbols = symbols.to_vec();
        loop {
            let pairs = symbols.windows(2).enumerate();
            let found = pairs.filter_map(|(at, pair)| join(pair[0], pair[1]).map(|found| (at, found)));
            let Some((at, (_, joined))) = found.max_by_key(|(at, (priority, _))| (*priority, Reverse(*at))) else {
                return symbols;
            };
            symbols.splice(at..at + 2, [joined]);
        }
    }

    #[test]
    fn the_best_pair_is_merged_first_and_of_equals_the_leftmost() {
        let mut random = ChaCha8Rng::seed_from_u64(9);
        let mut below = |limit: u32| random.next_u32() % limit;
        let mut merger = Merger::new();
        let mut merged = 0;
        for _ in 0..3000 {
            let rules: Vec<(u32, u32, u32, u32)> =
                (0..8).map(|_| (below(6), below(6), below(4), 2 + below(4))).collect();
            let join = |left: u32, right: u32| {
                let rule = rules.iter().find(|rule| (rule.0, rule.1) == (left, right));
                rule.map(|rule| (rule.2, rule.3))
            };
            let text: Vec<u32> = (0..below(20)).map(|_| below(6)).collect();
            let mut symbols = text.clone();
            merger.merge(&mut symbols, join);
            assert_eq!(symbols, naive(&text, join), "{text:?} {rules:?}");
            merged += usize::from(symbols.len() < text.len());
        }
        assert!(merged > 1000, "{merged} texts had a pair to merge");
    }
}
