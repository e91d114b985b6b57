mod tokenizer_json;

use super::*;
use crate::gguf::build::Gguf;

fn pocket() -> Tokenizer {
    const BYTES: &[u8] = include_bytes!("../../../pocket/pocket-q8_0.gguf");
    Tokenizer::new(&Header::read(BYTES, BYTES.len() as u64).unwrap(), None).unwrap()
}

fn text(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<u8> {
    ids.iter().flat_map(|id| tokenizer.bytes(*id).unwrap()).copied().collect()
}

/// A file with a start token, a literal token, and the letters and merges of `ab` and `abc`.
fn small() -> Gguf {
    Gguf::new()
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "gpt-2")
        .texts("tokenizer.ggml.tokens", &["<s>", "</s>", "<lit> e\u{301}", "a", "b", "c", "ab", "abc", "<|eot_id|>"])
        .integers("tokenizer.ggml.token_type", &[3, 3, 4, 1, 1, 1, 1, 1, 1])
        .texts("tokenizer.ggml.merges", &["a b", "ab c"])
        .unsigned("tokenizer.ggml.bos_token_id", 0)
        .unsigned("tokenizer.ggml.eos_token_id", 1)
        .flag("tokenizer.ggml.add_bos_token", true)
}

fn read(file: Gguf) -> Result<Tokenizer, TokenizerError> {
    Tokenizer::new(&file.header().unwrap(), None)
}

#[test]
fn special_tokens_are_read_only_where_they_are_asked_for() {
    let tokenizer = pocket();
    assert_eq!(tokenizer.encode("<|user|>\n", true).unwrap(), [2, 202]);
    let plain = tokenizer.encode("<|user|>\n", false).unwrap();
    assert!(plain.iter().all(|id| *id > 3), "{plain:?}");
    assert_eq!(text(&tokenizer, &plain), b"<|user|>\n");
    assert_eq!(tokenizer.encode("<|end|><|end|>a", true).unwrap()[..2], [0, 0]);
    assert!(tokenizer.encode("", true).unwrap().is_empty());
}

#[test]
fn a_text_comes_back_byte_for_byte() {
    let tokenizer = pocket();
    // The last but one has letters that Unicode's normal form would join.
    for sample in [
        "Hello, World!",
        "  two  spaces\n\n\ttab ",
        "w\u{F6}rld \u{1F642} \u{65E5}\u{672C}\u{8A9E}",
        "e\u{301} u\u{308}",
        "\0\u{7F}\u{AD}",
    ] {
        for special in [true, false] {
            let ids = tokenizer.encode(sample, special).unwrap();
            assert_eq!(text(&tokenizer, &ids), sample.as_bytes(), "{sample:?}");
        }
    }
}

#[test]
fn tokens_are_known_by_their_ids() {
    let tokenizer = pocket();
    assert_eq!((tokenizer.len(), tokenizer.is_empty()), (1536, false));
    assert_eq!(tokenizer.bytes(2), Some(&b""[..]));
    assert_eq!(tokenizer.bytes(202), Some(&b"\n"[..]));
    assert_eq!(tokenizer.bytes(1536), None);
    assert_eq!((0..1536).filter(|id| tokenizer.is_end(*id)).collect::<Vec<_>>(), [0]);
}

#[test]
fn bytes_are_their_own_ids_for_the_echo_engine() {
    let tokenizer = Tokenizer::byte_values();
    assert_eq!(tokenizer.encode("\u{E9}<", true).unwrap(), [0xC3, 0xA9, 0x3C]);
    assert_eq!(text(&tokenizer, &[0, 255, 256]), [0, 255]);
    assert_eq!((tokenizer.len(), tokenizer.bytes(257)), (257, None));
    assert_eq!((tokenizer.is_end(255), tokenizer.is_end(256)), (false, true));
}

#[test]
fn what_the_file_adds_is_added_where_special_tokens_are_read() {
    let tokenizer = read(small()).unwrap();
    assert_eq!(tokenizer.encode("abcab", true).unwrap(), [0, 7, 6]);
    assert_eq!(tokenizer.encode("<s>ab", true).unwrap(), [0, 0, 6]);
    assert_eq!(tokenizer.encode("ab", false).unwrap(), [6]);
    assert_eq!((tokenizer.start_text(), tokenizer.end_text()), ("<s>", "</s>"));
    let without = read(small().flag("tokenizer.ggml.add_bos_token", false)).unwrap();
    assert_eq!(without.encode("ab", true).unwrap(), [6]);
}

