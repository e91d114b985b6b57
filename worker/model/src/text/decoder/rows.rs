//! Rows of weights as they are in a file, and the few that are turned into another type because
//! their own is computed slowly.
use candle_core::{CpuStorage, Error, Result, quantized::GgmlDType};
use half::f16;
use std::{borrow::Cow, mem};

/// Rows of weights of one element type.
pub(super) struct Rows {
    /// The element type.
    pub(super) kind: GgmlDType,
    /// How many rows there are.
    pub(super) count: usize,
    /// Their bytes, row by row.
    pub(super) bytes: Vec<u8>,
}

/// Values of a block of these types.
const BLOCK: usize = 32;
/// Bytes of a block of Q4_0: a 16-bit scale, 32 values of 4 bits.
const Q4_0: usize = 18;
/// Bytes of a block of Q5_0: a 16-bit scale, the fifth bits of 32 values, 32 values of 4 bits.
const Q5_0: usize = 22;
/// Bytes of a block of Q8_0: a 16-bit scale, 32 values of 8 bits.
const Q8_0: usize = 34;

impl Rows {
    /// The upper half of the rows and the lower.
    pub(super) fn halves(mut self) -> [Rows; 2] {
        let count = self.count / 2;
        let lower = self.bytes.split_off(self.bytes.len() / self.count.max(1) * count);
        [
            Rows { kind: self.kind, count, bytes: mem::take(&mut self.bytes) },
            Rows { kind: self.kind, count, bytes: lower },
        ]
    }

    /// The same values in a type that is computed fast.
    ///
    /// The tensor library has no vector instructions for Q5_0 and, on x86, fast ones for Q8_0 but
    /// not for Q4_0. A block of both is a scale times small whole numbers, and so is a block of
    /// Q8_0: nothing is rounded. It takes up to twice the memory.
    pub(super) fn computable(self) -> Rows {
        let kind = kind_in_memory(self.kind, self.columns());
        let bytes = match self.kind {
            _ if kind == self.kind => return self,
            GgmlDType::Q5_0 => widen(&self.bytes, five_bits),
            _ => widen(&self.bytes, four_bits),
        };
        Rows { kind, count: self.count, bytes }
    }

    /// The same values in a type that this processor can multiply: rounded to 16 bits, if it has no
    /// instructions for any other.
    pub(super) fn multipliable(self) -> Result<Rows> {
        let kind = kind_on_this_processor(self.kind);
        if kind == self.kind { Ok(self) } else { self.rounded_to_16_bits() }
    }

    fn rounded_to_16_bits(self) -> Result<Rows> {
        let columns = self.columns();
        let mut bytes = Vec::with_capacity(self.count * columns * size_of::<f16>());
        for row in self.bytes.chunks_exact(self.bytes.len().checked_div(self.count).unwrap_or(0).max(1)) {
            let CpuStorage::F32(values) = self.kind.from_data(Cow::Borrowed(row)).dequantize(columns)? else {
                return Err(Error::Msg("weights are not in 32 bits".to_owned()));
            };
            let most = f16::MAX.to_f32();
            bytes.extend(values.iter().flat_map(|value| f16::from_f32(value.clamp(-most, most)).to_le_bytes()));
        }
        Ok(Rows { kind: GgmlDType::F16, count: self.count, bytes })
    }

    fn columns(&self) -> usize {
        self.bytes.len() / self.count.max(1) / self.kind.type_size() * self.kind.block_size()
    }
}

/// The type in which rows of so many values are kept.
pub(super) fn kind_in_memory(kind: GgmlDType, columns: usize) -> GgmlDType {
    match kind {
        GgmlDType::Q5_0 => GgmlDType::Q8_0,
        GgmlDType::Q4_0 if has_fast_q8_0() && columns.is_multiple_of(256) => GgmlDType::Q8_0,
        _ => kind,
    }
}

/// The type that rows of this type are multiplied in.
///
/// On ARM the tensor library multiplies whole numbers by instructions that came with ARMv8.2
/// (`dotprod`) and does not ask whether they are there: a Raspberry Pi 5 has them, a 4 has not and
/// ends the process. Our own products of 16-bit numbers need nothing of the kind.
pub(super) fn kind_on_this_processor(kind: GgmlDType) -> GgmlDType {
    match kind {
        GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16 => kind,
        _ if lacks_dot_products() => GgmlDType::F16,
        _ => kind,
    }
}

