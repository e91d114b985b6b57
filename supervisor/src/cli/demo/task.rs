//! What is asked: eight tasks, each with a secret that its answer must contain, and no other.
use ipc::{ChatMessage, GenerateRequest, Prompt, Role};

/// Something that only this request was told, and the question that brings it out again.
pub(super) struct Task {
    pub(super) secret: &'static str,
    messages: &'static [(Role, &'static str)],
}

impl Task {
    /// The last thing that was said.
    pub(super) fn question(&self) -> &'static str {
        self.messages.last().map_or("", |(_, content)| content)
    }
}

/// The first two have long answers, so that they can be watched, and the first one interrupted.
pub(super) static TASKS: [Task; 8] = [
    Task { secret: "Wren", messages: &[(Role::User, "Tell me a story about a fox named Wren.")] },
    Task { secret: "Rosa", messages: &[(Role::User, "Tell me a story about a cat named Rosa.")] },
    Task { secret: "B8CV3", messages: &[(Role::User, "My code is B8CV3. The lamp is brown. What is my code?")] },
    Task { secret: "RK42P", messages: &[(Role::User, "My password is RK42P. What is my password?")] },
    Task { secret: "T7HNX", messages: &[(Role::User, "The key is T7HNX. It is Monday today. Tell me the key.")] },
    Task {
        secret: "W9QDE",
        messages: &[
            (Role::User, "Remember this: the token is W9QDE."),
            (Role::Assistant, "I will remember that."),
            (Role::User, "What is the token?"),
        ],
    },
    Task { secret: "violin", messages: &[(Role::User, "The secret word is violin. Repeat the secret word.")] },
    Task {
        secret: "M3ZKA",
        messages: &[(Role::User, "We eat soup at noon. My room number is M3ZKA. What is my room number?")],
    },
];

/// The request that asks it.
pub(super) fn request(task: &Task) -> GenerateRequest {
    let messages = task.messages.iter().map(|(role, content)| ChatMessage::new(*role, *content));
    GenerateRequest::new(Prompt::Chat(messages.collect()))
}

/// An answer must hold its own secret and nobody else's.
pub(super) fn is_right(number: usize, text: &str) -> bool {
    TASKS.iter().enumerate().all(|(other, task)| text.contains(task.secret) == (other == number))
}
