//! The types of a tensor's elements: which of them can be computed with, and what all are called.
//!
//! The numbers are those of `ggml_type`; some that were in use are not any more.
use candle_core::quantized::GgmlDType;
use std::fmt::{self, Display, Formatter};

/// The element type that a number in a file names, if it can be computed with.
pub(crate) fn dtype(number: u32) -> Option<GgmlDType> {
    Some(match number {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        _ => return None,
    })
}

/// A type that cannot be computed with, by its number in a file: what to say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElementType(pub(crate) u32);

/// All names, by their numbers; a hole is a number that never had one.
const NAMES: [&str; 43] = [
    "F32",
    "F16",
    "Q4_0",
    "Q4_1",
    "Q4_2",
    "Q4_3",
    "Q5_0",
    "Q5_1",
    "Q8_0",
    "Q8_1",
    "Q2_K",
    "Q3_K",
    "Q4_K",
    "Q5_K",
    "Q6_K",
    "Q8_K",
    "IQ2_XXS",
    "IQ2_XS",
    "IQ3_XXS",
    "IQ1_S",
    "IQ4_NL",
    "IQ3_S",
    "IQ2_S",
    "IQ4_XS",
    "I8",
    "I16",
    "I32",
    "I64",
    "F64",
    "IQ1_M",
    "BF16",
    "Q4_0_4_4",
    "Q4_0_4_8",
    "Q4_0_8_8",
    "TQ1_0",
    "TQ2_0",
    "IQ4_NL_4_4",
    "IQ4_NL_4_8",
    "IQ4_NL_8_8",
    "MXFP4",
    "NVFP4",
    "Q1_0",
    "Q2_0",
];

/// Those that can be computed with, from the largest to the smallest.
const SUPPORTED: [&str; 13] =
    ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"];

/// What a tensor is in, and what it could be in instead.
impl Display for ElementType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = usize::try_from(self.0).ok().and_then(|number| NAMES.get(number));
        match (self.0, name) {
            (_, None) => write!(f, "is of type {}, which has no name here", self.0)?,
            (4 | 5, Some(name)) => write!(f, "is in {name}, which is no longer in use")?,
            (31..=33, Some(name)) => write!(f, "is in {name}, which is no longer in use (use Q4_0)")?,
            // What took their place is not supported.
            (36..=38, Some(name)) => write!(f, "is in {name}, which is no longer in use (use Q4_0 or Q4_K)")?,
            (_, Some(name)) => write!(f, "is in {name}")?,
        }
        write!(f, "; supported are {}", SUPPORTED.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_to_be_supported_is() {
        let known = (0..NAMES.len()).filter(|number| dtype(*number as u32).is_some());
        let mut known: Vec<&str> = known.map(|number| NAMES[number]).collect();
        let mut said = SUPPORTED.to_vec();
        known.sort_unstable();
        said.sort_unstable();
        assert_eq!(known, said);
    }

    #[test]
    fn a_type_is_called_by_its_name() {
        let supported = "supported are F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K";
        for (number, words) in [
            (4, "is in Q4_2, which is no longer in use"),
            (9, "is in Q8_1"),
            (16, "is in IQ2_XXS"),
            (23, "is in IQ4_XS"),
            (29, "is in IQ1_M"),
            (31, "is in Q4_0_4_4, which is no longer in use (use Q4_0)"),
            (33, "is in Q4_0_8_8, which is no longer in use (use Q4_0)"),
            (36, "is in IQ4_NL_4_4, which is no longer in use (use Q4_0 or Q4_K)"),
            (39, "is in MXFP4"),
            (42, "is in Q2_0"),
            (43, "is of type 43, which has no name here"),
            (u32::MAX, "is of type 4294967295, which has no name here"),
        ] {
            assert_eq!(ElementType(number).to_string(), format!("{words}; {supported}"));
        }
    }
}
