//! The decoder against a reference, for each family and each element type, with files that are made
//! here.
mod bits;
mod damage;
pub(crate) mod file;
pub(crate) mod plan;
mod reference;

use candle_core::quantized::GgmlDType;
use file::File;
use ipc::ModelSpec;
use model::text::Generator;
use model::text::Pace;
use plan::Plan;
use std::fs;
use system::foreign_text::chain;
use worker::loaded_model::load_generator;

fn load(bytes: &[u8], context: u32, threads: u32) -> Generator {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, bytes).unwrap();
    let spec = ModelSpec { context: Some(context), threads, ..ModelSpec::new("test", path.to_str().unwrap()) };
    load_generator(&spec).unwrap_or_else(|error| panic!("{}", chain(&error)))
}

/// A text that is longer than two chunks and than the windows.
fn text(tokens: usize) -> Vec<u32> {
    (0..70).map(|position| (position * position * 7 + position * 31 + 3) % tokens as u32).collect()
}

/// A cache with something in it, which must not matter.
fn cache(model: &Generator) -> Vec<u16> {
    (0..model.model.cache_length()).map(|index| (index * 40_503 + 12_345) as u16).collect()
}

/// Feeds a text in parts of these sizes, over and over, and returns the logits after each part with
/// the position of its last token. The models take turns and share one cache.
fn fed(models: &mut [Generator], text: &[u32], sizes: &[usize], pace: &dyn Pace) -> Vec<(usize, Vec<f32>)> {
    let mut cache = cache(&models[0]);
    let mut position = 0;
    let mut all = Vec::new();
    for (turn, size) in sizes.iter().cycle().enumerate() {
        let part = &text[position..text.len().min(position + size)];
        if part.is_empty() {
            break;
        }
        let turn = turn % models.len();
        let logits = models[turn].model.forward(part, position, &mut cache, pace).unwrap();
        position += part.len();
        all.push((position - 1, logits.to_vec()));
    }
    all
}

/// How far the decoder's logits are from the reference's, in standard deviations of the logits
/// after the same token.
#[derive(Debug)]
struct Difference {
    most: f64,
    /// The root of the mean square.
    usual: f64,
}

fn difference(plan: &Plan, context: u32) -> Difference {
    let (bytes, weights) = file::written(plan, 1);
    let text = text(plan.tokens);
    let right = reference::logits(plan, &weights, &text);
    let mut models = [load(&bytes, context, 2)];
    let (mut most, mut squares, mut count) = (0_f64, 0.0, 0.0);
    // One by one, all positions are compared.
    for sizes in [&[1][..], &[32], &[7], &[64], &[3, 40, 2, 5, 19, 1]] {
        for (position, found) in fed(&mut models, &text, sizes, &model::text::Alone) {
            let right = &right[position];
            assert_eq!(found.len(), right.len());
            let mean = right.iter().sum::<f64>() / right.len() as f64;
            let variance = right.iter().map(|logit| (logit - mean).powi(2)).sum::<f64>() / right.len() as f64;
            for (found, right) in found.iter().zip(right) {
                let difference = (f64::from(*found) - right).abs() / variance.sqrt();
                assert!(difference.is_finite());
                most = most.max(difference);
                squares += difference.powi(2);
                count += 1.0;
            }
        }
    }
    Difference { most, usual: (squares / count).sqrt() }
}

/// With weights that are multiplied as they are, only the roundings of the cache remain: where 32
/// bits round a key or value up and 64 bits round it down, it differs by 1/2000. The largest
/// difference that such a one makes to any logit here is 0.0005.
const MOST: f64 = 0.001;

fn right(plan: &Plan) {
    let difference = difference(plan, 128);
    println!("{} {difference:?}", plan.architecture);
    assert!(difference.most < MOST, "{difference:?}");
}

#[test]
fn llama() {
    right(&Plan::llama());
}

#[test]
fn llama_with_factors_for_its_angles() {
    fn divisors() -> Vec<f32> {
        (0..16).map(|pair| if pair < 6 { 1.0 } else { 1.0 + pair as f32 / 2.0 }).collect()
    }
    let also = |file: File, _: &str| file.vector("rope_freqs.weight", divisors());
    right(&Plan { divisors: Some(divisors()), also, ..Plan::llama() });
}

#[test]
fn llama_with_biases() {
    right(&Plan { biases: &["attn_q", "attn_k", "attn_v", "attn_output"], ..Plan::llama() });
    right(&Plan { biases: &["attn_v"], ..Plan::llama() });
}

#[test]
fn llama_with_linear_scaling() {
    let plan = Plan { linear: 4.0, ..Plan::llama() };
    let typed =
        |file: File, _: &str| file.text("llama.rope.scaling.type", "linear").float("llama.rope.scaling.factor", 4.0);
    right(&Plan { also: typed, ..plan.clone() });
    // Without a type, a factor is a linear one, and older files have another name for it.
    right(&Plan { also: |file, _| file.float("llama.rope.scaling.factor", 4.0), ..plan.clone() });
    right(&Plan { also: |file, _| file.float("llama.rope.scale_linear", 4.0), ..plan });
    let none =
        |file: File, _: &str| file.text("llama.rope.scaling.type", "none").float("llama.rope.scaling.factor", 4.0);
    right(&Plan { also: none, ..Plan::llama() });
}

