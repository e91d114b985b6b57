//! What a template sees, and how it fails. Real templates are in the worker's tests.
use super::*;
use ipc::{ChatMessage, Role};

fn said(role: Role, content: &str) -> ChatMessage {
    ChatMessage::new(role, content)
}

fn now() -> Zoned {
    "2026-11-27T12:00:00Z".parse::<jiff::Timestamp>().unwrap().to_zoned(jiff::tz::TimeZone::UTC)
}

fn render(source: &str, messages: &[ChatMessage]) -> Result<String, ChatError> {
    let conversation = Conversation { messages, ..Conversation::default() };
    let rendered = ChatTemplate::new(source, "<s>", "</s>").render(&conversation, &now(), &())?;
    Ok(rendered.text)
}

#[test]
fn a_template_sees_messages_and_special_tokens_as_transformers_gives_them() {
    let source = "
        {%- if tools is not none or documents %}never{% endif %}
        {{- bos_token }}
        {%- for message in messages %}
            {%- if message.role == 'system' %}
                {{- message['content'].strip() }}|
            {%- elif message.role != 'user' %}{% continue %}
            {%- else %}
                {{- '[' + message.content + ']' + eos_token }}
            {%- endif %}
        {%- endfor %}
        {%- if add_generation_prompt %}>{% endif %}";
    let messages = [said(Role::System, " be brief\n"), said(Role::Assistant, "x"), said(Role::User, "hi <you>")];
    assert_eq!(render(source, &messages).unwrap(), "<s>be brief|[hi <you>]</s>>");
}

#[test]
fn blocks_leave_no_blank_lines() {
    let source = "{% for m in messages %}\n    {% if true %}\n{{ m.content }}\n    {% endif %}\n{% endfor %}\nend";
    assert_eq!(render(source, &[said(Role::User, "a"), said(Role::User, "b")]).unwrap(), "a\nb\nend");
}

#[test]
fn what_a_template_says_is_wrong_is_the_reason() {
    let source = "{{ raise_exception('roles must\n\x1balternate') }}";
    let error = render(source, &[]).unwrap_err();
    assert_eq!(error, ChatError::Refused("roles must \\u{1b}alternate".into()));
    assert_eq!(error.to_string(), "the model's chat template refuses the conversation: roles must \\u{1b}alternate");
    let failed = render("{{ messages[0].content.nothing() }}", &[said(Role::User, "a")]).unwrap_err().to_string();
    assert!(failed.contains("unknown method") && !failed.contains('\n'), "{failed}");
}

#[test]
fn one_that_does_not_compile_refuses_each_conversation() {
    let error = render("{% for %}", &[said(Role::User, "a")]).unwrap_err().to_string();
    assert!(error.starts_with("the model's chat template cannot be used (syntax error"), "{error}");
    assert!(error.ends_with("); send a raw prompt instead"), "{error}");
}

#[test]
fn one_that_is_too_deep_to_be_compiled_refuses_each_conversation() {
    let said = [said(Role::User, "a")];
    for link in ["not ", "-", "'a' ~ ", "1 + ", "1 if 1 else "] {
        let deep = format!("{{{{ {}1 }}}}", link.repeat(50_000));
        let error = render(&deep, &said).unwrap_err().to_string();
        let expected = "the model's chat template cannot be used (an expression in it is longer than any that can be \
                        compiled); send a raw prompt instead";
        assert_eq!(error, expected, "{link}");
        // As deep as is let through.
        let _either = render(&format!("{{{{ {}1 }}}}", link.repeat(990)), &said);
    }
    assert!(render(&format!("{{{{ '{}' }}}}", "- ".repeat(50_000)), &said).is_ok());
}

#[test]
fn a_template_has_a_bound_in_time_and_in_output() {
    let endless = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
    let error = render(endless, &[]).unwrap_err().to_string();
    assert!(error.contains("fuel"), "{error}");
    let long = "{% for a in range(90000) %}{{ messages[0].content }}{% endfor %}";
    assert_eq!(render(long, &[said(Role::User, &"x".repeat(1000))]), Err(ChatError::TooLong));
}

