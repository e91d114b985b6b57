//! What a model is said to need before its weights are read, against what loading it takes, for
//! each element type.
//!
//! Each case has a process of its own, so that nothing but the model is in its memory.
use crate::{
    common::in_own_process,
    families::{file, plan::Plan},
};
use candle_core::quantized::GgmlDType;
use ipc::ModelSpec;
use std::{env, fs, path::Path};
use system::{foreign_text::chain, proc};
use worker::loaded_model::LoadedModel;
use worker::opening;

/// Names the file for the child.
const FILE: &str = "FOOTPRINT_FILE";
/// The element type of each matrix.
type Kinds = fn(&str) -> GgmlDType;
const TYPES: [(&str, Kinds); 9] = [
    ("F32", |_| GgmlDType::F32),
    ("F16", |_| GgmlDType::F16),
    ("BF16", |_| GgmlDType::BF16),
    ("Q4_0", |_| GgmlDType::Q4_0),
    ("Q5_0", |_| GgmlDType::Q5_0),
    ("Q8_0", |_| GgmlDType::Q8_0),
    ("Q4_K", |_| GgmlDType::Q4K),
    ("Q5_K", |_| GgmlDType::Q5K),
    ("Q6_K", |_| GgmlDType::Q6K),
];

#[test]
fn a_model_takes_what_it_was_said_to_need() {
    if let Some(path) = env::var_os(FILE) {
        return child(path.as_ref());
    }
    let folder = tempfile::tempdir().unwrap();
    for tied in [false, true] {
        for (name, kind) in TYPES {
            let plan = Plan {
                width: 512,
                feed_forward: 2048,
                tokens: 8192,
                head: 64,
                turned: 64,
                tied,
                kind,
                ..Plan::llama()
            };
            let path = folder.path().join("model.gguf");
            fs::write(&path, file::written(&plan, 1).0).unwrap();
            // What is read and let go again goes back to the system at once, as a template sees to
            // when it has loaded.
            let variables = [(FILE, path.to_str().unwrap()), ("MALLOC_MMAP_THRESHOLD_", "65536")];
            let text = in_own_process(&variables).unwrap();
            let numbers = text.lines().find_map(|line| line.split_once("taken and needed: ")).unwrap().1;
            let (taken, needed) = numbers.split_once(' ').unwrap();
            let (taken, needed): (f64, f64) = (taken.parse().unwrap(), needed.parse().unwrap());
            println!("{name}, tied: {tied}: {taken} taken, {needed} needed");
            // Beside the weights there are the vocabulary and what the allocator keeps.
            assert!((needed..needed + 2e6).contains(&taken), "{name}, tied: {tied}: {taken} {needed}");
        }
    }
}

fn child(path: &Path) {
    let before = anonymous();
    let mut needed = 0;
    let spec = ModelSpec::new("test", path.to_str().unwrap());
    let source = opening::open(&spec).unwrap_or_else(|error| panic!("{}", chain(&error)));
    let loaded = LoadedModel::load(source, &spec, &mut |needs| {
        needed = needs.weights;
        true
    });
    let mut loaded = loaded.unwrap_or_else(|error| panic!("{}", chain(&error)));
    loaded.warm().unwrap();
    println!("taken and needed: {} {needed}", anonymous() - before);
}

fn anonymous() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    proc::bytes(&status, "RssAnon:").unwrap()
}
