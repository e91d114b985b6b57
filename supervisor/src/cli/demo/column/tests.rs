use super::*;
use crate::cli::demo::{ask::Event, task::TASKS};

#[test]
fn no_line_is_too_long_and_no_letter_is_lost() {
    assert_eq!(lines("one two three", 7), ["one two", "three"]);
    assert_eq!(lines("a harbour", 4), ["a", "harb", "our"]);
    assert_eq!(lines("", 4), [""]);
    for width in 0..40 {
        let text = "Long ago, in a harbour, lived a f\u{f6}x called Wren.";
        let lines = lines(text, width);
        assert!(lines.iter().all(|line| line.chars().count() <= width.max(1)), "{lines:?}");
        assert_eq!(lines.concat().replace(' ', ""), text.replace(' ', ""));
    }
}

#[test]
fn what_is_cut_says_so() {
    assert_eq!(
        (cut("harbour", 7), cut("harbour", 6), cut("harbour", 2)),
        ("harbour".into(), "har...".into(), "..".into())
    );
}

#[test]
fn the_kill_is_shown_where_it_happened() {
    let mut conversation = Conversation::new(&TASKS[0]);
    let events = [
        Event::Accepted(ipc::RequestId(1)),
        Event::Served(71),
        Event::Piece("Long ago".into()),
        Event::Stopped,
        Event::Killed,
        Event::Served(72),
        Event::Piece(", in".into()),
    ];
    events.into_iter().for_each(|event| conversation.take(event));
    let shown = |height| -> Vec<String> {
        column(&conversation, 40, height).into_iter().map(|line| line.text).skip(3).collect()
    };
    let all = ["Long ago", "xxx kill -9 71: dead", ">>> worker 72 goes on:", ", in"];
    assert_eq!(shown(20), all);
    assert_eq!(shown(5), all[2..]);
    assert_eq!(shown(0).len(), 0);
    assert_eq!(conversation.text(), "Long ago, in");
}