#[test]
fn llama_that_turns_a_part_of_each_head() {
    right(&Plan { turned: 12, ..Plan::llama() });
}

#[test]
fn llama_with_one_key_for_each_head_and_an_odd_vocabulary() {
    right(&Plan { heads: 16, heads_kv: 16, head: 16, turned: 16, tokens: 301, feed_forward: 200, ..Plan::llama() });
}

/// Mistral's files say llama. Nemo's heads are narrower than its width would have them.
#[test]
fn mistral() {
    right(&Plan { head: 16, turned: 16, heads_kv: 4, rope_base: 1e6, tied: true, ..Plan::llama() });
}

#[test]
fn qwen2() {
    right(&Plan::qwen2());
}

#[test]
fn qwen3() {
    right(&Plan::qwen3());
}

#[test]
fn gemma3() {
    right(&Plan::gemma3());
}

#[test]
fn gemma3_with_numbers_of_its_own() {
    let also = |file: File, _: &str| {
        file.unsigned("gemma3.attention.sliding_window", 33)
            .unsigned("gemma3.attention.sliding_window_pattern", 2)
            .float("gemma3.rope.freq_base_swa", 500.0)
            .float("gemma3.final_logit_softcapping", 3.0)
    };
    let plan = Plan { blocks: 2, linear: 1.0, local: Some((33, 2, 500.0)), logit_cap: Some(3.0), ..Plan::gemma3() };
    right(&Plan { also, ..plan });
}

#[test]
fn phi3() {
    right(&Plan::phi3());
    right(&Plan { turned: 24, also: |file, _| file.unsigned("phi3.attention.sliding_window", 9), ..Plan::phi3() });
}

/// The converter writes the factors and the magnitude, and no type.
#[test]
fn phi3_with_factors_by_its_context() {
    fn short() -> Vec<f32> {
        (0..16).map(|pair| 1.0 + pair as f32 / 16.0).collect()
    }
    fn long() -> Vec<f32> {
        (0..16).map(|pair| 1.0 + pair as f32).collect()
    }
    fn untyped(file: File, _: &str) -> File {
        file.vector("rope_factors_short.weight", short())
            .vector("rope_factors_long.weight", long())
            .unsigned("phi3.rope.scaling.original_context_length", 100)
            .float("phi3.rope.scaling.attn_factor", 1.19)
    }
    let typed = |file: File, name: &str| untyped(file, name).text("phi3.rope.scaling.type", "longrope");
    for also in [untyped as fn(File, &str) -> File, typed] {
        for (context, divisors) in [(100, short()), (101, long())] {
            let divisors = Some(divisors);
            let plan = Plan { also, divisors, magnitude: f64::from(1.19_f32), ..Plan::phi3() };
            let difference = difference(&plan, context);
            assert!(difference.most < MOST, "{context} {difference:?}");
        }
    }
}

/// Each value that a quantised matrix is multiplied with becomes one of 8 bits: for random values
/// that is off by about 0.7 % (a block's largest value is about three standard deviations, so a
/// step is 3/127 of one, and the error a step's twelfth's root). There are nine such products one
/// after another, on a stream to which they are added, which gives about 2 % in the end.
const USUAL: f64 = 0.035;

fn about_right(plan: &Plan) {
    let difference = difference(plan, 128);
    println!("{} {difference:?}", plan.architecture);
    assert!(difference.usual < USUAL && difference.most < 6.0 * USUAL, "{difference:?}");
}

#[test]
fn weights_of_16_bits() {
    right(&Plan { kind: |_| GgmlDType::F16, ..Plan::llama() });
    right(&Plan { kind: |_| GgmlDType::BF16, ..Plan::qwen3() });
}

macro_rules! element_types {
    ($($name:ident $kind:ident $plan:ident;)*) => {$(
        #[test]
        fn $name() {
            about_right(&Plan { kind: |_| GgmlDType::$kind, ..Plan::$plan() });
        }
    )*};
}

element_types! {
    weights_of_q4_0 Q4_0 llama;
    weights_of_q4_1 Q4_1 qwen2;
    weights_of_q5_0 Q5_0 phi3;
    weights_of_q5_1 Q5_1 llama;
    weights_of_q8_0 Q8_0 qwen3;
    weights_of_q2_k Q2K llama;
    weights_of_q3_k Q3K qwen2;
    weights_of_q4_k Q4K phi3;
    weights_of_q5_k Q5K qwen3;
    weights_of_q6_k Q6K llama;
}

/// As the files have it that most people use, with a vocabulary that is no multiple of anything.
fn mixture() -> Plan {
    let kind = |name: &str| match name {
        "attn_v" | "ffn_down" | "output.weight" => GgmlDType::Q6K,
        _ => GgmlDType::Q4K,
    };
    Plan { kind, tokens: 275, ..Plan::llama() }
}

#[test]
fn weights_of_several_types() {
    about_right(&mixture());
    // Rows of which 32 are a block and 256 are not, as small models have them.
    let kind = |name: &str| if name == "attn_v" { GgmlDType::Q8_0 } else { GgmlDType::Q5_0 };
    about_right(&Plan { width: 288, feed_forward: 352, kind, ..Plan::qwen2() });
}
