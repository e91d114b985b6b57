//! Bodies of requests, read within limits: of one, of all together, and of time.
use crate::reply::{Code, Refusal};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{HeaderMap, body::Incoming, header};
use std::{sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a body may take to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of all bodies that are held at once.
const ALL: usize = 64 << 20;

/// What bodies may take.
#[derive(Debug)]
pub(crate) struct Bodies {
    most: u64,
    room: Arc<Semaphore>,
}

/// A body, and the room that it takes.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl Bodies {
    pub(crate) fn new(most: u64) -> Bodies {
        Bodies { most, room: Arc::new(Semaphore::new(ALL)) }
    }

    /// Refuses by a request's head a body that would not be read.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let encoding = headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes());
        if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case(b"identity")) {
            let message = "the body is encoded; send it as it is, without a Content-Encoding";
            return Err(Refusal::new(Code::Encoded, message).closing());
        }
        let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        match length.and_then(|length| length.parse::<u64>().ok()) {
            Some(length) if length > self.most => Err(self.too_large()),
            _ => Ok(()),
        }
    }

    fn too_large(&self) -> Refusal {
        let message = format!("the body has more than the {} bytes that it may have (max_body in [http])", self.most);
        Refusal::new(Code::TooLarge, message).closing()
    }

    /// Reads all of a body.
    pub(crate) async fn read(&self, body: Incoming) -> Result<Held, Refusal> {
        let read = tokio::time::timeout(PATIENCE, self.gather(body));
        read.await.unwrap_or_else(|_| {
            let message = format!("the body has not come within {} seconds", PATIENCE.as_secs());
            Err(Refusal::new(Code::TooSlow, message).closing())
        })
    }

    async fn gather(&self, mut body: Incoming) -> Result<Held, Refusal> {
        let mut held: Option<Held> = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| {
                Refusal::new(Code::BadRequest, "the body ends before its end, or is not what its head says").closing()
            })?;
            let Ok(data) = frame.into_data() else { continue };
            let room = self.room_for(&data)?;
            match &mut held {
                None => held = Some(Held { bytes: data.to_vec(), _room: room }),
                Some(held) => {
                    if (held.bytes.len() + data.len()) as u64 > self.most {
                        return Err(self.too_large());
                    }
                    held.bytes.extend_from_slice(&data);
                    held._room.merge(room);
                }
            }
            if held.as_ref().is_some_and(|held| held.bytes.len() as u64 > self.most) {
                return Err(self.too_large());
            }
        }
        held.ok_or_else(|| Refusal::new(Code::BadRequest, "there is no body; a JSON object is wanted"))
    }

    /// Room for a piece. If there is none, others hold it, for as long as it takes to parse theirs.
    fn room_for(&self, data: &Bytes) -> Result<OwnedSemaphorePermit, Refusal> {
        let size = u32::try_from(data.len()).unwrap_or(u32::MAX);
        Arc::clone(&self.room).try_acquire_many_owned(size).map_err(|_| {
            let refusal = Refusal::new(Code::Unavailable, "too many large requests come at once; try again");
            Refusal { retry_after: Some(Duration::from_secs(1)), ..refusal }.closing()
        })
    }
}
