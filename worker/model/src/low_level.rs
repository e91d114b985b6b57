//! What Rust cannot check: an instruction set found at run time, and pages given back to the
//! system. The only unsafe code of this package.
#![expect(unsafe_code, reason = "this module exists to hold it")]

mod original;

pub(crate) use original::Original;

/// Calls a function that is compiled for AVX-512 with VNNI; `None` if the processor has not got it.
///
/// `function` must be unsafe for no other reason than its `#[target_feature(enable =
/// "avx512f,avx512vnni")]`.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn with_vnni<A, R>(function: unsafe fn(A) -> R, arguments: A) -> Option<R> {
    let can = std::is_x86_feature_detected!("avx512f") && std::is_x86_feature_detected!("avx512vnni");
    // SAFETY: the processor has the features that the function is compiled for, and it asks for
    // nothing else.
    can.then(|| unsafe { function(arguments) })
}
