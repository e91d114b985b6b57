//! Rows of weights as they are in a file, and the few that are turned into another type because their own is computed slowly.
use candle_core::quantized::GgmlDType;
use std::mem;

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
    /// The tensor library has no vector instructions for Q5_0 and, on x86, fast ones for Q8_0 but not for Q4_0. A block of both is a
    /// scale times small whole numbers, and so is a block of Q8_0: nothing is rounded. It takes up to twice the memory.
    pub(super) fn computable(self) -> Rows {
        let kind = kind_in_memory(self.kind, self.columns());
        let bytes = match self.kind {
            _ if kind == self.kind => return self,
            GgmlDType::Q5_0 => widen(&self.bytes, five_bits),
            _ => widen(&self.bytes, four_bits),
        };
        Rows { kind, count: self.count, bytes }
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
    use candle_core::CpuStorage;

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
    fn halves_are_cut_between_rows() {
        let [upper, lower] = Rows { kind: GgmlDType::F32, count: 4, bytes: (0..32).collect() }.halves();
        assert_eq!((upper.count, upper.bytes), (2, (0..16).collect()));
        assert_eq!((lower.count, lower.bytes), (2, (16..32).collect()));
    }
}
