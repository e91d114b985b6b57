//! Files that no decoder fits, and the sentence that each is refused with.
use super::*;
use crate::gguf::build::{Gguf, read};

const TOKENS: usize = 3;
const F32: u32 = 0;

/// The metadata of a decoder with one block, 64 wide, two heads that share one key, and a
/// feed-forward layer of 32.
fn numbers(family: &str) -> Gguf {
    let key = |name: &str| format!("{family}.{name}");
    Gguf::new()
        .unsigned(&key("context_length"), 128)
        .unsigned(&key("embedding_length"), 64)
        .unsigned(&key("block_count"), 1)
        .unsigned(&key("feed_forward_length"), 32)
        .unsigned(&key("attention.head_count"), 2)
        .unsigned(&key("attention.head_count_kv"), 1)
        .float(&key("attention.layer_norm_rms_epsilon"), 1e-5)
}

/// The tensors of a llama, all of them at the same place.
const TENSORS: [(&str, &[u64]); 11] = [
    ("token_embd.weight", &[64, TOKENS as u64]),
    ("output_norm.weight", &[64]),
    ("blk.0.attn_norm.weight", &[64]),
    ("blk.0.attn_q.weight", &[64, 64]),
    ("blk.0.attn_k.weight", &[64, 32]),
    ("blk.0.attn_v.weight", &[64, 32]),
    ("blk.0.attn_output.weight", &[64, 64]),
    ("blk.0.ffn_norm.weight", &[64]),
    ("blk.0.ffn_gate.weight", &[64, 32]),
    ("blk.0.ffn_up.weight", &[64, 32]),
    ("blk.0.ffn_down.weight", &[32, 64]),
];
const ALL_BYTES: usize = 4 * (64 * 3 + 3 * 64 + 2 * 64 * 64 + 5 * 64 * 32);

/// Adds the tensors of a llama, but those of `without`.
fn with_tensors(file: Gguf, without: &[&str]) -> Gguf {
    let wanted = TENSORS.iter().filter(|(name, _)| !without.contains(name));
    wanted.fold(file, |file, (name, dimensions)| file.tensor(name, dimensions, F32))
}

fn read_as(family: &str, file: &Gguf) -> Result<Hparams, HparamsError> {
    let bytes = file.bytes(2 * ALL_BYTES);
    Hparams::read(&read(&bytes).unwrap(), family, TOKENS)
}

fn refused(file: &Gguf) -> String {
    system::foreign_text::chain(&read_as("llama", file).unwrap_err())
}

fn llama() -> Gguf {
    with_tensors(numbers("llama"), &[])
}

/// A llama with another one of its tensors.
fn with(name: &str, dimensions: &[u64], kind: u32) -> Gguf {
    with_tensors(numbers("llama"), &[name]).tensor(name, dimensions, kind)
}

#[test]
fn a_small_llama_is_read() {
    let hparams = read_as("llama", &llama()).unwrap();
    assert_eq!((hparams.context, hparams.head, hparams.heads, hparams.heads_kv, hparams.blocks), (128, 32, 2, 1, 1));
    // Without a number of keys, each head has its own.
    let own = with_tensors(
        numbers("llama").without("llama.attention.head_count_kv"),
        &["blk.0.attn_k.weight", "blk.0.attn_v.weight"],
    );
    let own = own.tensor("blk.0.attn_k.weight", &[64, 64], F32).tensor("blk.0.attn_v.weight", &[64, 64], F32);
    assert_eq!(read_as("llama", &own).unwrap().heads_kv, 2);
}

#[test]
fn numbers_that_would_be_divided_or_allocated_by_are_checked() {
    for name in [
        "embedding_length",
        "block_count",
        "feed_forward_length",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.value_length",
        "context_length",
        "rope.dimension_count",
    ] {
        for number in [0, 1 << 31, u32::MAX] {
            let key = format!("llama.{name}");
            assert_eq!(refused(&llama().unsigned(&key, number)), format!("its {key} is {number}, which cannot be"));
        }
        let key = format!("llama.{name}");
        let huge = llama().value(&key, 10, &u64::MAX.to_le_bytes());
        assert_eq!(refused(&huge), format!("its {key} is {}, which cannot be", u64::MAX));
    }
    for (name, number) in [
        // Not as many blocks as there are tensors.
        ("block_count", 12),
        ("block_count", (1 << 31) - 1),
        // Not a whole number of heads for each key.
        ("attention.head_count_kv", 3),
        // Heads of 12, 8, 0 and 8192 numbers; values that are not as long as keys.
        ("attention.head_count", 5),
        ("attention.head_count", 8),
        ("attention.head_count", 65),
        ("attention.value_length", 16),
        ("rope.dimension_count", 34),
        ("rope.dimension_count", 31),
    ] {
        let key = format!("llama.{name}");
        // Only the number of keys is also wrong for these.
        let file =
            if name == "attention.head_count" { llama().without("llama.attention.head_count_kv") } else { llama() };
        assert_eq!(refused(&file.unsigned(&key, number)), format!("its {key} is {number}, which cannot be"));
    }
    for length in [24, 4112, 8192] {
        let sentence = refused(&llama().unsigned("llama.attention.key_length", length));
        assert_eq!(sentence, "its llama.attention.head_count is 2, which cannot be", "{length}");
    }
    assert_eq!(refused(&llama().without("llama.block_count")), "it does not say llama.block_count");
    let list = refused(&llama().integers("llama.block_count", &[1]));
    assert_eq!(list, "its llama.block_count is not a whole number from 0");
}

