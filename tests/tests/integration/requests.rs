//! What becomes of requests: their answers, the order in which they are served, what they may use,
//! and who sees what of them.
mod answers;
mod caches;
mod cancel;
mod embeddings;
mod queue;
mod real_models;
mod status_while_busy;
mod threads;