#[test]
fn a_literal_token_is_its_text_and_always_read() {
    let tokenizer = read(small()).unwrap();
    assert_eq!(tokenizer.bytes(2), Some("<lit> e\u{301}".as_bytes()));
    assert_eq!(tokenizer.encode("ab<lit> e\u{301}c", false).unwrap(), [6, 2, 5]);
}

#[test]
fn an_id_that_is_no_tokens_is_as_none_and_told() {
    let remark = |name: &str, id: i64| {
        format!("its tokenizer.ggml.{name}_token_id is {id}, but it has only 9 tokens: the key is ignored")
    };
    let remarks = |file: Gguf| read(file).unwrap().remarks().to_vec();
    assert_eq!(remarks(small()), [""; 0]);
    for id in [9, u32::MAX] {
        for name in ["bos", "eos", "eot", "eom", "fim_pad", "unknown"] {
            let file = small().unsigned(&format!("tokenizer.ggml.{name}_token_id"), id);
            assert_eq!(remarks(file), [remark(name, id.into())]);
        }
    }
    let minus = small().value("tokenizer.ggml.bos_token_id", 5, &(-1_i32).to_le_bytes());
    assert_eq!(remarks(minus.clone()), [remark("bos", -1)]);
    let tokenizer = read(minus).unwrap();
    assert_eq!((tokenizer.encode("ab", true).unwrap(), tokenizer.start_text()), (vec![6], ""));
    // A family that has a usual one has it then, too.
    let usual = read(pieces().unsigned("tokenizer.ggml.bos_token_id", u32::MAX)).unwrap();
    assert_eq!(usual.start_text(), "<s>");
    let text = small().text("tokenizer.ggml.bos_token_id", "<s>");
    assert!(matches!(read(text), Err(TokenizerError::Header(_))), "of another type it is refused");
}

#[test]
fn the_usual_names_of_end_tokens_end_an_answer() {
    let tokenizer = read(small()).unwrap();
    assert_eq!((0..9).filter(|id| tokenizer.is_end(*id)).collect::<Vec<_>>(), [1, 8]);
    assert_eq!(tokenizer.bytes(8), Some(&b""[..]));
}

#[test]
fn what_encoding_adds_is_taken_from_what_a_chat_template_wrote() {
    let file = small().flag("tokenizer.ggml.add_eos_token", true);
    let tokenizer = read(file.clone()).unwrap();
    assert_eq!(tokenizer.encode("ab", true).unwrap(), [0, 6, 1]);
    let chat = |tokenizer: &Tokenizer, text: &str, client: &[Range<usize>]| {
        tokenizer.encode_chat(&Rendered { text: text.to_owned(), client: client.to_vec() }).unwrap()
    };
    assert_eq!(chat(&tokenizer, "<s><s>ab</s>", &[]), [0, 0, 6, 1]);
    assert_eq!(chat(&tokenizer, "ab", &[]), [0, 6, 1]);
    let forged = tokenizer.encode("<s>", false).unwrap();
    assert_eq!(
        chat(&tokenizer, "<s>", std::slice::from_ref(&(0..3))),
        [&[0], &forged[..], &[1]].concat(),
        "the client's own is text"
    );
    let adds_nothing = file.flag("tokenizer.ggml.add_bos_token", false).flag("tokenizer.ggml.add_eos_token", false);
    assert_eq!(chat(&read(adds_nothing).unwrap(), "<s>ab</s>", &[]), [0, 6, 1]);
}

#[test]
fn names_that_a_family_gives_another_meaning_end_nothing_there() {
    let ends = |texts: &[&str]| -> Vec<u32> {
        let kinds = vec![1; texts.len()];
        let file = small().texts("tokenizer.ggml.tokens", &[&["<s>", "</s>", "a", "b", "ab"], texts].concat());
        let file = file.texts("tokenizer.ggml.merges", &["a b"]);
        let file = file.integers("tokenizer.ggml.token_type", &[&[3, 3, 1, 1, 1], &kinds[..]].concat());
        let tokenizer = read(file.without("tokenizer.ggml.eos_token_id")).unwrap();
        (0..tokenizer.len() as u32).filter(|id| tokenizer.is_end(*id)).collect()
    };
    assert_eq!(ends(&["<|end|>", "<end_of_turn>", "<|file_sep|>", "x"]), [1, 5, 6, 7]);
    assert_eq!(ends(&["<|end|>", "<|call|>", "<|return|>"]), [1, 6, 7]);
    assert_eq!(ends(&["<turn|>", "<|tool_response>"]), [5, 6]);
}

