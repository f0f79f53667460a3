//! Converts f32 to the bytes of a tensor, with results that are equal to the bit to those of ggml and of the
//! Python package `gguf`.

use crate::types::TensorType;
use half::{bf16, f16};

/// Types that are written.
pub(crate) const WRITTEN: [TensorType; 4] =
    [TensorType::F32, TensorType::F16, TensorType::Bf16, TensorType::Q8_0];

/// Appends the bytes of whole rows. A type that is not [`WRITTEN`] is written as F32.
pub(crate) fn quantize(kind: TensorType, values: &[f32], bytes: &mut Vec<u8>) {
    match kind {
        TensorType::F16 => values.iter().for_each(|value| bytes.extend(f16::from_f32(*value).to_le_bytes())),
        TensorType::Bf16 => {
            values.iter().for_each(|value| bytes.extend(bf16::from_f32(*value).to_le_bytes()))
        }
        TensorType::Q8_0 => values.as_chunks().0.iter().for_each(|block| q8_0(block, bytes)),
        _ => values.iter().for_each(|value| bytes.extend(value.to_le_bytes())),
    }
}

/// Appends a block of Q8_0: the largest magnitude becomes 127.
fn q8_0(values: &[f32; 32], bytes: &mut Vec<u8>) {
    let largest = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let scale = largest / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    bytes.extend(f16::from_f32(scale).to_le_bytes());
    bytes.extend(values.iter().map(|value| (value * inverse).round() as i8 as u8));
}
