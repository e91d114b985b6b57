//! The supervisor's wire protocol, and a client library that speaks it. **This page is the
//! specification.**
//!
//! | between | transport | there | back | payload |
//! |---|---|---|---|---|
//! | client and supervisor | Unix stream socket, mode 0660 | [`Request`] | [`Response`] | JSON |
//! | supervisor and worker | stream socketpair | [`ToWorker`] | [`FromWorker`] | bincode |
//! | supervisor and template | seqpacket socketpair | [`ToTemplate`] | [`FromTemplate`] | bincode |
//! | worker and supervisor | one shared page | [`board`] | [`board`] | words |
//!
//! The first of these is for everybody, and [its growth](#growth) has rules. The others are
//! private: both ends are one executable, so their messages have no versions and may change at any
//! time.
//!
//! # Frames
//!
//! Every message travels in one frame. The eight bytes of the header never change, in any version,
//! so that each side can always say which version the other one speaks:
//!
//! ```text
//!  0      2         4              8
//! +------+---------+--------------+---------------------+
//! | "SV" | version | payload size | payload             |
//! +------+---------+--------------+---------------------+
//!   2 B    u16 LE    u32 LE         one message
//! ```
//!
//! The version is that of the client conversation, [`VERSION`], in private frames too. A payload
//! has at most [`MAX_REQUEST`] bytes from a client, [`MAX_CONTROL`] to and from a template, and
//! [`MAX_FRAME`] elsewhere. A longer one is refused by its header, before any of it is read. Bytes
//! left over after the message are an error. On a seqpacket socket a frame is one packet.
//!
//! # The client conversation
//!
//! A client sends a request and reads responses until the request has ended. Then it may send the
//! next one.
//!
//! Each message is one JSON text in UTF-8: an object with one field, whose name is the message's
//! kind; or a string, if the kind says it all. White space and the order of fields mean nothing. A
//! field marked *optional* may be left out or be null, and has its default then.
//!
//! ## Generate
//!
//! ```json
//! {"generate": {"messages": [{"role": "user", "content": "Spell cloud."}]}}
//! {"generate": {"prompt": "Once upon a time"}}
//! ```
//!
//! The fields are those of OpenAI's API where it has them.
//!
//! | field | value | default |
//! |---|---|---|
//! | `model` | string: the model's name | the only one that generates |
//! | `prompt` | string: a text to continue as it is | this or `messages` |
//! | `messages` | list: a conversation for the model's chat template | this or `prompt` |
//! | `max_tokens` | whole number from 1: most tokens of the answer | what the context holds |
//! | `temperature` | 0 to 100: divides the logits; 0 takes the likeliest token | 0 |
//! | `top_p` | 0 to 1: only the likeliest tokens of this probability together | 1, all |
//! | `top_k` | whole number: only so many of the likeliest tokens | 0, all |
//! | `min_p` | 0 to 1: only tokens of at least this share of the likeliest one's probability | 0, all |
//! | `seed` | whole number below 2^64: the same one gives the same answer | a new one |
//! | `repeat_penalty` | 0.01 to 100: lowers tokens among the last 64 | 1, none |
//! | `frequency_penalty` | -100 to 100: lowers a token for each time it was generated | 0, none |
//! | `presence_penalty` | -100 to 100: lowers each token that was generated | 0, none |
//! | `stop` | list of at most 16 strings of 1 to 256 bytes, before which the answer ends | none |
//! | `ignore_end` | true or false: goes on when the model ends its answer | false |
//! | `template_vars` | object: what the chat template is told besides `messages` | none |
//!
//! Special tokens in a `prompt` are read as such. `ignore_end` is for measurements.
//!
//! A message has OpenAI's shape:
//!
//! ```json
//! {"generate": {"messages": [
//!     {"role": "user", "content": [
//!         {"type": "text", "text": "What is this?"},
//!         {"type": "image_url", "image_url":
//!             {"url": "data:image/png;base64,AA==", "detail": "low"}},
//!         {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
//!         {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
//!         {"type": "refusal", "refusal": "I cannot say."}
//!     ], "name": "Ada"},
//!     {"role": "assistant", "content": null, "tool_calls": [
//!         {"id": "call-1", "type": "function",
//!          "function": {"name": "weather", "arguments": "{\"city\":\"Bonn\"}"}}
//!     ], "reasoning_content": "I must look."},
//!     {"role": "tool", "content": "rain", "tool_call_id": "call-1"}
//! ]}}
//! ```
//!
//! `role` is `system`, `user`, `assistant` or `tool`. `content` is a string, null, or a list of
//! parts. All else is *optional*; `refusal`, `audio`, `function_call` and `annotations`, which
//! OpenAI's libraries write of an answer, may be there as null or empty. **Served today** are the first three roles, with content that is
//! a string or a list of one part of the type `text`. The rest is understood and refused in a
//! sentence that names it, never left out in silence.
//!
//! The answer begins when the request has been admitted:
//!
//! ```json
//! {"accepted": {"request": 17, "model": "pocket"}}
//! ```
//!
//! `request` is the number that the status and the log call it by (`req-17`). Then there is one
//! piece for each token:
//!
//! ```json
//! {"piece": {"text": "\u00e9t\u00e9", "token": 1535}}
//! {"piece": {"text": "", "token": 195}}
//! ```
//!
//! The front, the supervisor's own process for HTTP, is told before the first piece that a worker has
//! read the prompt, which then fits. Others are not.
//!
//! ```json
//! {"started": {"prompt_tokens": 251}}
//! ```
//!
//! A piece never splits a character, so its text is empty while a character or a possible stop
//! string is incomplete. The answer ends with exactly one of `done` and `failed`:
//!
//! ```json
//! {"done": {"text": "held", "finish": "stop", "prompt_tokens": 251, "completion_tokens": 65536,
//!     "attempts": 2, "seed": 18446744073709551615, "wait_us": 1001, "first_piece_us": 20002,
//!     "last_piece_us": 5000000002, "total_us": 5000000003}}
//! ```
//!
//! The texts of the pieces, and after them that of `done`, are the answer. `finish` is `stop` or
//! `length`. `attempts` is 1, and 1 more for each worker that died. Times are in microseconds from
//! the request's arrival: to its first dispatch, its first and its last token by the worker's clock,
//! and its end. A seed may need all 64 bits, which JavaScript's numbers do not have.
//!
//! ## Failed
//!
//! ```json
//! {"failed": {"kind": "busy", "message": "reason 6", "retry_after_ms": 6000}}
//! {"failed": {"kind": "bad_request", "message": "reason 1"}}
//! ```
//!
//! `kind` is for programs: one of [`FailureKind`]'s variants in snake case. `message` is one
//! sentence for people. `retry_after_ms` is there if it may be worth trying again after so many
//! milliseconds.
//!
//! ## Embed
//!
//! ```json
//! {"embed": {"model": "minilm", "texts": ["The weather is lovely today.", ""], "role": "query"}}
//! ```
//!
//! `texts` is a list of 1 to 65,536 strings; `model` and `role` are *optional*. `role` is `plain`,
//! the default, or `query` for texts to search with, or `document` for texts to be found; some
//! models want another prefix before each. There is an `accepted`, then `vectors` until each text
//! has its own, then `embedded`; or `failed` at any point.
//!
//! ```json
//! {"vectors": {"first": 2, "vectors": ["AAAAPwAAgL4=", "AAAAPgAAgD8="]}}
//! {"embedded": {"texts": 3, "tokens": 27, "parts": 2, "attempts": 4,
//!     "wait_us": 55, "total_us": 66000}}
//! ```
//!
//! `first` is the index of the first of these texts; vectors come in order and without gaps. A
//! vector is the base64 (the standard alphabet, with padding) of its numbers, 32-bit floats in
//! little-endian order: these are 0.5, -0.25 and 0.125, 1.
//!
//! ## Tokenize
//!
//! ```json
//! {"tokenize": {"text": "<|im_end|> is special", "special": true}}
//! {"tokenized": {"ids": [1, 250, 65536]}}
//! ```
//!
//! `text` has at most [`TokenizeRequest::LONGEST`] bytes, so that its ids fit into one frame.
//! `model` and `special` are *optional*. With `special`, special tokens in the text are read as
//! such, and what the model's file wants before and after a text is added. The answer is
//! `accepted`, then `tokenized` or `failed`.
//!
//! ## Status
//!
//! ```json
//! "status"
//! ```
//!
//! The answer is one `status`, whose value is an object of the shape of [`status::Status`]: the
//! document that `supervisor status --json` prints.
//!
//! ## Control
//!
//! Only root and the daemon's own user may. The answer is any number of `notice`, a line for people
//! each, then `controlled` or `failed`. After `stop` the last of them comes when the daemon is
//! about to end.
//!
//! ```json
//! {"control": "reload"}
//! {"control": "drain"}
//! {"control": "end_drain"}
//! {"control": {"stop": {"now": true}}}
//! {"control": {"restart": {"model": "pocket", "slot": 300}}}
//! {"notice": "pocket: unchanged"}
//! "controlled"
//! ```
//!
//! [`Control`] says what each does. The fields of `stop` and `restart` are *optional*.
//!
//! ## Errors and ends
//!
//! A client that closes its connection cancels its request. One that only shuts its sending side
//! down does not: it still gets its answer. A frame whose payload is no request gets `failed` with
//! the kind `bad_request`, and the connection goes on. A frame that is too long, of another version
//! or no frame at all gets `failed` with the kind `protocol`, and the connection is closed, because
//! nobody can know where the next frame begins.
//!
//! The daemon may close a connection that carries no request at any time: when it stops, or when
//! others want the place of one that has long carried none. A client that finds it closed before
//! the first response may ask again on another connection.
//!
//! A request takes at most 9 bytes of memory for each byte of its payload, and twice that while a
//! list of small elements grows. JSON may nest as deeply as it likes without harm.
//!
//! # The front's conversation
//!
//! The front has a control socket, a seqpacket socketpair, on which private messages go
//! ([`ToFront`], [`FromFront`]), and connections that the supervisor makes when the front asks for
//! them there. On these the client conversation is spoken, but each request comes in an envelope
//! that says who asks ([`FrontRequest`]). The supervisor believes that there and nowhere else. It
//! takes no `control` there.
//!
//! # Growth
//!
//! Fields and kinds are added without a new [`VERSION`]; any other change increments it.
//!
//! * **A daemon refuses what it does not know.** A request's unknown kind, field or value is
//!   refused by its name. It is never left out in silence, for then the answer would be to another
//!   question. So a client writes only the fields that differ from their defaults, and a daemon
//!   that is older than a field refuses it only where it matters.
//! * **A client leaves out what it does not know.** It skips a response's unknown fields, and reads
//!   on after a response of an unknown kind. An unknown kind of failure is [`FailureKind::Other`],
//!   and its message is still shown; an unknown `finish` is [`FinishReason::Other`].
//! * A message that is a string stays one; a kind that needs fields is a new kind.
//!
//! A frame of every version is kept under `tests/golden`. It must be understood for ever or be
//! refused by its version. Version 1 had a bincode payload and is refused.
//!
//! # A worker's conversation
//!
//! A worker reads one [`ToWorker::Go`], answers [`FromWorker::Hello`], and then serves
//! [`ToWorker::Run`] jobs one at a time: one [`FromWorker::Prompt`] (for a fresh job), one
//! [`FromWorker::Token`] for each token, one [`FromWorker::Done`] or [`FromWorker::Failed`]. A
//! worker whose request has a cache gets it as a descriptor with the first byte of that message. To
//! [`ToWorker::Embed`] it answers [`FromWorker::Vectors`] until each text has its vector, then
//! [`FromWorker::Embedded`]; to [`ToWorker::Tokenize`] one [`FromWorker::Tokenized`]. End of file
//! on its socket tells it to exit.
//!
//! # A template's conversation
//!
//! A template reads one [`ToTemplate::Load`], says what the model [needs](FromTemplate::Needs),
//! waits for [`ToTemplate::Admit`], and answers [`FromTemplate::Ready`] or, at any of these steps,
//! [`FromTemplate::LoadFailed`]. Then it answers each [`ToTemplate::Fork`], which carries three
//! descriptors (the worker's socket, board and stderr, in this order), with
//! [`FromTemplate::Forked`] or [`FromTemplate::ForkFailed`]. End of file tells it to exit.
//!
//! # Features
//!
//! None is on by default; messages, frames and the blocking end are always there.
//!
//! | feature | what it adds |
//! |---|---|
//! | `client` | `Client`, the blocking client library |
//! | `tokio` | `AsyncEnd`, and with `client` also `AsyncClient` |
//!
//! `examples/` has a client of either kind, and one in Python that needs nothing but its standard
//! library.
#![forbid(unsafe_code)]

