//! OpenAI's API: answers whole and streamed, and each parameter served, inert or refused by name.
use super::serve;
use integration_tests::chat;
use serde_json::{Value, json};

#[test]
fn a_chat_is_answered_whole_with_its_usage() {
    let (daemon, http) = serve("builtin:pocket", "");
    let reply = http.post("/v1/chat/completions", &chat("model", "Spell cloud."));
    assert_eq!(reply.status, 200, "{reply:?}");
    let answer = reply.json();
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["choices"][0]["message"]["content"], "c-l-o-u-d");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(answer["model"], "model");
    let usage = &answer["usage"];
    let number = |name: &str| usage[name].as_u64().unwrap();
    assert_eq!(number("total_tokens"), number("prompt_tokens") + number("completion_tokens"));
    assert!(number("prompt_tokens") > 0 && number("completion_tokens") > 0);
    let totals = daemon.settle().models[0].totals;
    assert_eq!((totals.answered, totals.failed), (1, 0));
}

#[test]
fn a_stream_has_a_role_pieces_an_end_and_usage_if_it_is_wanted() {
    let (_daemon, http) = serve("builtin:echo", "");
    for wants_usage in [true, false] {
        let mut body = chat("model", "été");
        body["stream"] = true.into();
        if wants_usage {
            body["stream_options"] = json!({"include_usage": true});
        }
        let reply = http.post("/v1/chat/completions", &body);
        assert_eq!((reply.status, reply.headers["content-type"].as_str()), (200, "text/event-stream"));
        assert_eq!(reply.headers["cache-control"], "no-cache");
        let mut events = reply.events();
        assert_eq!(events.pop().as_deref(), Some("[DONE]"));
        let mut events: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
        if wants_usage {
            let usage = events.pop().unwrap();
            assert_eq!(
                (usage["choices"].as_array().unwrap().len(), usage["usage"]["prompt_tokens"].as_u64()),
                (0, Some(5))
            );
            assert!(events.iter().all(|event| event["usage"].is_null() && event.get("usage").is_some()));
        } else {
            assert!(events.iter().all(|event| event.get("usage").is_none()));
        }
        let choice = |event: &Value| event["choices"][0].clone();
        assert_eq!(choice(&events[0])["delta"], json!({"role": "assistant", "content": ""}));
        let last = choice(events.last().unwrap());
        assert_eq!((&last["delta"], &last["finish_reason"]), (&json!({}), &json!("stop")));
        let pieces = &events[1..events.len() - 1];
        let text: String =
            pieces.iter().map(|event| choice(event)["delta"]["content"].as_str().unwrap().to_owned()).collect();
        assert_eq!(text, "été");
        assert!(pieces.iter().all(|event| choice(event)["finish_reason"].is_null()));
        assert!(pieces.iter().all(|event| choice(event)["delta"].get("role").is_none()), "once only");
        assert!(events.iter().all(|event| event["id"] == events[0]["id"] && event["created"] == events[0]["created"]));
    }
}

#[test]
fn a_text_is_continued() {
    let (_daemon, http) = serve("builtin:echo", "");
    let reply = http.post("/v1/completions", &json!({"prompt": "abc", "stop": "c"})).json();
    assert_eq!((&reply["object"], &reply["choices"][0]["text"]), (&json!("text_completion"), &json!("ab")));
    let reply = http.post("/v1/completions", &json!({"prompt": "x".repeat(40)})).json();
    assert_eq!(reply["choices"][0]["text"].as_str().unwrap().len(), 16, "sixteen tokens unless it is said");
    assert_eq!(reply["choices"][0]["finish_reason"], "length");
    let mut streamed = http.post("/v1/completions", &json!({"prompt": ["ab"], "stream": true})).events();
    assert_eq!(streamed.pop().as_deref(), Some("[DONE]"));
    let events: Vec<Value> = streamed.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let text: String = events.iter().map(|event| event["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!((text.as_str(), &events.last().unwrap()["choices"][0]["finish_reason"]), ("ab", &json!("stop")));
}

#[test]
fn models_are_listed_and_found() {
    let (_daemon, http) = serve("builtin:echo", "");
    let list = http.get("/v1/models").json();
    assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!("model")));
    assert_eq!(http.get("/v1/models/model").json()["context_length"], 4096);
    assert_eq!(http.get("/v1/models/model:latest").status, 200);
    let missing = http.get("/v1/models/org%2Fother");
    assert_eq!((missing.status, missing.json()["error"]["code"].as_str()), (404, Some("model_not_found")));
}

