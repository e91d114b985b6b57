//! A text model without weights: it answers with the prompt's own bytes and then ends.
//!
//! Its answers are known beforehand, so what surrounds a model can be tested and measured without
//! one. It is no fallback: nothing uses it unless the configuration names it.
use super::{ComputeError, Pace, TextModel};
use crate::tokenizer::{BYTES, BYTES_END};

/// The model, with the text it has read.
pub(super) struct Echo {
    /// How long the prompt is; `None` before the first text, in a warm-up.
    prompt: Option<usize>,
    text: Vec<u32>,
    logits: Vec<f32>,
}

impl Echo {
    /// One that has read nothing.
    pub(super) fn new() -> Echo {
        Echo { prompt: None, text: Vec::new(), logits: vec![f32::NEG_INFINITY; BYTES] }
    }

    /// The answer is the prompt and the end, again and again for those who ignore the end.
    fn next(&self) -> u32 {
        let prompt = self.prompt.unwrap_or(self.text.len()).min(self.text.len());
        let answered = self.text.len() - prompt;
        self.text[..prompt].get(answered % (prompt + 1)).copied().unwrap_or(BYTES_END)
    }
}

impl TextModel for Echo {
    fn cache_length(&self) -> usize {
        0
    }

    fn begin(&mut self, prompt: usize) {
        self.text = Vec::new();
        self.prompt = Some(prompt);
    }

    fn forward(
        &mut self,
        tokens: &[u32],
        position: usize,
        _cache: &mut [u16],
        _pace: &dyn Pace,
    ) -> Result<&[f32], ComputeError> {
        if tokens.is_empty() {
            return Err(ComputeError::NoTokens);
        }
        self.text.truncate(position);
        self.text.extend_from_slice(tokens);
        // All but one are impossible, so that sampling at any temperature gives the same.
        self.logits.fill(f32::NEG_INFINITY);
        let next = self.next();
        if let Some(logit) = self.logits.get_mut(next as usize) {
            *logit = 0.0;
        }
        Ok(&self.logits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Alone;

    fn next(model: &mut Echo, tokens: &[u32], position: usize) -> u32 {
        let logits = model.forward(tokens, position, &mut [], &Alone).unwrap();
        let possible: Vec<usize> = (0..logits.len()).filter(|id| logits[*id] > f32::NEG_INFINITY).collect();
        assert_eq!(possible.len(), 1);
        possible[0] as u32
    }

    #[test]
    fn it_answers_with_the_prompt_and_the_end_and_begins_again() {
        for chunk in 1..=4 {
            let mut model = Echo::new();
            model.begin(3);
            let mut last = 0;
            for (number, part) in [7, 8, 9].chunks(chunk).enumerate() {
                last = next(&mut model, part, number * chunk);
            }
            let mut answer = vec![last];
            for position in 3..10 {
                answer.push(next(&mut model, &[answer[position - 3]], position));
            }
            assert_eq!(answer, [7, 8, 9, BYTES_END, 7, 8, 9, BYTES_END], "in chunks of {chunk}");
        }
    }

    #[test]
    fn a_prompt_of_one_letter_is_not_mistaken_for_an_answer() {
        let mut model = Echo::new();
        model.begin(33);
        next(&mut model, &[b'a'.into(); 32], 0);
        let mut answer = vec![next(&mut model, &[b'a'.into()], 32)];
        while answer.last() != Some(&BYTES_END) {
            let id = answer[answer.len() - 1];
            answer.push(next(&mut model, &[id], 32 + answer.len()));
        }
        assert_eq!(answer.len(), 34);
    }
}
