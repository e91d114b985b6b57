//! The patterns of the pre-tokenizers that llama.cpp knows.
//!
//! Where one of its patterns needs to look ahead only to say "a letter that is not a to z", it is
//! written as a difference of sets. Its patterns with letters outside of ASCII do not see white
//! space outside of ASCII as anything but white space, and so these sets leave it out.
use super::Step;

/// With the rule for white space at its end.
const fn blanks(pattern: &'static str) -> Step {
    Step { pattern, blanks: true }
}

const fn only(pattern: &'static str) -> Step {
    Step { pattern, blanks: false }
}

const GPT2: Step = blanks(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+");
const DIGIT: Step = only(r"\p{N}");
const THREE_DIGITS: Step = only("[0-9][0-9][0-9]");
const LINE_ENDS: Step = only(r"[\r\n]");
const CJK: Step = only(r"[\x{4E00}-\x{9FA5}\x{AC00}-\x{D7FF}[\x{800}-\x{4E00}--\s]]+");

pub(super) const DEFAULT: &[Step] = &[only(r"[\p{P}\$\+<=>\^~\|]+"), GPT2, only(r"\p{N}+"), THREE_DIGITS];

pub(super) const GPT_2: &[Step] = &[GPT2];

pub(super) const DIGITS_APART: &[Step] = &[DIGIT, GPT2];

pub(super) const FALCON: &[Step] = &[only(r"[\p{P}\$\+<=>\^~\|`]+"), GPT2, THREE_DIGITS];

pub(super) const LLAMA3: &[Step] = &[blanks(
    r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
)];

pub(super) const QWEN2: &[Step] = &[blanks(
    r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
)];

pub(super) const QWEN35: &[Step] = &[blanks(
    r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+",
)];

pub(super) const TEKKEN: &[Step] = &[blanks(
    r"[^\r\n\p{L}\p{N}]?[\p{L}--a-z]*[\p{L}--A-Z]+|[^\r\n\p{L}\p{N}]?[\p{L}--a-z]+[\p{L}--A-Z]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
)];

pub(super) const GPT_4O: &[Step] = &[blanks(
    r"[^\r\n\p{L}\p{N}]?[\p{L}--a-z]*[\p{L}--A-Z]+(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|[^\r\n\p{L}\p{N}]?[\p{L}--a-z]+[\p{L}--A-Z]*(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
)];

pub(super) const SEED_CODER: &[Step] = &[blanks(
    r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+",
)];

pub(super) const DEEPSEEK_3: &[Step] = &[
    only(r"\p{N}{1,3}"),
    only(r"[\x{4E00}-\x{9FA5}\x{3040}-\x{30FF}]+"),
    blanks(
        r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+"##,
    ),
];

pub(super) const DEEPSEEK_CODER: &[Step] = &[LINE_ENDS, only(r"\s?\p{L}+"), only(r"\s?\p{P}+"), CJK, DIGIT];

pub(super) const DEEPSEEK_LLM: &[Step] = &[
    LINE_ENDS,
    only(DEEPSEEK_LETTERS),
    only(r"\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3001}\x{3002}]+"),
    only(r"\s+$"),
    CJK,
    only(r"\p{N}+"),
];

/// Letters with a case, in the Unicode version of 2023.
const DEEPSEEK_LETTERS: &str = r"(?x)\s?[
    A-Za-z\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293}\x{295}-\x{2AF}
    \x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A}\x{38C}\x{38E}-\x{3A1}
    \x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556}\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}
    \x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}
    \x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}
    \x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}
    \x{1FC2}-\x{1FC4}\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}
    \x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}
    \x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E}
    \x{2183}\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}
    \x{A680}-\x{A69B}\x{A722}-\x{A76F}\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}
    \x{FB00}-\x{FB06}\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}
    \x{104B0}-\x{104D3}\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}
    \x{1E900}-\x{1E943}
]+";

pub(super) const BLOOM: &[Step] = &[only(r" ?[^(\s|.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{964}\x{6D4}\x{60C})]+")];

pub(super) const VIKING: &[Step] =
    &[only(r" ?[^(\s|.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{964}\x{6D4}\x{60C})]+"), DIGIT];

pub(super) const LINES: &[Step] = &[only(r"[^\n]+|[\n]+")];