#[test]
fn what_says_nothing_new_passes() {
    let (_daemon, http) = serve("builtin:echo", "");
    let mut body = chat("model:latest", "x");
    for (name, value) in [
        ("n", json!(1)),
        ("frequency_penalty", json!(0)),
        ("presence_penalty", json!(0.0)),
        ("tools", json!([])),
        ("tool_choice", json!("none")),
        ("parallel_tool_calls", json!(false)),
        ("logit_bias", json!({})),
        ("logprobs", json!(false)),
        ("top_logprobs", Value::Null),
        ("user", json!({"id": 1})),
        ("metadata", json!({"a": "b"})),
        ("store", json!(true)),
        ("response_format", json!({"type": "text"})),
        ("stream_options", Value::Null),
        ("modalities", json!(["text"])),
        ("seed", json!(-1)),
        ("max_tokens", json!(3.0)),
        ("max_completion_tokens", json!(3)),
        ("service_tier", json!("auto")),
    ] {
        body[name] = value;
    }
    // An answer's own message comes back, with what an SDK adds.
    body["messages"] = json!([
        {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c", "refusal": null, "tool_calls": [], "audio": null, "name": "m"},
        {"role": "user", "content": "x"},
    ]);
    let reply = http.post("/v1/chat/completions", &body);
    assert_eq!(reply.status, 200, "{reply:?}");
}

#[test]
fn what_is_not_served_is_refused_by_name() {
    let (daemon, http) = serve("builtin:echo", "");
    for (name, value, code) in [
        ("temperature", json!(2.5), "invalid_value"),
        ("temperature", json!("1"), "invalid_value"),
        ("top_p", json!(1.1), "invalid_value"),
        ("min_p", json!(-0.1), "invalid_value"),
        ("max_tokens", json!(0), "invalid_value"),
        ("max_tokens", json!(1.5), "invalid_value"),
        ("n", json!(2), "unknown_parameter"),
        ("n", json!(9), "invalid_value"),
        ("logprobs", json!(true), "unknown_parameter"),
        ("top_logprobs", json!(1), "unknown_parameter"),
        ("tools", json!([{"type": "function"}]), "unknown_parameter"),
        ("response_format", json!({"type": "json_object"}), "unknown_parameter"),
        ("logit_bias", json!({"5": 1}), "unknown_parameter"),
        ("stop", json!(vec!["a"; 17]), "invalid_value"),
        ("stop", json!([1]), "invalid_value"),
        ("stream", json!("yes"), "invalid_value"),
        ("stream_options", json!({"include_usage": true}), "invalid_value"),
        ("messages", json!([]), "invalid_value"),
        ("messages", json!("x"), "invalid_value"),
        ("no_such_thing", json!(1), "unknown_parameter"),
    ] {
        let mut body = chat("model", "x");
        body[name] = value.clone();
        let reply = http.post("/v1/chat/completions", &body);
        let error = &reply.json()["error"];
        assert_eq!((reply.status, error["code"].as_str()), (400, Some(code)), "{name} {value}: {reply:?}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(name), "{name} {value}: {message}");
    }
    for message in [
        json!({"role": "tool", "content": "x", "tool_call_id": "1"}),
        json!({"role": "assistant", "tool_calls": [{"id": "1"}]}),
        json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}),
        json!({"role": "user", "content": 1}),
        json!({"role": "nobody", "content": "x"}),
        json!({"content": "x"}),
        json!("x"),
    ] {
        let reply = http.post("/v1/chat/completions", &json!({"messages": [message]}));
        assert_eq!(reply.status, 400, "{message}: {reply:?}");
        assert!(reply.json()["error"]["param"].as_str().unwrap().starts_with("messages[0]"), "{message}: {reply:?}");
    }
    assert_eq!(daemon.settle().models[0].totals.accepted, 0, "nothing of it has reached a model");
}

#[test]
fn a_refusal_by_the_worker_is_a_status_of_its_own() {
    let (_daemon, http) = serve("builtin:pocket", "");
    for stream in [false, true] {
        let mut body = chat("model", &"word ".repeat(2_000));
        body["stream"] = stream.into();
        let reply = http.post("/v1/chat/completions", &body);
        assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (400, Some("context_length_exceeded")));
    }
    let other = http.post("/v1/chat/completions", &chat("other", "x"));
    assert_eq!((other.status, other.json()["error"]["code"].as_str()), (404, Some("model_not_found")));
    let vectors = http.post("/v1/embeddings", &json!({"input": "x"}));
    assert!(vectors.status == 400 || vectors.status == 404, "{vectors:?}");
}
