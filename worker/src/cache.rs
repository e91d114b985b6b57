//! A request's cache: the keys and values of its text, and the record of how far they go.
//!
//! It lies in memory that belongs to the request and not to a worker, so a killed worker's
//! successor goes on where it stopped, with the same bits and no token computed twice. A cache
//! alone holds no logits: a step of decoding, and the last chunk of a prompt, counts as done only
//! together with the token that was chosen after it, whose id is stored before the record says so.
//! What this does not do: know what the numbers mean, or trust what it finds.
use bytemuck::{cast_slice_mut, try_cast_slice};
use std::{
    io,
    os::fd::OwnedFd,
    sync::atomic::{
        Ordering::{Acquire, Release, SeqCst},
        fence,
    },
};
use system::{MEMORY_HEAD, Memory};

/// A cache that is open in this process.
#[derive(Debug)]
pub struct Cache {
    memory: Memory,
    /// Most tokens of prompt and answer together.
    context: usize,
}

/// Which text of which model a cache is of.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    /// A number that differs for different weights.
    pub model: u64,
    /// The ids of the prompt.
    pub prompt: &'a [u32],
    /// Tokens of the prompt that go through the model at once.
    pub chunk: u32,
}

/// How far a cache goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Tokens whose keys and values are there.
    pub fed: usize,
    /// Ids of the answer. The last of them has not been fed.
    pub generated: Vec<u32>,
}

/// Words of 32 bits before the ids: the kind and version of the memory, the model, the chunk, the
/// length of the prompt, and the context, on which it depends what lies where.
const WORDS: usize = 6;
const KIND: u32 = 0x6b76_0001;

impl Cache {
    /// Bytes of a cache for `context` tokens and `length` numbers of 16 bits.
    pub fn size(context: usize, length: usize) -> usize {
        MEMORY_HEAD + Self::record(context) + 2 * length
    }

    /// A cache of this process alone.
    pub fn anonymous(context: usize, length: usize) -> io::Result<Cache> {
        Ok(Cache { memory: Memory::anonymous(Self::size(context, length))?, context })
    }

    /// The cache in this memory.
    pub fn shared(memory: &OwnedFd, context: usize, length: usize) -> io::Result<Cache> {
        Ok(Cache { memory: Memory::shared(memory, Self::size(context, length))?, context })
    }

    /// Bytes of the record: the words and room for the ids of prompt and answer.
    fn record(context: usize) -> usize {
        (4 * (WORDS + 2 * context)).next_multiple_of(MEMORY_HEAD)
    }

    /// How far the cache goes in this text, of which `known` ids of the answer are known to be
    /// generated. Nothing is found where it is of another text, or of no text.
    pub fn find(&mut self, text: Text<'_>, known: &[u32]) -> Found {
        let context = self.context;
        let (word, bytes) = self.memory.parts();
        let fed = usize::try_from(word.load(Acquire)).unwrap_or(usize::MAX);
        let Ok(words) = try_cast_slice::<u8, u32>(&bytes[..Self::record(context)]) else { return Found::default() };
        let total = text.prompt.len();
        let (ids, answer) = words[WORDS..].split_at(context);
        if words[..WORDS] != header(text, context) || ids.get(..total) != Some(text.prompt) || fed > context {
            return Found::default();
        }
        let generated = if fed < total { &[] } else { &answer[..(fed - total + 1).min(context)] };
        let whole_chunks = fed.is_multiple_of(text.chunk.max(1) as usize);
        if !generated.starts_with(known) || (generated.is_empty() && !whole_chunks) {
            return Found::default();
        }
        Found { fed, generated: generated.to_vec() }
    }

    /// Begins this text, and forgets another one.
    pub fn begin(&mut self, text: Text<'_>) {
        let (context, total) = (self.context, text.prompt.len());
        let (word, bytes) = self.memory.parts();
        word.store(0, Release);
        // What follows must not come first: this process may be killed in between.
        fence(SeqCst);
        let words: &mut [u32] = cast_slice_mut(&mut bytes[..Self::record(context)]);
        words[..WORDS].copy_from_slice(&header(text, context));
        if let Some(ids) = words[WORDS..].get_mut(..total) {
            ids.copy_from_slice(text.prompt);
        }
    }

