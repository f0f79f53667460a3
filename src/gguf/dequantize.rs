//! Converts blocks to f32. The formulas are those of ggml's `ggml-quants.c`; results are equal to the bit to
//! those of the Python package `gguf`.

use crate::{k_quants, types::TensorType};
use half::{bf16, f16};

/// Converts whole blocks. `values` has as many elements as `bytes` has blocks of the type times their length.
pub(crate) fn dequantize(kind: TensorType, bytes: &[u8], values: &mut [f32]) {
    match kind {
        TensorType::F32 => {
            each(bytes, values, |block: &[u8; 4], [value]| *value = f32::from_le_bytes(*block))
        }
        TensorType::F16 => each(bytes, values, |block, [value]| *value = f16::from_le_bytes(*block).to_f32()),
        TensorType::Bf16 => {
            each(bytes, values, |block, [value]| *value = bf16::from_le_bytes(*block).to_f32())
        }
        TensorType::Q4_0 => each(bytes, values, q4_0),
        TensorType::Q4_1 => each(bytes, values, q4_1),
        TensorType::Q5_0 => each(bytes, values, q5_0),
        TensorType::Q5_1 => each(bytes, values, q5_1),
        TensorType::Q8_0 => each(bytes, values, q8_0),
        TensorType::Q4K => each(bytes, values, k_quants::q4_k),
        TensorType::Q5K => each(bytes, values, k_quants::q5_k),
        TensorType::Q6K => each(bytes, values, k_quants::q6_k),
    }
}

/// Converts each block of `BYTES` bytes to `LENGTH` elements.
fn each<const BYTES: usize, const LENGTH: usize>(
    bytes: &[u8],
    values: &mut [f32],
    convert: impl Fn(&[u8; BYTES], &mut [f32; LENGTH]),
) {
    let (blocks, _) = bytes.as_chunks();
    let (parts, _) = values.as_chunks_mut();
    for (block, part) in blocks.iter().zip(parts) {
        convert(block, part);
    }
}

/// The 16-bit float at byte `at` of a block.
pub(crate) fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// `x = d (q - 8)`: d, then 16 bytes of which the low halves are the first 16 elements.
fn q4_0(block: &[u8; 18], values: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    let (low, high) = values.split_at_mut(16);
    for ((byte, low), high) in block[2..].iter().zip(low).zip(high) {
        *low = scale * f32::from((byte & 15) as i8 - 8);
        *high = scale * f32::from((byte >> 4) as i8 - 8);
    }
}

/// `x = d q + m`: d, m, then 16 bytes.
fn q4_1(block: &[u8; 20], values: &mut [f32; 32]) {
    let (scale, least) = (half_at(block, 0), half_at(block, 2));
    let (low, high) = values.split_at_mut(16);
    for ((byte, low), high) in block[4..].iter().zip(low).zip(high) {
        *low = scale * f32::from(byte & 15) + least;
        *high = scale * f32::from(byte >> 4) + least;
    }
}

/// The five bits of each element: four of `nibbles`, and one of the 32 bits in `highs`.
fn five_bits(highs: &[u8], nibbles: &[u8]) -> [u8; 32] {
    let highs = u32::from_le_bytes([highs[0], highs[1], highs[2], highs[3]]);
    let high = |index: usize| ((highs >> index) as u8 & 1) << 4;
    std::array::from_fn(|index| match index {
        0..16 => nibbles[index] & 15 | high(index),
        _ => nibbles[index - 16] >> 4 | high(index),
    })
}

/// `x = d (q - 16)`: d, 4 bytes of fifth bits, then 16 bytes.
fn q5_0(block: &[u8; 22], values: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    for (value, bits) in values.iter_mut().zip(five_bits(&block[2..6], &block[6..])) {
        *value = scale * f32::from(bits as i8 - 16);
    }
}

/// `x = d q + m`: d, m, 4 bytes of fifth bits, then 16 bytes.
fn q5_1(block: &[u8; 24], values: &mut [f32; 32]) {
    let (scale, least) = (half_at(block, 0), half_at(block, 2));
    for (value, bits) in values.iter_mut().zip(five_bits(&block[4..8], &block[8..])) {
        *value = scale * f32::from(bits) + least;
    }
}

/// `x = d q`: d, then 32 signed bytes.
fn q8_0(block: &[u8; 34], values: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    for (value, byte) in values.iter_mut().zip(&block[2..]) {
        *value = scale * f32::from(*byte as i8);
    }
}