#[test]
fn json_is_what_python_writes() {
    let json = |expression: &str| render(&format!("{{{{ {expression} }}}}"), &[]).unwrap();
    assert_eq!(json("{'a': [1, 2.5, none, true], 'b': '<&>'} | tojson"), r#"{"a": [1, 2.5, null, true], "b": "<&>"}"#);
    assert_eq!(json(r#""it's \\u003c and \"\u00e9\"" | tojson"#), "\"it's \\\\u003c and \\\"\u{E9}\\\"\"");
    assert_eq!(json("[1] | tojson(indent=2)"), "[\n  1\n]");
}

#[test]
fn the_date_is_there() {
    let year = render("{{ strftime_now('%Y') }}", &[]).unwrap();
    assert_eq!(year, "2026");
    let error = render("{{ strftime_now('%') }}", &[]).unwrap_err().to_string();
    assert!(error.starts_with("the model's chat template refuses the conversation: invalid operation"), "{error}");
}

#[test]
fn the_echo_engine_reads_what_the_user_said_last() {
    let template = ChatTemplate::last_message();
    let messages = [said(Role::User, "one"), said(Role::User, "two"), said(Role::Assistant, "three")];
    let read = |messages| {
        let conversation = Conversation { messages, ..Conversation::default() };
        template.render(&conversation, &now(), &()).unwrap().text
    };
    assert_eq!((read(&messages), read(&messages[2..]), read(&[])), ("two".into(), "three".into(), String::new()));
}

#[test]
fn templates_find_what_jinja2_and_python_have() {
    for (expression, expected) in [
        (
            "none is iterable, missing is iterable, 'a' is iterable, {} is iterable, 1 is iterable",
            "(False, True, True, True, False)",
        ),
        (
            "'a' is sequence, {} is sequence, [] is sequence, none is sequence, true is number",
            "(True, True, True, False, True)",
        ),
        ("missing | length", "0"),
        (
            "'a.b.c'.split('.', maxsplit=1), 'a.b'.split(sep='.'), 'a.b.c'.rsplit('.', maxsplit=1), ' a  b c'.split(maxsplit=1)",
            "(['a', 'b.c'], ['a', 'b'], ['a.b', 'c'], ['a', 'b c'])",
        ),
        (
            "'abcabc'.find('c', 3), 'abcabc'.find('a', 1, 3), 'abcabc'.rfind('a', 0, -3), 'abcabc'.count('a', 1)",
            "(5, -1, 0, 1)",
        ),
        ("'abc'.startswith('b', 1), 'abc'.endswith('b', 0, 2), 'abc'.startswith('', 4)", "(True, True, False)"),
        (
            "none | default('x', boolean=true), missing | default(default_value='q'), '' | d('x', true), missing | d",
            "('x', 'q', 'x', '')",
        ),
        (
            "'xxaxx' | trim(chars='x'), ' a ' | trim, 'aaa' | replace('a', 'b', 1), 'aaa' | replace('a', 'b', count=2)",
            "('a', 'a', 'baa', 'bba')",
        ),
        (
            "{'b': 1, 'A': 2} | dictsort(true), {'b': 1, 'A': 2} | dictsort(false, 'value')",
            "([('A', 2), ('b', 1)], [('b', 1), ('A', 2)])",
        ),
        ("{'b': 1, 'a': 2}.keys() | list", "['b', 'a']"),
        ("dict(b=1, a=2).items() | list", "[('b', 1), ('a', 2)]"),
        ("{'b': 1, 'a': 2} | items | list", "[('b', 1), ('a', 2)]"),
        ("{'b': {'d': 1, 'c': 2}, 'a': []} | tojson", r#"{"b": {"d": 1, "c": 2}, "a": []}"#),
        ("{'b': 1, 'a': 2} | tojson(sort_keys=true)", r#"{"a": 2, "b": 1}"#),
        ("[1, {'a': none}] | tojson(separators=(',', ':'))", r#"[1,{"a":null}]"#),
        ("{'a': [1, {}], 'b': []} | tojson(indent=2)", "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": []\n}"),
        ("'\u{E9}\u{1F3BC}\u{7}' | tojson", "\"\u{E9}\u{1F3BC}\\u0007\""),
        ("'\u{E9}\u{1F3BC}' | tojson(ensure_ascii=true)", r#""\u00e9\ud83c\udfbc""#),
        ("[1.0, 1e16, 0.00001, 2.5, -0.0] | tojson", "[1.0, 1e+16, 1e-05, 2.5, -0.0]"),
        ("{1: 2, none: true, false: 1.5} | tojson", r#"{"1": 2, "null": true, "false": 1.5}"#),
        (
            "'a b  c'.rsplit(none, 1), 'a,b,c'.rsplit(',', 1), ' a b '.rsplit()",
            "(['a b', 'c'], ['a,b', 'c'], ['a', 'b'])",
        ),
        ("'a\\r\\nb\\x0bc\\n'.splitlines()", "['a', 'b', 'c']"),
        (
            "'a=b=c'.partition('='), 'a=b=c'.rpartition('='), 'a'.partition('=')",
            "(('a', '=', 'b=c'), ('a=b', '=', 'c'), ('a', '', ''))",
        ),
        ("'abc'.removeprefix('a'), 'abc'.removesuffix('c'), 'abc'.removeprefix('x')", "('bc', 'ab', 'abc')"),
        ("'aBc'.swapcase(), 'aBc'.casefold(), 'Ab Cd'.istitle(), '12'.isdecimal()", "('AbC', 'abc', True, True)"),
        (
            "'7'.zfill(3), '-7'.zfill(3), 'a'.ljust(3, '.'), 'a'.rjust(3), 'ab'.center(5, '*')",
            "('007', '-07', 'a..', '  a', '**ab*')",
        ),
        ("'abcb'.index('b'), 'abcb'.rindex('b'), [3, 4].index(4)", "(1, 3, 1)"),
    ] {
        assert_eq!(render(&format!("{{{{ ({expression}) }}}}"), &[]).unwrap(), expected, "{expression}");
    }
}

#[test]
fn what_the_engine_itself_fails_on_is_refused() {
    let error = render("{{ messages[::-1] | list }}", &[]).unwrap_err().to_string();
    assert!(error.contains("the template engine fails on it"), "{error}");
}

#[test]
fn variables_and_tools_have_the_order_in_which_they_were_written() {
    let conversation = Conversation {
        messages: &[],
        tools: Some(r#"[{"b": 1, "a": {"d": 2, "c": 3}}]"#),
        variables: Some(r#"{"z": [1], "eos_token": "e"}"#),
    };
    let template = ChatTemplate::new("{{ tools | tojson }}{{ z }}{{ bos_token }}{{ eos_token }}", "s", "never");
    let rendered = template.render(&conversation, &now(), &()).unwrap();
    assert_eq!(rendered.text, r#"[{"b": 1, "a": {"d": 2, "c": 3}}][1]se"#);
    let broken = Conversation { tools: Some("{}"), ..conversation };
    assert_eq!(template.render(&broken, &now(), &()), Err(ChatError::Json("tools", "list")));
}
