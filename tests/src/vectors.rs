//! The vectors that the scripted bad worker makes: a function of the text, so that tests know them
//! beforehand.

/// The vector of a text, of whole numbers below 1000.
pub fn vector_of(text: &str, dimensions: usize) -> Vec<f32> {
    let mut state = text
        .bytes()
        .fold(14_695_981_039_346_656_037_u64, |state, byte| (state ^ u64::from(byte)).wrapping_mul(1_099_511_628_211));
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f32::from((state >> 33) as u16 % 1000)
    };
    std::iter::repeat_with(next).take(dimensions).collect()
}
