//! The model side without a supervisor: vocabularies, engines, caches, and how a job goes.
//!
//! One executable for all. What counts or measures what its process has runs in one of its own.
#![cfg(test)]

#[path = "bert/main.rs"]
mod bert;
mod cache;
mod chat_templates;
mod common;
mod control_tokens;
#[path = "families/main.rs"]
mod families;
mod files;
mod footprint;
mod generate;
mod golden;
mod idle_threads;
mod load;
mod memory;
mod minilm;
mod real_models;
mod resume;
mod threads;
mod tokenizers;
