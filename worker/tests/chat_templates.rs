//! What chat templates of real models make of conversations is what jinja2 makes of them, set up
//! as `transformers` does it.
//!
//! `chat_templates/make.py` says how the digests were made. The templates are fetched by
//! `tests/set-up`.
use crate::common::fetched;
use ipc::{ChatMessage, GenerateRequest, Prompt};
use jiff::{Timestamp, tz::TimeZone};
use model::chat::{ChatError, ChatTemplate, Conversation};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fs, path::Path};

#[derive(Deserialize)]
struct Case {
    name: String,
    messages: Value,
    #[serde(default)]
    tools: Option<Box<RawValue>>,
    #[serde(default)]
    variables: Option<Box<RawValue>>,
}

fn read<T: for<'de> Deserialize<'de>>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chat_templates").join(name);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn messages(case: &Case) -> Vec<ChatMessage> {
    let request: GenerateRequest = serde_json::from_value(json!({ "messages": case.messages })).unwrap();
    let Prompt::Chat(messages) = request.prompt else { panic!("it has messages") };
    messages
}

/// What a template makes of a conversation, as the digests have it.
fn digest(template: &ChatTemplate, case: &Case) -> String {
    let now = "2026-11-27T12:00:00Z".parse::<Timestamp>().unwrap().to_zoned(TimeZone::UTC);
    let messages = messages(case);
    let conversation = Conversation {
        messages: &messages,
        tools: case.tools.as_ref().map(|tools| tools.get()),
        variables: case.variables.as_ref().map(|variables| variables.get()),
    };
    match template.render(&conversation, &now, &()) {
        Ok(rendered) => Sha256::digest(&rendered.text).iter().take(8).map(|byte| format!("{byte:02x}")).collect(),
        Err(ChatError::Refused(reason)) => format!("raised: {reason}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn real_templates_are_rendered_as_jinja2_renders_them() {
    let Some(folder) = fetched("chat-templates") else { return };
    let cases: Vec<Case> = read("cases.json");
    let digests: BTreeMap<String, BTreeMap<String, String>> = read("digests.json");
    let mut different: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (file, expected) in &digests {
        let template = ChatTemplate::new(&fs::read_to_string(folder.join(file)).unwrap(), "<s>", "</s>");
        for case in &cases {
            let (found, expected) = (digest(&template, case), &expected[&case.name]);
            // How an engine says that something is not possible is its own business.
            if found != *expected && !(found.starts_with("raised: ") && expected == "failed") {
                different.entry(file).or_default().push(format!("{}: {found}, not {expected}", case.name));
            }
        }
    }
    let counted: Vec<_> = different.iter().map(|(file, cases)| (*file, cases.len())).collect();
    assert_eq!(counted, DIFFERENT, "{different:#?}");
}

/// The differences that there are: in so many conversations.
const DIFFERENT: [(&str, usize); 6] = [
    // jinja2 refuses to iterate over the tools where there are none; here they are none, as in
    // llama.cpp.
    ("CohereForAI-c4ai-command-r-plus-tool_use.jinja", 21),
    ("NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use.jinja", 22),
    ("NousResearch-Hermes-3-Llama-3.1-8B-tool_use.jinja", 22),
    // minijinja cannot turn an empty list round: a conversation of no messages is refused.
    ("Reka-Edge.jinja", 1),
    // jinja2 refuses to write what the filter `map` gives as JSON; here it is a list.
    ("llama-cpp-deepseek-r1.jinja", 17),
    // jinja2 escapes what is added to a text that is marked as safe, as for HTML; minijinja does
    // not, and neither does llama.cpp.
    ("meetkai-functionary-medium-v3.1.jinja", 17),
];
