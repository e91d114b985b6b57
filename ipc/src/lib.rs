//! The supervisor's wire protocol, and a client library that speaks it. **This page is the specification.**
//!
//! Four conversations use it, all on one machine:
//!
//! | between | transport | there | back |
//! |---|---|---|---|
//! | client and supervisor | Unix stream socket, mode 0660 | [`Request`] | [`Response`] |
//! | supervisor and worker | Unix stream socketpair | [`ToWorker`] | [`FromWorker`] |
//! | supervisor and template | Unix seqpacket socketpair | [`ToTemplate`] | [`FromTemplate`] |
//! | worker and supervisor | one shared page | [`board`] | [`board`] |
//!
//! # Frames
//!
//! Every message travels in one frame. The eight bytes of the header never change, in any version, so that each side can
//! always say which version the other one speaks:
//!
//! ```text
//!  0      2         4              8
//! +------+---------+--------------+---------------------+
//! | "SV" | version | payload size | payload             |
//! +------+---------+--------------+---------------------+
//!   2 B    u16 LE    u32 LE         bincode 2, standard configuration
//! ```
//!
//! The payload is one value of the conversation's type, in [bincode](https://docs.rs/bincode/2.0.1)'s standard
//! configuration: variable-length little-endian integers, enum variants by their position from 0. A payload has at most
//! [`MAX_REQUEST`] bytes from a client, [`MAX_CONTROL`] to and from a template, and [`MAX_FRAME`] elsewhere; a longer one is
//! refused by its header, before any of it is read. Bytes left over after the value are an error.
//!
//! On a seqpacket socket a frame is one packet.
//!
//! # A client's conversation
//!
//! A client sends a [`Request`] and reads [`Response`]s until the request has ended; then it may send the next one.
//!
//! * [`Request::Generate`]: [`Response::Accepted`] when the request has been admitted, then one [`Response::Piece`] for each
//!   token, then exactly one of [`Response::Done`] and [`Response::Failed`]. The pieces and, after them,
//!   the text of `Done` are the answer; a piece never splits a character, so it is empty while a character or a possible stop string
//!   is incomplete.
//! * [`Request::Status`]: one [`Response::Status`], a JSON document of the shape of [`status::Status`].
//! * [`Request::Embed`]: [`Response::Accepted`], then [`Response::Vectors`] until each text has its vector, then
//!   [`Response::Embedded`]; or [`Response::Failed`] at any point.
//! * [`Request::Tokenize`]: [`Response::Accepted`], then [`Response::Tokenized`] or [`Response::Failed`].
//! * [`Request::Control`], from root or the daemon's own user: any number of [`Response::Notice`], then [`Response::Controlled`] or
//!   [`Response::Failed`]. After [`Control::Stop`] the last of them comes when the daemon is about to end.
//!
//! The daemon may close a connection that carries no request at any time: when it stops, or when others want the place of one that
//! has long carried none. A client that finds it closed before the first response may ask again on another connection.
//!
//! A client that closes its connection cancels its request. One that only shuts its sending side down does not: it still
//! gets its answer. A frame whose payload does not decode gets [`Response::Failed`] and the connection goes on; a frame that is too
//! long, of another version or no frame at all gets [`Response::Failed`] and the connection is closed, because nobody can
//! know where the next frame begins.
//!
//! # A worker's conversation
//!
//! A worker reads one [`ToWorker::Go`], answers [`FromWorker::Hello`], and then serves [`ToWorker::Run`] jobs one at a time: one
//! [`FromWorker::Prompt`] (for a fresh job), one [`FromWorker::Token`] for each token, one [`FromWorker::Done`] or
//! [`FromWorker::Failed`]. A worker whose request has a cache gets it as a descriptor with the first byte of that message. To
//! [`ToWorker::Embed`] it answers [`FromWorker::Vectors`] until each text has its vector, then [`FromWorker::Embedded`]; to
//! [`ToWorker::Tokenize`] one [`FromWorker::Tokenized`]. End of file on its socket tells it to exit.
//!
//! # A template's conversation
//!
//! A template reads one [`ToTemplate::Load`], says what the model [needs](FromTemplate::Needs), waits for [`ToTemplate::Admit`], and
//! answers [`FromTemplate::Ready`] or, at any of these steps, [`FromTemplate::LoadFailed`]; then it answers
//! each [`ToTemplate::Fork`], which carries three descriptors (the worker's socket, board and stderr, in this order), with
//! [`FromTemplate::Forked`] or [`FromTemplate::ForkFailed`]. End of file tells it to exit.
//!
//! # Versions
//!
//! [`VERSION`] is the protocol's version. New variants and new messages are added at the end; any other change increments it. A
//! frame of every released version is kept under `tests/golden` and must decode for ever or be refused by its version.
#![forbid(unsafe_code)]

pub mod board;
mod client;
mod codec;
mod control;
mod end;
mod frame;
mod id;
mod request;
mod response;
mod source;
pub mod status;
mod work;

pub use client::{Answer, AsyncAnswer, AsyncClient, Client, ClientError, SYSTEM_SOCKET, default_socket};
pub use codec::{CodecError, decode, encode};
pub use control::{Forked, FromTemplate, ModelInfo, ModelKind, ModelSpec, Needs, Precision, ToTemplate};
pub use end::{AsyncEnd, BlockingEnd, EndError};
pub use frame::{FrameBuffer, FrameError, HEADER, MAX_CONTROL, MAX_FRAME, MAX_REQUEST, VERSION, frame, packet};
pub use id::{Life, RequestId};
pub use request::{
    ChatMessage, Control, EmbedRequest, GenerateRequest, InvalidRequest, Prompt, Request, Role, Sampling, TextRole,
    TokenizeRequest,
};
pub use response::{Done, Embedded, Failure, FailureKind, FinishReason, Response};
pub use source::ModelSource;
pub use work::{EmbedJob, FromWorker, Go, Job, JobPrompt, Sandbox, ToWorker, TokenCounts, TokenizeJob};