pub mod board;
mod client;
mod codec;
mod end;
mod frame;
mod id;
mod private;
mod source;
pub mod status;

#[cfg(feature = "client")]
pub use client::{Answer, Client, ClientError, SYSTEM_SOCKET, default_socket};
#[cfg(all(feature = "client", feature = "tokio"))]
pub use client::{AsyncAnswer, AsyncClient};
pub use client::{
    Caller, ChatMessage, Content, ContentPart, Control, Done, EmbedRequest, Embedded, Failure, FailureKind,
    FinishReason, FrontRequest, GenerateRequest, InvalidRequest, MessageJson, Prompt, Request, Response, Role,
    Sampling, TemplateVars, TextRole, TokenizeRequest, ToolCall, check_template_var, json_length,
};
pub use codec::{CodecError, Message, ShapeError, decode, encode};
#[cfg(feature = "tokio")]
pub use end::AsyncEnd;
pub use end::{BlockingEnd, EndError, to_frame};
pub use frame::{FrameBuffer, FrameError, HEADER, MAX_CONTROL, MAX_FRAME, MAX_REQUEST, VERSION, frame, packet};
pub use id::{Life, RequestId};
pub use private::{
    EmbedJob, Forked, FromFront, FromTemplate, FromWorker, FrontConfig, FrontCounts, Go, Job, JobPrompt, Key, Listen,
    MAX_FRONT_CONTROL, ModelInfo, ModelKind, ModelSpec, Needs, Precision, Sandbox, ToFront, ToTemplate, ToWorker,
    TokenCounts, TokenizeJob,
};
pub use source::{MOST_PARTS, ModelSource, split_parts};
