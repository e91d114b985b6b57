//! What strangers send, given to what reads it. It is for fuzzing and for nothing else; what must
//! hold of it is asserted here.
use crate::{guard::Guarded, json, openai, reply::Refusal};
use ipc::{Caller, FrontRequest, Message, Request};

/// The body of a request to one of OpenAI's paths. What is understood can be asked of the
/// supervisor; what is not is refused in one sentence of one line.
pub fn body(path: u8, body: &[u8]) {
    let read = json::parse(body).and_then(|map| match path % 3 {
        0 => openai::chat::request(map).map(openai::asked),
        1 => openai::completions::request(map).map(openai::asked),
        _ => openai::embeddings::request(map).map(|asked| Request::Embed(Box::new(asked.into_request()))),
    });
    match read {
        Ok(request) => {
            let asked = FrontRequest { caller: Caller::default(), request };
            let payload = ipc::encode(&asked).unwrap_or_else(|error| panic!("{asked:?} cannot be asked: {error}"));
            assert!(FrontRequest::decode(&payload).is_ok_and(|again| again.caller == asked.caller));
        }
        Err(Refusal { message, .. }) => {
            assert!(message.len() < 1_000 && !message.chars().any(char::is_control), "{message:?}");
        }
    }
}

/// The bytes of a connection: however they are cut, the same is let through.
pub fn stream(step: usize, bytes: &[u8]) {
    let whole = Guarded::<()>::seen_of(bytes, bytes.len().max(1));
    assert_eq!(whole, Guarded::<()>::seen_of(bytes, step.max(1)));
}
