//! Dropout (JMLR 15, 2014) whose random numbers are a function of a seed and an element's position: its row
//! in the step and its index in that row. They are the same on every device and for every division of the
//! rows into micro-batches, and are computed again in the backward pass instead of stored.

pub use kiln_operations::dropout::{Draws, Dropout};

use super::{Mode, backend::Differentiable, optional};
use burn::{
    backend::Dispatch,
    tensor::{Tensor, TensorData},
};

/// Computes `residual + dropout(x)`, or `dropout(x)` without a residual, of shape `[B, T, E]`. The random
/// number of an element is determined by its row, position and column.
pub fn dropout<const D: usize>(
    x: Tensor<D>,
    residual: Option<Tensor<D>>,
    dropout: Dropout,
    mode: Mode,
) -> Tensor<D> {
    if !dropout.is_on() {
        return match residual {
            Some(residual) => residual + x,
            None => x,
        };
    }
    if !mode.fuses(&x) {
        return reference(x, residual, dropout);
    }
    Tensor::from_dispatch(Dispatch::drop_out(x.into_dispatch(), optional(residual), dropout))
}

/// Unfused reference of dropout, made of Burn's operations.
pub fn reference<const D: usize>(x: Tensor<D>, residual: Option<Tensor<D>>, dropout: Dropout) -> Tensor<D> {
    let (time, width) = (if D > 1 { x.dims()[D - 2] } else { 1 }, x.dims()[D - 1]);
    let positions = 0..x.dims().iter().product::<usize>() / width.max(1);
    let (threshold, scale) = (dropout.threshold(), dropout.scale());
    let kept = positions.flat_map(|position| {
        let draws = dropout.row(position / time).part(position % time);
        (0..width as u32).map(move |column| if draws.draw(column) >= threshold { scale } else { 0.0 })
    });
    let kept = Tensor::from_data(TensorData::new::<f32, _>(kept.collect(), x.dims()), &x.device());
    match residual {
        Some(residual) => residual + x * kept,
        None => x * kept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Precision,
        attention::{AttentionSpec, Projected, Window, attention},
    };

    /// Bit patterns of the elements.
    fn bits<const D: usize>(x: Tensor<D>) -> Vec<u32> {
        x.into_data().try_into_vec_as::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
    }

    /// Checks that an operation on rows `[8, T, E]` gives the same result for all rows at once as for groups
    /// of rows one after another, and that both modes drop the same elements.
    fn check(width: usize, of: impl Fn(Tensor<3>, Dropout, Mode) -> Tensor<3>) {
        let device = crate::device::Choice::cpu().open().unwrap();
        let numbers: Vec<f32> = (0..8 * 5 * width).map(|i| 1.0 + (i * 37 % 101) as f32 / 100.0).collect();
        let x = Tensor::<3>::from_data(TensorData::new(numbers, [8, 5, width]), &device);
        let dropout = |first_row| Dropout { probability: 0.3, seed: 9, first_row };
        for mode in [Mode::Fused, Mode::Reference] {
            let whole = of(x.clone(), dropout(16), mode);
            for rows in [1, 2, 4] {
                let part =
                    |first: usize| of(x.clone().narrow(0, first, rows), dropout(16 + first as u32), mode);
                let parts = Tensor::cat((0..8).step_by(rows).map(part).collect(), 0);
                assert_eq!(bits(parts), bits(whole.clone()), "{mode:?}, {rows} rows at a time");
            }
            assert_ne!(bits(of(x.clone(), dropout(0), mode)), bits(whole));
        }
        let [fused, reference] = [Mode::Fused, Mode::Reference].map(|mode| of(x.clone(), dropout(0), mode));
        assert!((fused - reference).abs().max().into_scalar::<f32>() < 1e-5);
    }

    #[test]
    fn what_is_dropped_does_not_depend_on_how_rows_are_grouped() {
        check(7, |x, spec, mode| dropout(x, None, spec, mode));
        check(7, |x, spec, mode| dropout(x.clone(), Some(x), spec, mode));
        let spec = AttentionSpec {
            heads: 2,
            kv_heads: 1,
            head_size: 3,
            scale: 0.5,
            softcap: 0.0,
            window: Window::CAUSAL,
            dropout: Dropout::NONE,
            precision: Precision::F32,
        };
        check(12, |x, dropout, mode| {
            attention(Projected::Together(x), None, None, AttentionSpec { dropout, ..spec }, mode)
        });
    }

    /// Padding after a row is longer in a micro-batch with a longer row.
    #[test]
    fn what_is_dropped_does_not_depend_on_padding() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let spec = Dropout { probability: 0.5, seed: 1, first_row: 0 };
        for mode in [Mode::Fused, Mode::Reference] {
            let of = |time| dropout(Tensor::<3>::ones([3, time, 6], &device), None, spec, mode);
            assert_eq!(bits(of(9).narrow(1, 0, 4)), bits(of(4)));
        }
    }

    #[test]
    fn the_share_that_is_dropped_is_the_one_asked_for() {
        let spec = Dropout { probability: 0.2, seed: 77, first_row: u32::MAX - 3 };
        let mut dropped = [0u32; 3];
        for (row, position, column) in
            (0..16).flat_map(|row| (0..50).flat_map(move |at| (0..50).map(move |column| (row, at, column))))
        {
            let draws = [spec.row(row).part(position), spec.row(row).part(position + 1)];
            let is = draws.map(|draws| draws.draw(column) < spec.threshold());
            dropped[0] += u32::from(is[0]);
            dropped[1] += u32::from(is[0] && is[1]);
            dropped[2] +=
                u32::from(is[0] && spec.row(row + 1).part(position).draw(column) < spec.threshold());
        }
        // Of 40000 a fifth, and of neighbours a fifth of that: within four standard deviations.
        assert!(dropped[0].abs_diff(8000) < 320, "{dropped:?}");
        assert!(dropped[1].abs_diff(1600) < 160 && dropped[2].abs_diff(1600) < 160, "{dropped:?}");
    }
}
