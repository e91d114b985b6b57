//! The one thing that all fuzzers here are: a function of [`integration_tests::untrusted`] in
//! libFuzzer's hands.
//!
//! A panic that is caught where a library may panic on a broken file is no finding; libFuzzer's own
//! hook would end the process at any.

pub use integration_tests::untrusted;
pub use libfuzzer_sys;

/// A fuzzer of the function with this name.
#[macro_export]
macro_rules! target {
    ($name:ident) => {
        $crate::libfuzzer_sys::fuzz_target!(init: $crate::say_only(), |bytes: &[u8]| $crate::untrusted::$name(bytes));
    };
}

/// Panics are told, and go on unwinding. One that nobody catches ends the process: it is a finding.
pub fn say_only() {
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
}
