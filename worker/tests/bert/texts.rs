//! From texts to the ids that the model reads.
use super::{
    embed,
    folder::{Folder, load},
};
use ipc::TextRole;
use model::embed::bert::Bert;
use serde_json::{Value, json};

const PROMPTS: &str = "config_sentence_transformers.json";

fn ids(bert: &Bert, text: &str) -> Vec<u32> {
    bert.ids(text, TextRole::Plain).unwrap()
}

#[test]
fn special_tokens_stand_around_a_text_and_nothing_fills_it_up() {
    let mut bert = Folder::new().load();
    assert_eq!(ids(&bert, "a b  ac\tone!"), [2, 4, 5, 4, 7, 11, 1, 3]);
    assert_eq!(ids(&bert, ""), [2, 3]);
    assert_eq!(ids(&bert, " \n"), [2, 3]);
    assert_eq!(ids(&bert, "\u{e9}\0\u{1F642}"), [2, 1, 3]);
    assert_eq!(embed(&mut bert, &[vec![2, 3]])[0].len(), bert.dimensions());
}

#[test]
fn a_role_has_its_prefix() {
    let read = |folder: Folder| {
        let bert = folder.load();
        [TextRole::Plain, TextRole::Query, TextRole::Document].map(|role| bert.ids("a", role).unwrap())
    };
    let (plain, query, passage) = (vec![2, 4, 3], vec![2, 8, 10, 4, 3], vec![2, 9, 10, 4, 3]);
    assert_eq!(read(Folder::new()), [plain.clone(), query.clone(), passage.clone()]);
    let default = Folder::new().with(PROMPTS, "default_prompt_name", json!("passage"));
    assert_eq!(read(default), [passage.clone(), query, passage.clone()]);
    // What has no prefix of its own has the default's.
    let spaced = json!({"prompts": {"x": "one two ", "corpus": "read:", "query": null}, "default_prompt_name": "x"});
    let default = vec![2, 11, 12, 4, 3];
    assert_eq!(read(Folder::new().file(PROMPTS, spaced)), [default.clone(), default, passage]);
    assert_eq!(read(Folder::new().file(PROMPTS, Value::Null)), [plain.clone(), plain.clone(), plain]);
}

#[test]
fn a_text_is_cut_at_the_limit_and_keeps_its_special_tokens() {
    let bert = Folder::new().load();
    assert_eq!(bert.context(), 140);
    let cut = ids(&bert, &"a b ".repeat(100));
    assert_eq!((cut.len(), &cut[..3], &cut[138..]), (140, &[2, 4, 5][..], &[5, 3][..]));
    // The prefix counts too.
    let query = bert.ids(&"a b ".repeat(100), TextRole::Query).unwrap();
    assert_eq!((query.len(), &query[..4], &query[138..]), (140, &[2, 8, 10, 4][..], &[5, 3][..]));

    let written = Folder::new().write();
    let small = load(written.path(), |spec| spec.context = Some(3)).unwrap();
    assert_eq!((small.context(), ids(&small, "a b c")), (3, vec![2, 4, 3]));
    // Of a long text the beginning is enough; one whose beginning is only white space is looked at
    // further on.
    let mut long = "a ".to_owned() + &" ".repeat(5000) + "b";
    assert_eq!(ids(&bert, &long), [2, 4, 5, 3]);
    long.push_str(&" c".repeat(500_000));
    assert_eq!(ids(&bert, &long).len(), 140);
    assert_eq!(ids(&bert, &"x".repeat(4 << 20)), [2, 1, 3]);
}

#[test]
fn the_limit_is_the_least_of_what_the_folder_says() {
    let limit = |folder: Folder| folder.load().context();
    let text = "sentence_bert_config.json";
    assert_eq!(limit(Folder::new().with(text, "max_seq_length", json!(1000))), 150);
    assert_eq!(limit(Folder::new().with(text, "max_seq_length", Value::Null)), 150);
    let tokenizer = |most: Value| {
        Folder::new().file(text, Value::Null).file("tokenizer_config.json", json!({"model_max_length": most}))
    };
    assert_eq!(limit(tokenizer(json!(20))), 20);
    assert_eq!(limit(tokenizer(json!(1e30))), 150);
}

#[test]
fn texts_are_made_lower_case_where_the_folder_says_so() {
    let folder = Folder::new();
    assert_eq!(ids(&folder.load(), "A \u{c9}"), [2, 1, 1, 3]);
    let lower = folder.with("sentence_bert_config.json", "do_lower_case", json!(true));
    assert_eq!(ids(&lower.load(), "A \u{c9}"), [2, 4, 14, 3]);
}

#[test]
fn special_tokens_are_read_only_where_they_are_asked_for() {
    let mut bert = Folder::new().load();
    assert_eq!(bert.tokenize("a [SEP] b", true).unwrap(), [2, 4, 3, 5, 3]);
    assert_eq!(bert.tokenize("a [SEP] b", false).unwrap(), [4, 1, 1, 1, 5]);
    // Nothing is cut, and the texts to embed are read as before.
    assert_eq!(bert.tokenize(&"a ".repeat(1000), true).unwrap().len(), 1002);
    assert_eq!(ids(&bert, "a [SEP]"), [2, 4, 3, 3]);
}