/// A SentencePiece file with bytes, the letters of `ab` and some of what they make.
fn pieces() -> Gguf {
    let bytes: Vec<String> = (0..=255).map(|byte| format!("<0x{byte:02X}>")).collect();
    let named = ["<unk>", "<s>", "</s>", "a", "b", "\u{2581}", "ab", "ba", "\u{2581}a", "<lit>", "<c>"];
    let texts: Vec<&str> = named.into_iter().chain(bytes.iter().map(String::as_str)).collect();
    let kinds: Vec<i32> = [2, 3, 3, 1, 1, 1, 1, 1, 1, 4, 3].into_iter().chain([6; 256]).collect();
    let mut scores = vec![0.0; texts.len()];
    scores[3..9].copy_from_slice(&[-9.0, -9.0, -9.0, -2.0, -2.0, -3.0]);
    Gguf::new()
        .text("tokenizer.ggml.model", "llama")
        .texts("tokenizer.ggml.tokens", &texts)
        .integers("tokenizer.ggml.token_type", &kinds)
        .floats("tokenizer.ggml.scores", &scores)
}

#[test]
fn sentence_piece_makes_the_token_with_the_highest_score_first_and_of_equals_the_leftmost() {
    let tokenizer = read(pieces().flag("tokenizer.ggml.add_space_prefix", false)).unwrap();
    let plain = |text: &str| tokenizer.encode(text, false).unwrap();
    assert_eq!(plain("aba"), [6, 3]);
    assert_eq!(plain("bab"), [7, 4]);
    assert_eq!(plain(" ab"), [5, 6]);
    assert_eq!(plain(" aa"), [8, 3]);
    // A character that is no token is its bytes.
    assert_eq!(plain("\u{E9}"), [11 + 0xC3, 11 + 0xA9]);
    assert_eq!(tokenizer.bytes(11 + 0xC3), Some(&[0xC3][..]));
    assert_eq!(tokenizer.bytes(8), Some(&b" a"[..]));
    assert!(plain("").is_empty());
}

#[test]
fn a_space_is_put_before_a_text_that_follows_nothing_or_a_special_token() {
    let tokenizer = read(pieces()).unwrap();
    assert_eq!(tokenizer.encode("a", false).unwrap(), [8]);
    assert_eq!(tokenizer.encode("a<c>a<lit>a", true).unwrap(), [1, 8, 10, 8, 9, 8]);
    assert_eq!(tokenizer.encode("a<lit>", false).unwrap(), [8, 9]);
    assert_eq!(tokenizer.encode("", true).unwrap(), [1]);
    assert_eq!((tokenizer.start_text(), tokenizer.end_text(), tokenizer.is_end(2)), ("<s>", "</s>", true));
}

#[test]
fn a_byte_without_a_token_is_what_is_unknown() {
    let texts = ["<unk>", "<s>", "</s>", "\u{2581}", "a"];
    let file = Gguf::new().text("tokenizer.ggml.model", "llama").texts("tokenizer.ggml.tokens", &texts);
    let file = file.floats("tokenizer.ggml.scores", &[0.0; 5]).integers("tokenizer.ggml.token_type", &[2, 3, 3, 1, 1]);
    assert_eq!(read(file).unwrap().encode("ab\u{E9}", false).unwrap(), [3, 4, 0, 0, 0]);
}

#[test]
fn a_text_with_fewer_tokens_than_it_has_bytes_over_the_longest_is_not_promised_more() {
    assert_eq!(read(pieces()).unwrap().longest(), 6);
    // White space behind special tokens is gone.
    assert_eq!(read(pieces().text("general.name", "Phi-3 mini")).unwrap().longest(), usize::MAX);
    // Bytes that are no tokens are gone.
    assert_eq!(read(small()).unwrap().longest(), usize::MAX);
    assert_eq!(pocket().longest(), 13);
}

