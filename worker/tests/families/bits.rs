//! The same bits, whoever computes: any number of threads, cut into any number of shards, and by
//! several models that take turns.
use super::{fed, file, load, mixture, plan::Plan, text};
use candle_core::quantized::GgmlDType;
use model::text::Pace;
use std::cell::Cell;

/// So many threads for the first layer, so many for the next, and so on.
struct Changing<'a>(&'a [usize], Cell<usize>);

impl Pace for Changing<'_> {
    fn layer(&self) -> usize {
        self.0[self.1.replace(self.1.get() + 1) % self.0.len()]
    }
}

fn same_bits(plan: &Plan) {
    let (bytes, _) = file::written(plan, 2);
    let text = text(plan.tokens);
    // Prompts and single tokens; parts with and without a rest.
    let sizes = [32, 1, 1, 5, 1, 17, 1, 3];
    let mut right = None;
    for shards in [1, 4, 3] {
        let mut models = [load(&bytes, 96, shards), load(&bytes, 96, shards)];
        for threads in [&[1][..], &[2], &[3], &[4], &[4, 1, 3, 2, 2]] {
            let found: Vec<(usize, Vec<u32>)> = fed(&mut models, &text, &sizes, &Changing(threads, Cell::new(0)))
                .into_iter()
                .map(|(position, logits)| (position, logits.into_iter().map(f32::to_bits).collect()))
                .collect();
            let right = right.get_or_insert_with(|| found.clone());
            assert!(found == *right, "{shards} shards on {threads:?} threads");
        }
    }
}

#[test]
fn a_mixture_gives_the_same_bits() {
    same_bits(&mixture());
}

#[test]
fn whole_blocks_give_the_same_bits() {
    same_bits(&Plan { kind: |_| GgmlDType::Q8_0, tokens: 283, ..Plan::qwen2() });
}

#[test]
fn fused_layers_give_the_same_bits() {
    same_bits(&Plan { kind: |_| GgmlDType::Q4_0, ..Plan::phi3() });
}

#[test]
fn windows_give_the_same_bits() {
    same_bits(&Plan { kind: |_| GgmlDType::F16, ..Plan::gemma3() });
}

#[test]
fn odd_rows_give_the_same_bits() {
    let kind = |name: &str| if name == "ffn_down" { GgmlDType::F32 } else { GgmlDType::Q4K };
    same_bits(&Plan { kind, feed_forward: 200, tokens: 259, ..Plan::llama() });
}