    /// Notes that so many of the prompt's tokens are done, but not all.
    pub fn commit_prompt(&mut self, fed: usize) {
        self.memory.parts().0.store(fed as u64, Release);
    }

    /// Notes the id at `index` of the answer, chosen after everything before it had been fed.
    pub fn commit_token(&mut self, prompt: usize, index: usize, id: u32) {
        let context = self.context;
        let (word, bytes) = self.memory.parts();
        let words: &mut [u32] = cast_slice_mut(&mut bytes[..Self::record(context)]);
        if let Some(place) = words[WORDS + context..].get_mut(index) {
            *place = id;
            word.store((prompt + index) as u64, Release);
        }
    }

    /// The numbers.
    pub fn numbers(&mut self) -> &mut [u16] {
        let record = Self::record(self.context);
        let bytes = &mut self.memory.parts().1[record..];
        let whole = bytes.len() / 2 * 2;
        cast_slice_mut(&mut bytes[..whole])
    }
}

fn header(text: Text<'_>, context: usize) -> [u32; WORDS] {
    let [a, b] = [text.model as u32, (text.model >> 32) as u32];
    let [prompt, context] = [text.prompt.len(), context].map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX));
    [KIND, a, b, text.chunk, prompt, context]
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: Text<'_> = Text { model: 1 << 40 | 7, prompt: &[1, 2, 3, 4, 5], chunk: 2 };

    #[test]
    fn what_was_committed_is_found() {
        let mut cache = Cache::anonymous(9, 3).unwrap();
        assert_eq!(cache.find(TEXT, &[]), Found::default());
        cache.begin(TEXT);
        assert_eq!(cache.find(TEXT, &[]), Found::default());
        cache.commit_prompt(4);
        assert_eq!(cache.find(TEXT, &[]), Found { fed: 4, generated: vec![] });
        cache.commit_token(5, 0, 77);
        assert_eq!(cache.find(TEXT, &[]), Found { fed: 5, generated: vec![77] });
        cache.commit_token(5, 1, 78);
        assert_eq!(cache.find(TEXT, &[77]), Found { fed: 6, generated: vec![77, 78] });
        // The context is full with four tokens of the answer, of which the last is never fed.
        cache.commit_token(5, 2, 79);
        cache.commit_token(5, 3, 80);
        assert_eq!(cache.find(TEXT, &[77, 78]).generated, [77, 78, 79, 80]);
        assert_eq!(cache.numbers().len(), 3);
    }

    #[test]
    fn what_is_of_another_text_is_not() {
        let mut cache = Cache::anonymous(9, 0).unwrap();
        cache.begin(TEXT);
        cache.commit_token(5, 0, 77);
        let nothing = Found::default();
        assert_eq!(cache.find(Text { model: 8, ..TEXT }, &[]), nothing);
        assert_eq!(cache.find(Text { chunk: 4, ..TEXT }, &[]), nothing);
        assert_eq!(cache.find(Text { prompt: &[1, 2, 3, 4, 6], ..TEXT }, &[]), nothing);
        assert_eq!(cache.find(Text { prompt: &[1, 2, 3, 4], ..TEXT }, &[]), nothing);
        cache.context = 8;
        assert_eq!(cache.find(TEXT, &[]), nothing);
        cache.context = 9;
        assert_eq!(cache.find(TEXT, &[]).fed, 5);
        // The supervisor knows of an id that is not there.
        assert_eq!(cache.find(TEXT, &[76]), nothing);
        assert_eq!(cache.find(TEXT, &[77, 78]), nothing);
        // Numbers that nobody wrote.
        cache.commit_prompt(3);
        assert_eq!(cache.find(TEXT, &[]), nothing);
        cache.commit_prompt(usize::MAX);
        assert_eq!(cache.find(TEXT, &[]), nothing);
        cache.commit_prompt(9);
        assert_eq!(cache.find(TEXT, &[]).generated.len(), 5);
    }
}
