//! Dropout that is a function of a seed and of where a number stands, so that the backward pass draws it
//! again instead of keeping it.

use super::{
    math::vectorized,
    parallel::{Shared, split},
    tensor::room,
};
use crate::kernels::dropout::Dropout;

/// `residual + dropout(x)`, or without a residual `dropout(x)`, which is its own gradient. `x`: rows of `time`
/// positions of `width` numbers.
pub(super) fn apply(
    x: &[f32],
    residual: Option<&[f32]>,
    [time, width]: [usize; 2],
    dropout: Dropout,
) -> Vec<f32> {
    let mut y = room(x.len());
    let shared = Shared::new(&mut y);
    let (threshold, scale) = (dropout.threshold(), dropout.scale());
    let (time, width) = (time.max(1), width.max(1));
    split(x.len() / width, (1usize << 13).div_ceil(width), |positions| {
        let range = positions.start * width..positions.end * width;
        // SAFETY: every part has positions of its own.
        let y = unsafe { shared.part(range.clone()) };
        let x = &x[range.clone()];
        vectorized(
            #[inline(always)]
            || {
                let rows = x.chunks_exact(width).zip(y.chunks_exact_mut(width));
                for (position, (x, y)) in positions.zip(rows) {
                    let draws = dropout.row(position / time).part(position % time);
                    for (column, (y, x)) in y.iter_mut().zip(x).enumerate() {
                        *y = if draws.draw(column as u32) >= threshold { x * scale } else { 0.0 };
                    }
                }
                if let Some(residual) = residual {
                    for (y, residual) in y.iter_mut().zip(&residual[range]) {
                        *y += residual;
                    }
                }
            },
        );
    });
    y
}
