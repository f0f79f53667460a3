//! Dropout that is a function of a seed and a place, so that the backward pass draws it again instead of
//! keeping it.

use super::{
    math::vectorized,
    parallel::{Shared, split},
    tensor::room,
};
use crate::kernels::dropout::{Dropout, keeps};

/// `residual + dropout(x)`, or without a residual `dropout(x)`, which is its own gradient.
pub(super) fn apply(x: &[f32], residual: Option<&[f32]>, dropout: Dropout) -> Vec<f32> {
    let mut y = room(x.len());
    let shared = Shared::new(&mut y);
    let scale = dropout.scale();
    split(x.len(), 1 << 13, |range| {
        // SAFETY: every part has a range of its own.
        let y = unsafe { shared.part(range.clone()) };
        let x = &x[range.clone()];
        vectorized(
            #[inline(always)]
            || {
                let first = range.start as u32;
                for (i, (y, x)) in y.iter_mut().zip(x).enumerate() {
                    let kept = keeps(dropout, first.wrapping_add(i as u32), 0);
                    *y = if kept { x * scale } else { 0.0 };
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
