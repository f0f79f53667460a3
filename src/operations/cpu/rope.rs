//! Rotation of queries and keys in rows that contain all heads side by side.

use super::{
    math::vectorized,
    parallel::{Shared, alloc, split},
};
use crate::rope::RopeSpec;

/// Rotates the first `spec.heads` heads of each row of `x`, `[B, T, width]`, by the angles of the tables
/// `cos` and `sin`, `[1 or B, T, D / 2]`, or by their inverse. Copies the rest of each row.
pub fn rotate(x: &[f32], cos: &[f32], sin: &[f32], [time, width]: [usize; 2], spec: RopeSpec) -> Vec<f32> {
    assert!(spec.head_size.is_multiple_of(2));
    let half = spec.head_size / 2;
    let rotated = spec.heads * spec.head_size;
    let sign = if spec.inverse { -1.0 } else { 1.0 };
    let angles = cos.len() / half; // rows of the tables
    let count = x.len() / width;
    let mut y = alloc(count * width);
    let shared = Shared::new(&mut y);
    split(count, (1usize << 14).div_ceil(width), |rows| {
        // SAFETY: every part has rows of its own.
        let y = unsafe { shared.part(rows.start * width..rows.end * width) };
        let x = &x[rows.start * width..rows.end * width];
        vectorized(
            #[inline(always)]
            || {
                for ((row, x), y) in rows.zip(x.chunks_exact(width)).zip(y.chunks_exact_mut(width)) {
                    let angle = if angles == time { row % time } else { row };
                    let cos = &cos[angle * half..(angle + 1) * half];
                    let sin = &sin[angle * half..(angle + 1) * half];
                    y[rotated..].write_copy_of_slice(&x[rotated..]);
                    let heads =
                        x[..rotated].chunks_exact(2 * half).zip(y[..rotated].chunks_exact_mut(2 * half));
                    for (x, y) in heads {
                        if spec.interleaved {
                            for i in 0..half {
                                let (a, b, s) = (x[2 * i], x[2 * i + 1], sign * sin[i]);
                                y[2 * i].write(a * cos[i] - b * s);
                                y[2 * i + 1].write(b * cos[i] + a * s);
                            }
                        } else {
                            let (a, b) = x.split_at(half);
                            let (to_a, to_b) = y.split_at_mut(half);
                            for i in 0..half {
                                to_a[i].write(a[i] * cos[i] - b[i] * (sign * sin[i]));
                                to_b[i].write(b[i] * cos[i] + a[i] * (sign * sin[i]));
                            }
                        }
                    }
                }
            },
        );
    });
    // SAFETY: the parts, whose rows are written whole, heads and what follows them, are all there is.
    unsafe { y.assume_init() }.into_vec()
}