#[test]
fn numbers_of_each_block_are_read_if_they_are_equal() {
    let names = [
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
        ("attention.key_length", 32),
        ("attention.value_length", 32),
        ("feed_forward_length", 32),
        ("rope.dimension_count", 32),
    ];
    let two = (TENSORS.iter().filter_map(|(name, dimensions)| Some((name.strip_prefix("blk.0.")?, dimensions))))
        .fold(llama().unsigned("llama.block_count", 2), |file, (name, dimensions)| {
            file.tensor(&format!("blk.1.{name}"), dimensions, F32)
        });
    let expected = read_as("llama", &two).unwrap();
    for (name, number) in names {
        let key = format!("llama.{name}");
        let list = |numbers: &[i32]| two.clone().integers(&key, numbers);
        assert_eq!(read_as("llama", &list(&[number, number])).unwrap(), expected, "{name}");
        // In other types than the usual one.
        for (kind, bytes) in [(0, vec![number as u8; 2]), (10, (number as u64).to_le_bytes().repeat(2))] {
            assert_eq!(read_as("llama", &two.clone().list(&key, kind, 2, &bytes)).unwrap(), expected, "{name}");
        }
        let uneven = format!(
            "its {key} is {number} in one block and {} in another, and only files whose blocks are all alike are supported",
            number + 1
        );
        assert_eq!(refused(&list(&[number, number + 1])), uneven);
        for wrong in [&[][..], &[number], &[number; 3]] {
            let sentence = format!("its {key} has {} numbers, but it has 2 blocks", wrong.len());
            assert_eq!(refused(&list(wrong)), sentence);
        }
        assert_eq!(refused(&list(&[0, 0])), format!("its {key} is 0, which cannot be"));
        assert_eq!(refused(&list(&[-1, -1])), format!("its {key} is not a whole number from 0"));
    }
}

#[test]
fn fractions_must_be_numbers_that_make_sense() {
    for (name, number, shown) in [
        ("attention.layer_norm_rms_epsilon", f32::NAN, "NaN"),
        ("attention.layer_norm_rms_epsilon", -1.0, "-1"),
        ("rope.freq_base", f32::INFINITY, "inf"),
        ("rope.freq_base", 0.0, "0"),
        ("rope.freq_base", -2.5, "-2.5"),
        ("rope.scaling.factor", f32::NEG_INFINITY, "-inf"),
        ("rope.scale_linear", -4.0, "-4"),
        ("rope.scaling.attn_factor", f32::NAN, "NaN"),
        ("final_logit_softcapping", f32::NAN, "NaN"),
    ] {
        let key = format!("llama.{name}");
        assert_eq!(refused(&llama().float(&key, number)), format!("its {key} is {shown}, which cannot be"));
    }
    let missing = llama().without("llama.attention.layer_norm_rms_epsilon");
    assert_eq!(refused(&missing), "it does not say llama.attention.layer_norm_rms_epsilon");
    assert_eq!(read_as("llama", &llama().float("llama.rope.scaling.factor", 0.0)).unwrap().rope.scale, 1.0);
}

#[test]
fn tensors_are_compared_with_the_numbers() {
    for (name, dimensions) in TENSORS {
        let missing = with_tensors(numbers("llama"), &[name]);
        assert_eq!(refused(&missing), format!("it has no tensor {name}"));
        // Turned around, cut, and with one dimension more or less.
        let longer = [dimensions, &[1]].concat();
        let shorter = &dimensions[1..];
        let cut = [&[dimensions[0] / 2], shorter].concat();
        for found in [&longer[..], shorter, &cut] {
            assert_eq!(
                refused(&with(name, found, F32)),
                format!("its tensor {name} has the dimensions {found:?}, but {dimensions:?} are needed")
            );
        }
    }
    // A vocabulary of another size, and one without tokens.
    let bytes = llama().bytes(ALL_BYTES);
    let sized = |tokens| Hparams::read(&read(&bytes).unwrap(), "llama", tokens).unwrap_err().to_string();
    assert_eq!(sized(4), "its tensor token_embd.weight has the dimensions [64, 3], but [64, 4] are needed");
    assert_eq!(sized(0), "it needs a vocabulary, but has no tokens");
}

