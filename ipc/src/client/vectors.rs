//! Vectors as JSON: a list with one string for each, which is the base64 of its numbers, 32-bit
//! floats in little-endian order.
//!
//! Numbers in decimal would be twice as long, and slower to write and to read.
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Deserializer, Serializer,
    de::{self, Visitor},
};
use std::fmt;

pub(super) fn serialize<S: Serializer>(vectors: &[Vec<f32>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(vectors.iter().map(|vector| {
        let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
        STANDARD.encode(bytes)
    }))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<f32>>, D::Error> {
    let vectors = Vec::<VectorIn>::deserialize(deserializer)?;
    Ok(vectors.into_iter().map(|vector| vector.0).collect())
}

struct VectorIn(Vec<f32>);

impl<'de> Deserialize<'de> for VectorIn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<VectorIn, D::Error> {
        struct Base64;

        impl Visitor<'_> for Base64 {
            type Value = VectorIn;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("32-bit floats in base64")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<VectorIn, E> {
                let bytes = STANDARD.decode(text).map_err(|_| E::custom("this is no base64"))?;
                let (numbers, rest) = bytes.as_chunks();
                if !rest.is_empty() {
                    return Err(E::custom("these are no 32-bit floats"));
                }
                Ok(VectorIn(numbers.iter().map(|number| f32::from_le_bytes(*number)).collect()))
            }
        }

        deserializer.deserialize_str(Base64)
    }
}
