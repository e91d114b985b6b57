//! The embedding model on small random folders: what it computes, what it reads, what it refuses,
//! and how a batch goes.

mod batches;
mod folder;
mod reference;
mod refusals;
mod texts;
mod vectors;

use model::embed::bert::Bert;
use std::ops::ControlFlow;

/// The vectors of texts that go through the model together.
fn embed(bert: &mut Bert, texts: &[Vec<u32>]) -> Vec<Vec<f32>> {
    match bert.embed(texts, &mut || ControlFlow::Continue(())) {
        ControlFlow::Continue(vectors) => vectors,
        ControlFlow::Break(()) => panic!("nobody stopped it"),
    }
}
