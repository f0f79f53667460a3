//! The k-quants: blocks of 256 elements in 8 or 16 parts, whose scales are quantized too.

use crate::dequantize::half_at;

/// `x = d s q - m t`: d, m, the six-bit s and t of 8 parts of 32 elements, then 128 bytes.
pub(crate) fn q4_k(block: &[u8; 144], values: &mut [f32; 256]) {
    let (scale, least) = (half_at(block, 0), half_at(block, 2));
    let parts = scales(&block[4..16]);
    // Of 32 bytes the low halves are one part and the high halves the next.
    for (pair, bytes) in block[16..].chunks_exact(32).enumerate() {
        for (half, shift) in [0, 4].into_iter().enumerate() {
            let part = 2 * pair + half;
            let (factor, offset) = (scale * f32::from(parts[part].0), least * f32::from(parts[part].1));
            for (value, byte) in values[32 * part..32 * (part + 1)].iter_mut().zip(bytes) {
                *value = factor * f32::from(byte >> shift & 15) - offset;
            }
        }
    }
}

/// As [`q4_k`], with the fifth bits of all elements in 32 bytes before the 128: bit `p` of byte `i` is that
/// of element `i` of part `p`.
pub(crate) fn q5_k(block: &[u8; 176], values: &mut [f32; 256]) {
    let (scale, least) = (half_at(block, 0), half_at(block, 2));
    let parts = scales(&block[4..16]);
    let highs = &block[16..48];
    for (pair, bytes) in block[48..].chunks_exact(32).enumerate() {
        for (half, shift) in [0, 4].into_iter().enumerate() {
            let part = 2 * pair + half;
            let (factor, offset) = (scale * f32::from(parts[part].0), least * f32::from(parts[part].1));
            let values = values[32 * part..32 * (part + 1)].iter_mut();
            for ((value, byte), high) in values.zip(bytes).zip(highs) {
                let bits = byte >> shift & 15 | (high >> part & 1) << 4;
                *value = factor * f32::from(bits) - offset;
            }
        }
    }
}

/// `x = d s (q - 32)`: 128 bytes of low halves, 64 of upper pairs of bits, the signed s of 16 parts, d.
pub(crate) fn q6_k(block: &[u8; 210], values: &mut [f32; 256]) {
    let (lows, highs, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let scale = half_at(block, 208);
    // Each half of the block has four rows of 32 elements: the low and the high halves of 64 bytes.
    for (index, value) in values.iter_mut().enumerate() {
        let (half, row, column) = (index / 128, index % 128 / 32, index % 32);
        let low = lows[64 * half + 32 * (row % 2) + column] >> (4 * (row / 2)) & 15;
        let high = highs[32 * half + column] >> (2 * row) & 3;
        let factor = scale * f32::from(scales[index / 16] as i8);
        *value = factor * f32::from((low | high << 4) as i8 - 32);
    }
}

/// Unpacks the six-bit scale and minimum of each of 8 parts. Those of the first four are the low bits of
/// bytes 0 to 3 and 4 to 7; of the others, four bits are in bytes 8 to 11 and two are the upper bits of bytes
/// 0 to 7.
fn scales(packed: &[u8]) -> [(u8, u8); 8] {
    std::array::from_fn(|part| match part {
        0..4 => (packed[part] & 63, packed[part + 4] & 63),
        _ => (
            packed[part + 4] & 15 | packed[part - 4] >> 6 << 4,
            packed[part + 4] >> 4 | packed[part] >> 6 << 4,
        ),
    })
}
