//! What fuzzers begin with and what they have found, again: nothing may panic, take long, or take
//! memory out of proportion.
//!
//! The fuzzers themselves are in `tests/fuzz`; these are their functions and files, without
//! instrumentation.
use integration_tests::untrusted::{TARGETS, Target};
use ipc::ModelSpec;
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use system::foreign_text::chain;
use worker::loaded_model::load_embedder;
use worker::loaded_model::load_generator;
use worker::loaded_model::warm;

/// Most files are read in a millisecond; what takes so long has no bound.
const LIMIT: Duration = Duration::from_secs(20);
/// Far more than any of them takes, and far less than what broken files ask for.
const MEMORY: u64 = 1 << 30;

fn folder(kind: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(kind).join(target)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// The most memory that this process has had in use, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_else(|error| panic!("{error}"));
    system::proc::bytes(&status, "VmHWM:").unwrap_or_else(|| panic!("no VmHWM: {status}"))
}

/// Gives the target each file, and beginnings and damaged copies of it.
fn replay(target: Target, path: &Path) {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let began = Instant::now();
    target(&bytes);
    for cut in [1, bytes.len() / 2, bytes.len().saturating_sub(1)] {
        target(&bytes[..cut.min(bytes.len())]);
    }
    for part in 1..8 {
        let mut damaged = bytes.clone();
        if let Some(byte) = damaged.get_mut(bytes.len() * part / 8) {
            *byte ^= 0x80;
        }
        target(&damaged);
    }
    assert!(began.elapsed() < LIMIT, "{} takes {:?}", path.display(), began.elapsed());
}

#[test]
fn what_is_known_of_untrusted_bytes_does_no_harm() {
    for (name, target) in TARGETS {
        let seeds = files(&folder("seeds", name));
        assert!(!seeds.is_empty(), "{name} has no seeds");
        target(&[]);
        for path in seeds.iter().chain(&files(&folder("found", name))) {
            println!("{}", path.display());
            replay(target, path);
            assert!(peak() < MEMORY, "{} takes {} bytes", path.display(), peak());
        }
    }
}

#[test]
fn each_fuzzer_has_seeds_and_each_folder_a_fuzzer() {
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    for kind in ["seeds", "found"] {
        for path in files(&folder(kind, "")) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            assert!(names.contains(&name), "{} is nobody's", path.display());
        }
    }
    for name in names {
        let fuzzer = folder("targets", "").join(format!("{name}.rs"));
        assert!(fuzzer.is_file(), "{} is missing", fuzzer.display());
    }
}

/// Broken seeds would lead fuzzers nowhere.
#[test]
fn seeds_of_files_are_whole() {
    for path in files(&folder("seeds", "model")) {
        let spec = ModelSpec::new("seed", path.to_string_lossy());
        let mut model = load_generator(&spec).unwrap_or_else(|error| panic!("{}", chain(&error)));
        warm(&mut model).unwrap_or_else(|error| panic!("{}: {}", path.display(), chain(&error)));
    }
    for path in files(&folder("seeds", "vocabulary")) {
        let tokenizer = worker::load_tokenizer(&path).unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert!(tokenizer.encode("a", true).is_ok_and(|ids| !ids.is_empty()), "{}", path.display());
    }
    let spec = ModelSpec::new("seed", folder("folder", "").to_string_lossy());
    let mut bert = load_embedder(&spec).unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert!(bert.warm().is_ok());
}
