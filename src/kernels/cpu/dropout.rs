//! Dropout that is a function of a seed and of a number's position, so that the backward pass draws it
//! again instead of keeping it.

use super::{
    math::vectorized,
    parallel::{Shared, split},
    tensor::alloc,
};
use crate::dropout::Dropout;

/// `residual + dropout(x)`, or without a residual `dropout(x)`, which is its own gradient. `x`: rows of `time`
/// positions of `width` numbers.
pub(super) fn apply(
    x: &[f32],
    residual: Option<&[f32]>,
    [time, width]: [usize; 2],
    dropout: Dropout,
) -> Vec<f32> {
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
