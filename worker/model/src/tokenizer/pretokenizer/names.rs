//! What files call the pre-tokenizers, and what goes with each name.
use super::{Letters, Pretokenizer, Step, patterns};

/// The most common case: the file says all there is to say.
const fn plain(names: &'static [&'static str], steps: &'static [Step]) -> Pretokenizer {
    Pretokenizer { names, steps, ignores_merges: false, adds_start: false, letters: Letters::Bytes }
}

/// Words that are tokens stay whole.
const fn whole(names: &'static [&'static str], steps: &'static [Step], adds_start: bool) -> Pretokenizer {
    Pretokenizer { names, steps, ignores_merges: true, adds_start, letters: Letters::Bytes }
}

pub(super) const PRETOKENIZERS: &[Pretokenizer] = &[
    plain(&["default"], patterns::DEFAULT),
    whole(
        &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        patterns::LLAMA3,
        true,
    ),
    plain(&["dbrx", "smaug-bpe", "chatglm-bpe"], patterns::LLAMA3),
    whole(&["glm4", "glm5"], patterns::LLAMA3, false),
    plain(
        &[
            "qwen2",
            "deepseek-r1-qwen",
            "stablelm2",
            "hunyuan",
            "megrez",
            "grok-2",
            "kormo",
            "solar-open",
            "bailingmoe",
            "bailingmoe2",
            "llada-moe",
        ],
        patterns::QWEN2,
    ),
    plain(&["qwen35"], patterns::QWEN35),
    plain(
        &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "exaone4",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "jais",
            "trillion",
            "granite-docling",
        ],
        patterns::GPT_2,
    ),
    plain(
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        patterns::DIGITS_APART,
    ),
    whole(&["tekken"], patterns::TEKKEN, true),
    plain(&["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], patterns::GPT_4O),
    plain(&["falcon"], patterns::FALCON),
    plain(&["deepseek-llm"], patterns::DEEPSEEK_LLM),
    plain(&["deepseek-coder"], patterns::DEEPSEEK_CODER),
    plain(&["deepseek-v3", "hunyuan-dense", "joyai-llm"], patterns::DEEPSEEK_3),
    plain(&["seed-coder"], patterns::SEED_CODER),
    plain(&["bloom", "poro-chat", "gpt3-finnish"], patterns::BLOOM),
    plain(&["viking"], patterns::VIKING),
    Pretokenizer {
        names: &["gemma4"],
        steps: patterns::LINES,
        ignores_merges: false,
        adds_start: true,
        letters: Letters::Characters,
    },
];
