//! The output projection and the cross entropy of its logits, computed for some rows at a time.

use super::{
    launch::{Grid, UNITS, alloc, contiguous, floats},
    math::{most_of_cube, sum_of_cube, tanh},
    optimizer::sum,
};
use crate::{
    composed::{product, reduced},
    cross_entropy::CrossEntropySpec,
};
use burn::{
    backend::{cubecl::dtype_to_storage_type, ops::FloatTensorOps},
    tensor::Slice,
};
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, prelude::*},
    tensor::CubeTensor,
};

/// Number of logits that are in memory at a time: 64 MiB.
const CHUNK: usize = 1 << 24;

#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Terms {
    scale: f32,
    softcap: f32,
    smoothing: f32,
    z_loss: f32,
}

#[cube]
fn bend(logit: f32, terms: &Terms, #[comptime] bends: bool) -> f32 {
    if bends { terms.softcap * tanh(logit / terms.softcap) } else { logit }
}

/// Computes the loss of each row times its weight, with one cube per row; overwrites the logits with their
/// gradient.
#[cube(launch_unchecked)]
fn kernel<I: Int>(
    logits: &mut [f32],
    targets: &[I],
    weights: &[f32],
    losses: &mut [f32],
    first: usize,
    rows: usize,
    vocabulary: usize,
    terms: Terms,
    #[comptime] bends: bool,
    #[comptime] with_gradient: bool,
    #[define(I)] _type: ElemType,
) {
    let row = CUBE_POS;
    if row >= rows {
        terminate!();
    }
    let mut shared = Shared::<[f32]>::new_slice(UNITS);
    let start = row * vocabulary;
    // Each unit keeps the largest of its logits and what they add up to in terms of it.
    let mut most = f32::new(-3e38);
    let mut total = 0.0f32;
    let mut plain = 0.0f32;
    let mut column = UNIT_POS as usize;
    while column < vocabulary {
        let logit = bend(logits[start + column], &terms, bends);
        if logit > most {
            total *= (most - logit).exp();
            most = logit;
        }
        total += (logit - most).exp();
        plain += logit;
        column += UNITS;
    }
    let top = most_of_cube(most, &mut shared);
    let log_sum = top + sum_of_cube(total * (most - top).exp(), &mut shared).ln();
    let plain = sum_of_cube(plain, &mut shared);
    let even = terms.smoothing / vocabulary as f32;
    let weight = weights[first + row];
    let target = min(u32::cast_from(targets[first + row]) as usize, vocabulary - 1);
    let goal = bend(logits[start + target], &terms, bends);
    // Before a unit overwrites the logit of the target.
    sync_cube();
    if UNIT_POS == 0 {
        let mut loss = log_sum - (1.0 - terms.smoothing) * goal + terms.z_loss * log_sum * log_sum;
        if terms.smoothing > 0.0 {
            loss -= even * plain;
        }
        losses[first + row] = if weight == 0.0 { 0.0f32.runtime() } else { weight * loss };
    }
    if with_gradient {
        let factor = weight * terms.scale;
        let share = factor * (1.0 + 2.0 * terms.z_loss * log_sum);
        let mut column = UNIT_POS as usize;
        while column < vocabulary {
            let logit = bend(logits[start + column], &terms, bends);
            let mut slope = share * (logit - log_sum).exp() - factor * even;
            if column == target {
                slope -= factor * (1.0 - terms.smoothing);
            }
            if bends {
                let bent = logit / terms.softcap;
                slope *= 1.0 - bent * bent;
            }
            logits[start + column] = if weight == 0.0 { 0.0f32.runtime() } else { slope };
            column += UNITS;
        }
    }
}

/// Gradients of states and weight.
struct Gradients {
    states: Vec<CubeTensor>,
    weight: Option<CubeTensor>,
    with_weight: bool,
}

/// Sum of the losses of the rows of `states`, `[N, E]`, times `spec.scale`, `[1]`. `weight` is `[E, V]`, or
/// `[V, E]` if `spec.transposed`; `weights` is `[N]`.
pub(super) fn loss(
    states: CubeTensor,
    weight: CubeTensor,
    targets: CubeTensor,
    weights: CubeTensor,
    spec: CrossEntropySpec,
) -> CubeTensor {
    by_chunks(states, weight, targets, weights, spec, None)
}