#[test]
fn element_types_that_cannot_be_computed_are_refused() {
    // Q8_1 and Q8_K, which only intermediate results have; IQ2_XXS; 64-bit numbers; and none at
    // all.
    for kind in [4, 9, 15, 16, 28, 31, u32::MAX] {
        for (name, dimensions) in [TENSORS[0], TENSORS[2], TENSORS[3]] {
            assert_eq!(refused(&with(name, dimensions, kind)), format!("its tensor {name} {}", ElementType(kind)));
        }
    }
    let sentence = "its tensor token_embd.weight is in IQ2_XXS; supported are F32, F16, BF16, Q4_0, ";
    assert!(refused(&with(TENSORS[0].0, TENSORS[0].1, 16)).starts_with(sentence));
    // Rows that are no whole blocks: 64 numbers, and blocks of 256.
    let broken = with("blk.0.attn_q.weight", &[64, 64], 12).bytes(ALL_BYTES);
    let error = system::foreign_text::chain(&read(&broken).unwrap_err());
    assert_eq!(error, "its tensor blk.0.attn_q.weight has an impossible shape");
}

#[test]
fn what_would_be_left_out_is_refused() {
    for name in ["blk.0.ffn_gate_exps.weight", "blk.1.attn_q.weight", "blk.0.attn_q_norm.weight", "a\nb"] {
        let shown = name.replace('\n', "\\n");
        let more = llama().tensor(name, &[16], F32);
        assert_eq!(refused(&more), format!("it needs its tensor {shown}, which is not supported"));
    }
    let scaled = llama().text("llama.rope.scaling.type", "yarn");
    assert_eq!(refused(&scaled), "it needs yarn scaling of its positions, which is not supported");
    let scaled = llama().text("llama.rope.scaling.type", "longrope");
    assert_eq!(refused(&scaled), "it has no tensor rope_factors_short.weight");
    assert_eq!(refused(&llama().unsigned("llama.expert_count", 8)), "it needs 8 experts, which is not supported");
    for experts in [0, 1] {
        assert!(read_as("llama", &llama().unsigned("llama.expert_count", experts)).is_ok());
    }
}

#[test]
fn what_may_be_there_has_its_dimensions() {
    for (name, dimensions) in [
        ("output.weight", &[64, 3][..]),
        ("rope_freqs.weight", &[16]),
        ("blk.0.attn_q.bias", &[64]),
        ("blk.0.attn_k.bias", &[32]),
        ("blk.0.attn_v.bias", &[32]),
        ("blk.0.attn_output.bias", &[64]),
    ] {
        assert!(read_as("llama", &llama().tensor(name, dimensions, F32)).is_ok(), "{name}");
        assert_eq!(
            refused(&llama().tensor(name, &[5], F32)),
            format!("its tensor {name} has the dimensions [5], but {dimensions:?} are needed")
        );
    }
}

#[test]
fn families_have_tensors_of_their_own() {
    let refused = |family: &str, file: Gguf| system::foreign_text::chain(&read_as(family, &file).unwrap_err());
    for family in ["qwen3", "gemma3"] {
        let sentence = refused(family, with_tensors(numbers(family), &[]));
        assert_eq!(sentence, "it has no tensor blk.0.attn_q_norm.weight");
    }
    let normed = |family: &str| {
        let file = with_tensors(numbers(family), &[]).tensor("blk.0.attn_q_norm.weight", &[32], F32);
        file.tensor("blk.0.attn_k_norm.weight", &[32], F32)
    };
    assert!(read_as("qwen3", &normed("qwen3")).is_ok());
    assert_eq!(refused("gemma3", normed("gemma3")), "it has no tensor blk.0.post_attention_norm.weight");
    assert_eq!(refused("phi3", with_tensors(numbers("phi3"), &[])), "it has no tensor blk.0.attn_qkv.weight");
    // The upper half is the gate, so there must be two of them.
    let halves = |rows| {
        let names = ["blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight", "blk.0.ffn_gate.weight"];
        let file = with_tensors(numbers("phi3"), &[&names[..], &["blk.0.ffn_up.weight"]].concat());
        file.tensor("blk.0.attn_qkv.weight", &[64, 128], F32).tensor("blk.0.ffn_up.weight", &[64, rows], F32)
    };
    assert!(read_as("phi3", &halves(64)).is_ok());
    assert_eq!(
        refused("phi3", halves(33)),
        "its tensor blk.0.ffn_up.weight has the dimensions [64, 33], but [64, 64] are needed"
    );
}

#[test]
fn a_cache_of_any_context_has_a_length_or_none() {
    let hparams = read_as("llama", &llama().unsigned("llama.context_length", (1 << 31) - 1)).unwrap();
    // Keys and values of one block, for contexts that are rounded up.
    assert_eq!(hparams.cache_length(17), Some(2 * 32 * 32));
    assert_eq!(hparams.cache_length(hparams.context), Some((2 * 32) << 31));
    let large = Hparams { blocks: 1 << 30, heads_kv: 1 << 30, ..hparams };
    assert_eq!(large.cache_length(17), None);
    assert_eq!(large.cache_length(usize::MAX), None);
}
