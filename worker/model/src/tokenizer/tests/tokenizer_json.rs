use super::*;
use std::io::Cursor;

/// The vocabulary of `small` as a `tokenizer.json` has it, with only one of its merges.
const JSON: &str = r#"{"version": "1.0", "added_tokens": [
    {"id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
    {"id": 1, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
    {"id": 8, "content": "<|eot_id|>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
    "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
    "model": {"type": "BPE", "vocab": {"<s>": 0, "</s>": 1, "<|eot_id|>": 8, "a": 3, "b": 4, "c": 5, "ab": 6, "abc": 7}, "merges": [["a", "b"]]}}"#;

fn beside(json: &str, file: Gguf) -> Result<Tokenizer, TokenizerError> {
    Tokenizer::new(&file.header().unwrap(), Some(Box::new(Cursor::new(json.as_bytes().to_vec()))))
}

#[test]
fn it_takes_the_place_of_the_files_rules_and_of_nothing_else() {
    // Its pre-tokenizer need not be known.
    let file =
        small().text("tokenizer.ggml.pre", "morse").integers("tokenizer.ggml.token_type", &[3, 3, 4, 1, 1, 1, 1, 1, 3]);
    let tokenizer = beside(JSON, file.clone()).unwrap();
    assert_eq!(tokenizer.encode("abcab", false).unwrap(), [6, 5, 6], "it lacks a merge");
    let training = JSON.replace(r#""type": "BPE""#, r#""type": "BPE", "dropout": 1.0"#);
    assert_ne!(training, JSON);
    let training = beside(&training, file.clone()).unwrap();
    assert_eq!(training.encode("abcab", false).unwrap(), [6, 5, 6], "nothing is left to chance");
    assert_eq!(tokenizer.encode("<s>ab", true).unwrap(), [0, 0, 6]);
    assert_eq!(tokenizer.encode("<s>ab", false).unwrap(), [6]);
    assert_eq!((tokenizer.bytes(7), tokenizer.is_end(8)), (Some(&b"abc"[..]), true));
    let error = Tokenizer::new(&file.header().unwrap(), None).err().unwrap();
    assert!(matches!(error, TokenizerError::Pre(_)));
}

#[test]
fn its_special_tokens_are_the_templates_alone_to_say() {
    let tokenizer = beside(JSON, small()).unwrap();
    let chat = |client: &[Range<usize>]| {
        let rendered = Rendered { text: "<s>ab<s>ab".to_owned(), client: client.to_vec() };
        tokenizer.encode_chat(&rendered).unwrap()
    };
    assert_eq!(chat(&[]), [0, 6, 0, 6]);
    // Its vocabulary has nothing that the letters of the name could be.
    assert_eq!(chat(std::slice::from_ref(&(5..8))), [0, 6, 6]);
    assert_eq!(chat(std::slice::from_ref(&(7..8))), [0, 6, 6], "in part is enough");
    assert_eq!(chat(std::slice::from_ref(&(8..10))), [0, 6, 0, 6]);
}

#[test]
fn no_other_form_of_a_special_token_is_read_in_what_a_client_says() {
    let control = || small().integers("tokenizer.ggml.token_type", &[3, 3, 4, 1, 1, 1, 1, 1, 3]);
    let chat = |json: &str, text: &str, client: Range<usize>| {
        let rendered = Rendered { text: text.to_owned(), client: vec![client] };
        let ids = beside(json, control()).unwrap().encode_chat(&rendered).unwrap();
        ids.into_iter().filter(|id| *id == 8).count()
    };
    // A control token that is an ordinary one in this file.
    let ordinary =
        JSON.replace(r#""normalized": false, "special": true}],"#, r#""normalized": false, "special": false}],"#);
    assert_ne!(ordinary, JSON);
    assert_eq!(chat(&ordinary, "a<|eot_id|>b<|eot_id|>", 0..12), 1);
    assert_eq!(chat(&ordinary, "a<|eot_id|>b<|eot_id|>", 5..6), 1);
    // Ones that are read in what a normaliser makes of a text.
    let lower = JSON.replace(r#""normalizer": null"#, r#""normalizer": {"type": "Lowercase"}"#);
    let lower = lower.replace(r#""normalized": false"#, r#""normalized": true"#);
    assert_eq!(beside(&lower, control()).unwrap().encode("a<|EOT_ID|>", true).unwrap(), [0, 3, 8]);
    assert_eq!(chat(&lower, "a<|EOT_ID|>b<|eot_id|>", 0..12), 1);
    assert_eq!(chat(&lower, "A<|EOT_ID|><|eot_id|>b", 0..11), 1);
    let gone = JSON.replace(
        r#""normalizer": null"#,
        r#""normalizer": {"type": "Replace", "pattern": {"String": "~"}, "content": ""}"#,
    );
    let gone = gone.replace(r#""normalized": false"#, r#""normalized": true"#);
    assert_eq!(chat(&gone, "a<|e~ot_id|>b<|eot_id|>", 0..13), 1);
    // One that is read only where no word touches it: here the client's, and not the template's.
    let single = lower.replace(r#""single_word": false"#, r#""single_word": true"#);
    let words = beside(&single, control()).unwrap();
    assert_eq!(words.encode("a <|EOT_ID|> b<|eot_id|>", true).unwrap().iter().filter(|id| **id == 8).count(), 1);
    let rendered = Rendered { text: "a <|EOT_ID|> b<|eot_id|>".to_owned(), client: std::iter::once(0..14).collect() };
    assert_eq!(words.encode_chat(&rendered).unwrap(), [0, 6, 8]);
}

#[test]
fn one_that_does_not_read_the_control_tokens_is_refused() {
    let refused = |json: &str| system::foreign_text::chain(&beside(json, small()).err().unwrap());
    let said = |name: &str| {
        format!(
            "cannot use the tokenizer.json beside it: it does not know {name}, which is a control token in the model's file"
        )
    };
    // A base model's, beside a file whose chat tokens were added later.
    let added = "    {\"id\": 8, \"content\": \"<|eot_id|>\", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": true}],";
    let base = JSON.replace(&format!(",\n{added}"), "],");
    assert_ne!(base, JSON);
    assert_eq!(refused(&base.replace("\"<|eot_id|>\": 8, ", "")), said("<|eot_id|>"));
    // It has the token, but cuts its name into pieces.
    assert_eq!(refused(&base), said("<|eot_id|>"));
    // The token has the name of a place that was kept for it.
    assert_eq!(refused(&JSON.replace("<|eot_id|>", "<|reserved_1|>")), said("<|eot_id|>"));
    assert_eq!(refused(&JSON.replace("</s>", "</t>")), said("</s>"));
    // What is no control token in the file need not be known.
    let literal = small().integers("tokenizer.ggml.token_type", &[3, 3, 4, 1, 1, 1, 1, 1, 5]);
    assert!(beside(JSON, literal).is_ok());
}

#[test]
fn a_file_of_another_kind_is_called_what_it_is() {
    let refused = |json: &str| system::foreign_text::chain(&beside(json, small()).err().unwrap());
    for (json, words) in [
        ("version https://git-lfs.github.com/spec/v1\n", "it is a Git LFS pointer, not the file itself; git lfs pull"),
        ("<!doctype html><html>", "it is a web page (HTML), "),
        ("", "it is empty; "),
    ] {
        let said = refused(json);
        assert!(said.starts_with(&format!("cannot use the tokenizer.json beside it: {words}")), "{said}");
    }
}

#[test]
fn one_that_cannot_be_used_is_refused_in_words() {
    let refused = |json: &str| system::foreign_text::chain(&beside(json, small()).err().unwrap());
    let begin = "cannot use the tokenizer.json beside it: ";
    assert!(refused("{").starts_with(&format!("{begin}it cannot be parsed: ")), "{}", refused("{"));
    assert_eq!(refused(&JSON.replace("7}", "9}")), format!("{begin}it has a token 9, but the model has only 9 tokens"));
    let other = refused(&JSON.replace("\"c\": 5", "\"d\": 5"));
    assert_eq!(other, format!("{begin}it is another model's: token 5 is \"d\" there and \"c\" in the model's file"));
    let long = JSON.replace("\"<|eot_id|>\": 8, ", "").replace("\"a\", \"b\"", "\"abc\", \"abc\"");
    assert_eq!(refused(&long), format!("{begin}it cannot be parsed: the library fails on it"));
    let json = tempfile::tempfile().unwrap();
    json.set_len(1 << 40).unwrap();
    let error = Tokenizer::new(&small().header().unwrap(), Some(Box::new(json))).err().unwrap();
    let said = format!("{begin}it has 1099511627776 bytes, and 104857600 are the most that can be read");
    assert_eq!(system::foreign_text::chain(&error), said);
}
