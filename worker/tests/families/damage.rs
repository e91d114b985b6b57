//! Files with wrong bytes in their headers: they are refused, or computed with, and nothing panics.
//! And calls that make no sense.
use super::{File, cache, file, load, plan::Plan};
use candle_core::quantized::GgmlDType;
use ipc::ModelSpec;
use model::text::Alone;
use model::text::ComputeError;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use std::fs;
use system::foreign_text::chain;
use worker::loaded_model::load_generator;
use worker::loaded_model::warm;

/// As small as a decoder can be, for a lot of them must be loaded.
fn small(plan: Plan) -> Plan {
    Plan { width: 32, feed_forward: 32, heads: 2, heads_kv: 1, head: 16, turned: 16, tokens: 24, ..plan }
}

fn damaged(plan: &Plan) {
    let (whole, _) = file::written(plan, 3);
    let find = |text: &[u8]| whole.windows(text.len()).position(|window| window == text).unwrap();
    // From the first number to the last tensor's place, and further where the data is.
    let (begin, end) = (find(b"context_length"), find(b"output_norm.weight") + 60);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let mut below = |limit: usize| (random.next_u64() % limit as u64) as usize;
    let (mut computed, mut refused) = (0, 0);
    for _ in 0..300 {
        let mut bytes = whole.clone();
        for _ in 0..=below(2) {
            let at = begin + below(end - begin);
            match below(4) {
                0 => bytes[at] ^= 1 << below(8),
                1 => bytes[at..at + 4].fill([0, 0xFF][below(2)]),
                2 => bytes[at] = below(40) as u8,
                _ => bytes[at..at + 8].copy_from_slice(&(u64::MAX >> below(64)).to_le_bytes()),
            }
        }
        fs::write(&path, &bytes).unwrap();
        let spec = ModelSpec { threads: 2, ..ModelSpec::new("test", path.to_str().unwrap()) };
        let model = load_generator(&spec).map_err(|error| chain(&error));
        match model.and_then(|mut model| warm(&mut model).map_err(|error| chain(&error))) {
            Ok(()) => computed += 1,
            Err(sentence) => {
                assert!(!sentence.contains('\n'), "{sentence}");
                refused += 1;
            }
        }
    }
    assert!(computed > 10 && refused > 10, "{computed} were computed and {refused} refused");
}

#[test]
fn no_damaged_llama_makes_anything_panic() {
    damaged(&small(Plan { biases: &["attn_q"], kind: |_| GgmlDType::Q8_0, ..Plan::llama() }));
}

#[test]
fn no_damaged_gemma3_makes_anything_panic() {
    damaged(&small(Plan { blocks: 2, ..Plan::gemma3() }));
}

#[test]
fn no_damaged_phi3_makes_anything_panic() {
    let also = |file: File, _: &str| {
        file.vector("rope_factors_short.weight", vec![1.0; 8])
            .vector("rope_factors_long.weight", vec![2.0; 8])
            .unsigned("phi3.rope.scaling.original_context_length", 64)
            .float("phi3.rope.scaling.attn_factor", 1.1)
    };
    damaged(&small(Plan { also, kind: |_| GgmlDType::Q4_0, ..Plan::phi3() }));
}

#[test]
fn a_factor_of_positions_that_cannot_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    for (factor, shown) in [(f32::INFINITY, "inf"), (f32::NAN, "NaN"), (0.0, "0"), (-1.0, "-1")] {
        FACTOR.set(factor);
        let also = |file: File, _: &str| file.vector("rope_freqs.weight", [vec![1.0; 7], vec![FACTOR.get()]].concat());
        let (bytes, _) = file::written(&small(Plan { also, ..Plan::llama() }), 1);
        fs::write(&path, &bytes).unwrap();
        let error = load_generator(&ModelSpec::new("test", path.to_str().unwrap())).map(drop).unwrap_err();
        let expected = format!("its tensor rope_freqs.weight has {shown} in it, which cannot be");
        assert!(chain(&error).ends_with(&expected), "{}", chain(&error));
    }
}

thread_local! {
    /// What a plan, which holds no values, is to write.
    static FACTOR: std::cell::Cell<f32> = const { std::cell::Cell::new(1.0) };
}

#[test]
fn calls_that_make_no_sense_are_refused() {
    let (bytes, _) = file::written(&small(Plan::qwen3()), 1);
    let mut model = load(&bytes, 20, 1);
    let mut cache = cache(&model);
    let mut call = |tokens: &[u32], position: usize, cut: usize| {
        let length = cache.len();
        model.model.forward(tokens, position, &mut cache[..length - cut], &Alone).map(<[f32]>::to_vec)
    };
    let right = call(&[0, 23], 0, 0).unwrap();
    assert_eq!(right.len(), 24);
    assert!(matches!(call(&[], 0, 0), Err(ComputeError::NoTokens)));
    for token in [24, u32::MAX] {
        assert!(matches!(call(&[0, token], 0, 0), Err(ComputeError::Compute(_))));
    }
    assert!(call(&[1; 2], 18, 0).is_ok());
    for (tokens, position, cut) in [(3, 18, 0), (21, 0, 0), (1, 20, 0), (1, usize::MAX, 0), (1, 0, 1)] {
        assert!(
            matches!(call(&vec![1; tokens], position, cut), Err(ComputeError::TooManyTokens)),
            "{tokens} at {position}"
        );
    }
    // None of these leaves anything behind.
    assert_eq!(call(&[0, 23], 0, 0).unwrap(), right);
}