/// Sum of the losses, and the gradients of states and weight. The second, unless it is asked for, has one
/// element and no meaning.
pub(super) fn loss_with_gradients(
    states: CubeTensor,
    weight: CubeTensor,
    targets: CubeTensor,
    weights: CubeTensor,
    spec: CrossEntropySpec,
    with_weight: bool,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let mut gradients = Gradients { states: Vec::new(), weight: None, with_weight };
    let into = Some(&mut gradients);
    let total = by_chunks(states.clone(), weight.clone(), targets, weights, spec, into);
    let zeros = |like: CubeTensor| CubeBackend::float_mul_scalar(like, 0.0.into());
    let mut chunks = gradients.states;
    let d_states = match chunks.pop() {
        Some(only) if chunks.is_empty() => only,
        Some(last) => CubeBackend::float_cat(chunks.into_iter().chain([last]).collect(), 0),
        None => zeros(states),
    };
    let d_weight = match gradients.weight {
        Some(gradient) => gradient,
        None if with_weight => zeros(weight),
        None => alloc(&d_states, [1]),
    };
    (total, d_states, d_weight)
}

fn by_chunks(
    states: CubeTensor,
    weight: CubeTensor,
    targets: CubeTensor,
    weights: CubeTensor,
    spec: CrossEntropySpec,
    mut gradients: Option<&mut Gradients>,
) -> CubeTensor {
    // Converted once for all chunks.
    let weight = reduced::<CubeBackend>(weight, spec.precision);
    let (states, weight, targets, weights) =
        (floats(states), contiguous(weight), contiguous(targets), floats(weights));
    let matrix = if spec.transposed { turned(weight) } else { weight }; // [E, V]
    let (count, vocabulary) = (states.meta.shape()[0], matrix.meta.shape()[1]);
    let losses = alloc(&states, [count]);
    let rows = (CHUNK / vocabulary.max(1)).clamp(1, count.max(1));
    for first in (0..count).step_by(rows) {
        let end = (first + rows).min(count);
        let chunk = CubeBackend::float_slice(states.clone(), &[Slice::from(first..end)]);
        let chunk = reduced::<CubeBackend>(chunk, spec.precision);
        let logits = floats(product::<CubeBackend>(chunk.clone(), matrix.clone(), spec.precision));
        let Grid { client, count: cubes, dim } = Grid::cubes(&logits, end - first);
        // SAFETY: cubes beyond the last row end at once, units stay within the logits of their row.
        unsafe {
            kernel::launch_unchecked(
                &client,
                cubes,
                dim,
                logits.clone().into_buffer_arg(),
                targets.clone().into_buffer_arg(),
                weights.clone().into_buffer_arg(),
                losses.clone().into_buffer_arg(),
                first,
                end - first,
                vocabulary,
                TermsLaunch::new(spec.scale, spec.softcap, spec.label_smoothing, spec.z_loss),
                spec.softcap > 0.0,
                gradients.is_some(),
                dtype_to_storage_type(targets.dtype),
            );
        }
        if let Some(gradients) = &mut gradients {
            let precision = spec.gradient_precision();
            let d_logits = reduced::<CubeBackend>(logits, precision);
            let d_states = product::<CubeBackend>(d_logits.clone(), turned(matrix.clone()), precision);
            gradients.states.push(d_states);
            if !gradients.with_weight {
                continue;
            }
            let part = match spec.transposed {
                true => product::<CubeBackend>(turned(d_logits), chunk, precision),
                false => product::<CubeBackend>(turned(chunk), d_logits, precision),
            };
            gradients.weight = Some(match gradients.weight.take() {
                Some(sum) => CubeBackend::float_add(sum, part),
                None => part,
            });
        }
    }
    let total = sum(losses);
    if spec.scale == 1.0 { total } else { CubeBackend::float_mul_scalar(total, spec.scale.into()) }
}

/// The transpose of a matrix.
fn turned(matrix: CubeTensor) -> CubeTensor {
    CubeBackend::float_swap_dims(matrix, 0, 1)
}