#[test]
fn what_cannot_be_used_is_refused_in_words() {
    let refused = |file: Gguf| system::foreign_text::chain(&read(file).err().unwrap());
    assert_eq!(
        refused(small().text("tokenizer.ggml.model", "t5")),
        "it is of the kind \"t5\", and only gpt2 and gemma4 (BPE) and llama (SentencePiece) are supported"
    );
    assert_eq!(
        refused(small().without("tokenizer.ggml.model")),
        "it is of the kind \"\", and only gpt2 and gemma4 (BPE) and llama (SentencePiece) are supported"
    );
    let unknown = refused(small().text("tokenizer.ggml.pre", "morse"));
    assert!(unknown.starts_with("its pre-tokenizer is \"morse\", and only default, llama-bpe, llama3, "), "{unknown}");
    assert_eq!(refused(small().without("tokenizer.ggml.merges")), "it does not say tokenizer.ggml.merges");
    assert_eq!(refused(small().without("tokenizer.ggml.tokens")), "it does not say tokenizer.ggml.tokens");
    for merge in ["abc abc", "ab", " abc", "", " ", "\u{E9} "] {
        let said = format!("its merge \"{merge}\" makes no token of it");
        assert_eq!(refused(small().texts("tokenizer.ggml.merges", &["a b", merge])), said);
    }
    assert_eq!(
        refused(small().text("tokenizer.ggml.tokens", "abc")),
        "its tokenizer.ggml.tokens is not a list of texts"
    );
    assert_eq!(
        refused(small().integers("tokenizer.ggml.token_type", &[1; 8])),
        "its tokenizer.ggml.token_type has 8 elements, but it has 9 tokens"
    );
    assert_eq!(refused(pieces().without("tokenizer.ggml.scores")), "it does not say tokenizer.ggml.scores");
    assert_eq!(
        refused(pieces().floats("tokenizer.ggml.scores", &[0.0; 266])),
        "its tokenizer.ggml.scores has 266 elements, but it has 267 tokens"
    );
    assert_eq!(
        refused(pieces().integers("tokenizer.ggml.scores", &[0; 267])),
        "its tokenizer.ggml.scores is not a list of numbers with fractions"
    );
    let mut scores = [0.0; 267];
    scores[7] = f32::NAN;
    assert_eq!(refused(pieces().floats("tokenizer.ggml.scores", &scores)), "the score of its token 7 is not a number");
    let long = "x".repeat((8 << 20) - 2);
    let long = small().texts("tokenizer.ggml.tokens", &["<s>", &long, "a", "b", "ab"]);
    let long = long.texts("tokenizer.ggml.merges", &["a b"]).integers("tokenizer.ggml.token_type", &[3, 4, 1, 1, 1]);
    assert_eq!(
        refused(long),
        "the names of its special tokens have 8388609 bytes, and 8388608 are the most that can be looked for"
    );
    let none = pieces().texts("tokenizer.ggml.tokens", &[]).floats("tokenizer.ggml.scores", &[]);
    assert_eq!(refused(none), "it has no token for the byte 0x00, and none for what is unknown");
}

#[test]
fn a_file_without_tokens_is_no_reason_to_fail() {
    let none = small().texts("tokenizer.ggml.tokens", &[]).texts("tokenizer.ggml.merges", &[]);
    let none = none.without("tokenizer.ggml.bos_token_id").without("tokenizer.ggml.eos_token_id");
    let tokenizer = read(none).unwrap();
    assert_eq!((tokenizer.len(), tokenizer.encode("abc", true).unwrap()), (0, vec![]));
}

/// What long texts of one thing cost must not be seen: each of these would take very long if it
/// took quadratic time.
#[test]
fn texts_that_are_made_to_be_slow_are_not() {
    let spaces: Vec<String> = (1..32).map(|count| "\n".repeat(count)).collect();
    let long = |part: &str| part.repeat((1 << 18) / part.len());
    let runs: Vec<&str> = spaces.iter().map(String::as_str).collect();
    let texts = [&["<s>", "</s>", "a", "aa", "aaaa", "A", " ", "x"], &runs[..]].concat();
    let kinds: Vec<i32> = [3, 3, 1, 1, 1, 1, 1, 1].into_iter().chain([4; 31]).collect();
    for pre in ["default", "llama-bpe", "tekken", "gpt-4o", "deepseek-v3", "gemma4"] {
        let file = Gguf::new()
            .text("tokenizer.ggml.model", "gpt2")
            .text("tokenizer.ggml.pre", pre)
            .texts("tokenizer.ggml.tokens", &texts)
            .integers("tokenizer.ggml.token_type", &kinds)
            .texts("tokenizer.ggml.merges", &["a a", "aa aa"]);
        let tokenizer = read(file).unwrap();
        for part in ["a", "A", "\n", "Aa", "x1", "'", "a ", " \n", "\u{4E2D}"] {
            let ids = tokenizer.encode(&long(part), false).unwrap();
            let expected = match part {
                "a" => Some(1 << 16),
                "\n" => Some((1_usize << 18).div_ceil(31)),
                _ => None,
            };
            assert!(expected.is_none_or(|count| ids.len() == count), "{pre}: {part:?} has {} tokens", ids.len());
        }
    }
    let tokenizer = read(pieces()).unwrap();
    assert_eq!(tokenizer.encode(&long("ab"), false).unwrap().len(), (1 << 17) + 1);
}
