//! What a model's weights take in memory, known from the header alone.
//!
//! The tensor library packs a matrix when it is multiplied, and the original is let go where
//! nothing computes with it any more (see `weights`). Which types it packs, and how large, is its
//! own affair and is written down here; a test compares it with what loading really takes.
use super::{
    hparams::{EMBEDDING, OUTPUT},
    rows::{kind_in_memory, kind_on_this_processor},
};
use crate::{
    gguf::{Header, dtype},
    kernels::Kernels,
};
use candle_core::quantized::GgmlDType;

/// Bytes that the weights of the file with this header take.
pub(super) fn footprint(header: &Header) -> u64 {
    let kernels = Kernels::new();
    let bytes = header.tensors.iter().filter_map(|(name, tensor)| {
        let columns = usize::try_from(*tensor.dimensions.first()?).ok()?;
        let kind = kind_on_this_processor(kind_in_memory(dtype(tensor.kind)?, columns));
        let blocks = tensor.dimensions.iter().try_fold(1, |product: u64, dimension| product.checked_mul(*dimension))?
            / kind.block_size() as u64;
        let original = blocks.checked_mul(kind.type_size() as u64)?;
        // An embedding is looked up row by row, and multiplied if there is no other output.
        let (looked_up, multiplied) = (name == EMBEDDING, name != EMBEDDING || !header.tensors.contains_key(OUTPUT));
        let packed = packed(kind, columns).filter(|_| multiplied && tensor.dimensions.len() > 1);
        let kept = if looked_up || packed.is_none() || kernels.has_gemv(kind, columns) { original } else { 0 };
        let values = blocks.checked_mul(kind.block_size() as u64)?;
        let packed = packed.map_or(0, |(bytes, of)| values / of * bytes);
        kept.checked_add(packed)
    });
    bytes.fold(0, u64::saturating_add)
}

/// The size of the packed copy that the tensor library makes of a matrix: so many bytes for so many
/// values; none if it makes none.
#[cfg(target_arch = "x86_64")]
fn packed(kind: GgmlDType, columns: usize) -> Option<(u64, u64)> {
    let has_products = is_x86_feature_detected!("avx512vnni") || is_x86_feature_detected!("avxvnni");
    if !is_x86_feature_detected!("avx2") || !columns.is_multiple_of(256) {
        return None;
    }
    // Tiles of 16 rows and 256 columns: 4 bits a value, and the scales and minima of 32 values in
    // 32 bits each; 8 bits a value, and the scale of 16 values in 32 bits; as it was.
    match kind {
        GgmlDType::Q4K => Some((3072, 4096)),
        GgmlDType::Q6K => Some((5120, 4096)),
        GgmlDType::Q8_0 if has_products => Some((544, 512)),
        _ => None,
    }
}

/// The size of the packed copy that the tensor library makes of a matrix: so many bytes for so many
/// values; none if it makes none.
#[cfg(target_arch = "aarch64")]
fn packed(kind: GgmlDType, _: usize) -> Option<(u64, u64)> {
    let is_packed =
        matches!(kind, GgmlDType::Q4_0 | GgmlDType::Q4K | GgmlDType::Q5K | GgmlDType::Q6K | GgmlDType::Q8_0);
    let size = (kind.type_size() as u64, kind.block_size() as u64);
    (is_packed && std::arch::is_aarch64_feature_detected!("dotprod")).then_some(size)
}

/// The size of the packed copy that the tensor library makes of a matrix: it makes none.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn packed(_: GgmlDType, _: usize) -> Option<(u64, u64)> {
    None
}
