//! A worker that serves many texts does not keep something of each. The test looks at all of its
//! process's memory.
use crate::common::in_own_process;
use ipc::ModelSpec;
use model::text::Alone;
use model::text::Generator;
use std::fs;
use system::proc;
use worker::cache::Cache;
use worker::loaded_model::load_generator;

/// Reads a prompt in two parts, the second of 128 tokens, with a cache of its own.
fn read(model: &mut Generator, first: usize) {
    let mut cache = Cache::anonymous(model.context, model.model.cache_length()).unwrap();
    model.model.begin(first + 128);
    model.model.forward(&vec![1; first], 0, cache.numbers(), &Alone).unwrap();
    model.model.forward(&[1; 128], first, cache.numbers(), &Alone).unwrap();
}

fn private_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    proc::bytes(&status, "RssAnon:").unwrap()
}

#[test]
fn texts_of_many_lengths_leave_nothing_behind() {
    if in_own_process(&[]).is_some() {
        return;
    }
    let spec = ModelSpec::new("pocket", "builtin:pocket");
    let mut model = load_generator(&spec).unwrap();
    // The longest text first: what the allocator keeps for it serves all others.
    for first in [350, 349, 348] {
        read(&mut model, first);
    }
    let before = private_bytes();
    let lengths = (2..330).step_by(6);
    // A byte for each score of the second parts, all heads of all layers together: what a forgotten
    // mask would take at least.
    let scores: u64 = lengths.clone().map(|first| 128 * (first as u64 + 128)).sum();
    for first in lengths {
        read(&mut model, first);
    }
    let grown = private_bytes().saturating_sub(before);
    assert!(grown < scores / 4, "{grown} bytes more, and the masks of all texts would be {scores}");
}