fn lacks_dot_products() -> bool {
    #[cfg(target_arch = "aarch64")]
    {
        !std::arch::is_aarch64_feature_detected!("dotprod")
    }
    #[cfg(not(target_arch = "aarch64"))]
    {
        false
    }
}

/// Whether Q8_0 is multiplied by instructions made for it.
fn has_fast_q8_0() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx512vnni") || is_x86_feature_detected!("avxvnni")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

fn widen<const N: usize>(bytes: &[u8], values: fn(&[u8; N]) -> [i8; BLOCK]) -> Vec<u8> {
    let blocks = bytes.as_chunks::<N>().0;
    let mut wide = Vec::with_capacity(blocks.len() * Q8_0);
    for block in blocks {
        wide.extend_from_slice(&block[..2]);
        wide.extend(values(block).map(|value| value as u8));
    }
    wide
}

fn four_bits(block: &[u8; Q4_0]) -> [i8; BLOCK] {
    let mut values = [0; BLOCK];
    for (index, byte) in block[2..].iter().enumerate() {
        values[index] = (byte & 15) as i8 - 8;
        values[index + BLOCK / 2] = (byte >> 4) as i8 - 8;
    }
    values
}

fn five_bits(block: &[u8; Q5_0]) -> [i8; BLOCK] {
    let fifths = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    let fifth = |index: usize| ((fifths >> index & 1) << 4) as i8;
    let mut values = [0; BLOCK];
    for (index, byte) in block[6..].iter().enumerate() {
        let upper = index + BLOCK / 2;
        values[index] = ((byte & 15) as i8 | fifth(index)) - 16;
        values[upper] = ((byte >> 4) as i8 | fifth(upper)) - 16;
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(kind: GgmlDType, bytes: &[u8], count: usize) -> Vec<f32> {
        match kind.from_data(bytes.into()).dequantize(count).unwrap() {
            CpuStorage::F32(values) => values,
            _ => unreachable!(),
        }
    }

    #[test]
    fn wider_types_hold_the_same_values() {
        for (kind, size, wide) in [
            (GgmlDType::Q4_0, Q4_0, widen(&pattern(Q4_0), four_bits)),
            (GgmlDType::Q5_0, Q5_0, widen(&pattern(Q5_0), five_bits)),
        ] {
            let narrow = pattern(size);
            assert_eq!(values(kind, &narrow, 3 * BLOCK), values(GgmlDType::Q8_0, &wide, 3 * BLOCK), "{kind:?}");
        }
    }

    /// Three blocks of any bits, with scales that are numbers.
    fn pattern(size: usize) -> Vec<u8> {
        (0..3 * size)
            .map(|index| match index % size {
                0 => 7,
                1 => 0x3C,
                place => (place * 89 + index * 31) as u8,
            })
            .collect()
    }

    #[test]
    fn sixteen_bits_are_the_nearest() {
        let narrow = pattern(Q8_0);
        let exact = values(GgmlDType::Q8_0, &narrow, 3 * BLOCK);
        let rows = Rows { kind: GgmlDType::Q8_0, count: 3, bytes: narrow }.rounded_to_16_bits().unwrap();
        assert_eq!((rows.kind, rows.count, rows.columns()), (GgmlDType::F16, 3, BLOCK));
        let rounded: Vec<f32> = exact.iter().map(|value| f16::from_f32(*value).to_f32()).collect();
        assert_eq!(values(GgmlDType::F16, &rows.bytes, 3 * BLOCK), rounded);
    }

    #[test]
    fn what_16_bits_cannot_hold_is_as_large_as_they_can() {
        let mut block = vec![127; Q8_0];
        block[..2].copy_from_slice(&f16::MAX.to_le_bytes());
        let rows = Rows { kind: GgmlDType::Q8_0, count: 1, bytes: block }.rounded_to_16_bits().unwrap();
        assert_eq!(values(GgmlDType::F16, &rows.bytes, BLOCK), [f16::MAX.to_f32(); BLOCK]);
    }

    #[test]
    fn halves_are_cut_between_rows() {
        let [upper, lower] = Rows { kind: GgmlDType::F32, count: 4, bytes: (0..32).collect() }.halves();
        assert_eq!((upper.count, upper.bytes), (2, (0..16).collect()));
        assert_eq!((lower.count, lower.bytes), (2, (16..32).collect()));
    }
}
