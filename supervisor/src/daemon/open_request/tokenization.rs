//! A text that becomes ids: one job, one answer.
use super::{ProtocolViolation, WorkerReply};
use ipc::{FromWorker, RequestId, Response, TokenizeJob, TokenizeRequest};

/// What is kept of it.
#[derive(Debug)]
pub(crate) struct Tokenization {
    asked: TokenizeRequest,
    ids: Option<Vec<u32>>,
    /// How many ids there are, also when they have gone to the client.
    count: Option<u64>,
}

impl Tokenization {
    pub(super) fn new(asked: TokenizeRequest) -> Tokenization {
        Tokenization { asked, ids: None, count: None }
    }

    pub(super) fn job(&self, request: RequestId) -> TokenizeJob {
        TokenizeJob { request, text: self.asked.text.clone(), special: self.asked.special }
    }

    /// Most ids that the text can have: one for each byte, and a few around them.
    fn most_ids(&self) -> usize {
        self.asked.text.len() + TokenizeRequest::IDS_AROUND
    }

    /// Whether these can be the text's ids.
    fn may_be(&self, ids: &[u32]) -> bool {
        ids.len() <= self.most_ids() && ids.iter().all(|id| *id < TokenizeRequest::IDS_BELOW)
    }

    /// Most bytes that the answer can have.
    pub(super) fn most_bytes(&self) -> usize {
        self.most_ids() * TokenizeRequest::ID_BYTES
    }

    pub(super) fn hear(&mut self, message: FromWorker) -> Result<WorkerReply, ProtocolViolation> {
        match message {
            FromWorker::Tokenized { ids, .. } if self.may_be(&ids) => {
                self.count = Some(ids.len() as u64);
                self.ids = Some(ids);
                Ok(WorkerReply::Done(Vec::new()))
            }
            _ => Err(ProtocolViolation),
        }
    }

    /// How many ids there are.
    pub(super) fn count(&self) -> Option<u64> {
        self.count
    }

    pub(super) fn answer(&mut self) -> Option<Response> {
        self.ids.take().map(|ids| Response::Tokenized { ids })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_ids_are_believed_than_a_text_can_have() {
        let asked = TokenizeRequest { model: None, text: "four".into(), special: true };
        let tokenized = |count| FromWorker::Tokenized { request: RequestId(1), ids: vec![7; count] };
        let mut tokenization = Tokenization::new(asked);
        assert!(tokenization.hear(tokenized(21)).is_err());
        assert!(tokenization.hear(FromWorker::Embedded { request: RequestId(1), tokens: 4 }).is_err());
        let absurd = FromWorker::Tokenized { request: RequestId(1), ids: vec![TokenizeRequest::IDS_BELOW] };
        assert!(tokenization.hear(absurd).is_err());
        assert!(tokenization.answer().is_none());
        assert!(matches!(tokenization.hear(tokenized(20)), Ok(WorkerReply::Done(pieces)) if pieces.is_empty()));
        assert_eq!(tokenization.answer(), Some(Response::Tokenized { ids: vec![7; 20] }));
    }
}
