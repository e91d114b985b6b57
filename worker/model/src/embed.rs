//! Models that turn texts into vectors.
pub mod bert;
