//! The wire as it is written: its bytes, kept as files, and how it may grow.
#![cfg(test)]

mod examples;
mod golden;
mod growth;
