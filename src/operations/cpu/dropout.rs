//! Dropout whose random numbers are a function of a seed and an element's position, so that the backward pass
//! computes them again instead of storing them.

use super::{
    math::vectorized,
    parallel::{Shared, alloc, split},
};
use crate::dropout::Dropout;

/// Computes `residual + dropout(x)`, or `dropout(x)` without a residual, which is also the backward pass of
/// dropout. `x` consists of samples of `time` positions of `width` elements.
pub fn apply(x: &[f32], residual: Option<&[f32]>, [time, width]: [usize; 2], dropout: Dropout) -> Vec<f32> {
    let mut y = alloc(x.len());
    let shared = Shared::new(&mut y);
    let (threshold, scale) = (dropout.threshold(), dropout.scale());
    let (time, width) = (time.max(1), width.max(1));
    assert!(x.len().is_multiple_of(width));
    split(x.len() / width, (1usize << 13).div_ceil(width), |positions| {
        let range = positions.start * width..positions.end * width;
        // SAFETY: every part has positions of its own.
        let y = unsafe { shared.part(range.clone()) };
        let x = &x[range];
        vectorized(
            #[inline(always)]
            || {
                let rows = x.chunks_exact(width).zip(y.chunks_exact_mut(width));
                for (position, (x, y)) in positions.zip(rows) {
                    let draws = dropout.row(position / time).part(position % time);
                    match residual {
                        None => {
                            for (column, (y, x)) in y.iter_mut().zip(x).enumerate() {
                                let is_kept = draws.draw(column as u32) >= threshold;
                                y.write(if is_kept { x * scale } else { 0.0 });
                            }
                        }
                        Some(residual) => {
                            let residual = &residual[position * width..(position + 1) * width];
                            for (column, ((y, x), residual)) in y.iter_mut().zip(x).zip(residual).enumerate()
                            {
                                let is_kept = draws.draw(column as u32) >= threshold;
                                y.write(if is_kept { x * scale } else { 0.0 } + residual);
                            }
                        }
                    }
                }
            },
        );
    });
    // SAFETY: the parts, each of which is written whole, are all there is.
    unsafe { y.assume_init() }.into_vec()
}
