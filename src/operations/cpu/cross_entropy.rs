//! The output projection and the cross entropy of its logits, computed for some rows at a time.

use super::{
    gemm::{Epilogue, Matrix, parallel_product, parallel_product_in, parallel_product_onto},
    math::{exp, max, sum, tanh, vectorized},
    parallel::{Shared, alloc, split},
};
use crate::cross_entropy::CrossEntropySpec;

/// Number of logits that are in memory at a time.
const CHUNK: usize = 3 << 20;

/// Numbers that [`loss`] computes.
#[derive(Clone, Copy, PartialEq)]
pub enum Wanted {
    Loss,
    /// The loss and the gradient of the states.
    StatesGradient,
    AllGradients,
}

/// Gradients that [`loss`] returns.
pub struct Gradients {
    /// Gradient of the states, `[N, E]`.
    pub states: Vec<f32>,
    /// Gradient of the weight, in its layout, if it is wanted.
    pub weight: Option<Vec<f32>>,
}

/// Sum of the losses of the rows of `states`, `[N, E]`, times `spec.scale`, and the gradients that are wanted.
/// `weight` is `[E, V]`, or `[V, E]` if `spec.transposed`. `weights`, `[N]`, is 0 for rows without a target.
pub fn loss(
    states: &[f32],
    weight: &[f32],
    targets: &[i32],
    weights: &[f32],
    spec: CrossEntropySpec,
    wanted: Wanted,
) -> (f32, Option<Gradients>) {
    let with_gradients = wanted != Wanted::Loss;
    let with_weight = wanted == Wanted::AllGradients;
    let count = targets.len();
    let width = states.len() / count.max(1);
    let vocabulary = weight.len() / width.max(1);
    let matrix = match spec.transposed {
        true => Matrix::of_rows(weight, width).transposed(), // [E, V]
        false => Matrix::of_rows(weight, vocabulary),
    };
    let rows = (CHUNK / vocabulary.max(1)).clamp(32, 4096).min(count.max(1));
    // As many chunks, but even ones.
    let rows = count.div_ceil(count.div_ceil(rows).max(1)).max(1);
    let mut logits = alloc(rows * vocabulary);
    let mut losses = vec![0f32; count];
    let mut d_states = alloc(if with_gradients { count * width } else { 0 });
    let mut d_weight: Option<Vec<f32>> = None;
    for start in (0..count).step_by(rows) {
        let end = (start + rows).min(count);
        let size = end - start;
        let chunk = &states[start * width..end * width];
        let logits = &mut logits[..size * vocabulary];
        let states = Matrix::of_rows(chunk, width);
        let none = Epilogue::default();
        let logits =
            parallel_product_in([size, width, vocabulary], states, matrix, none, logits, spec.precision);
        let (logits_shared, losses_shared) = (Shared::new(logits), Shared::new(&mut losses));
        split(size, (1usize << 13).div_ceil(vocabulary), |part| {
            for row in part {
                // SAFETY: every part has rows of its own.
                let (logits, loss) = unsafe {
                    (
                        logits_shared.part(row * vocabulary..(row + 1) * vocabulary),
                        losses_shared.part(start + row..start + row + 1),
                    )
                };
                loss[0] = row_loss(logits, targets[start + row], weights[start + row], spec, with_gradients);
            }
        });
        if with_gradients {
            let d_logits = Matrix::of_rows(logits, vocabulary);
            let precision = spec.gradient_precision();
            let d_states = &mut d_states[start * width..end * width];
            parallel_product_in(
                [size, vocabulary, width],
                d_logits,
                matrix.transposed(),
                none,
                d_states,
                precision,
            );
            if !with_weight {
                continue;
            }
            let (sizes, a, b) = match spec.transposed {
                true => ([vocabulary, size, width], d_logits.transposed(), states),
                false => ([width, size, vocabulary], states.transposed(), d_logits),
            };
            match &mut d_weight {
                None => d_weight = Some(parallel_product(sizes, a, b, none, precision)),
                Some(d_weight) => parallel_product_onto(sizes, a, b, d_weight, precision),
            }
        }
    }
    let gradients = with_gradients.then(|| Gradients {
        // SAFETY: the chunks, whose rows have been written whole, are all there is.
        states: unsafe { d_states.assume_init() }.into_vec(),
        weight: with_weight.then(|| d_weight.unwrap_or_else(|| vec![0.0; weight.len()])),
    });
    let total: f64 = losses.iter().map(|loss| f64::from(*loss)).sum();
    ((total * f64::from(spec.scale)) as f32, gradients)
}

/// Loss of one row times its weight. Overwrites the logits with their gradient.
fn row_loss(
    logits: &mut [f32],
    target: i32,
    weight: f32,
    spec: CrossEntropySpec,
    with_gradient: bool,
) -> f32 {
    if weight == 0.0 {
        if with_gradient {
            logits.fill(0.0);
        }
        return 0.0;
    }
    let CrossEntropySpec { label_smoothing, z_loss, softcap, .. } = spec;
    let vocabulary = logits.len();
    let target = usize::try_from(target).unwrap_or_default().min(vocabulary - 1);
    vectorized(
        #[inline(always)]
        || {
            if softcap > 0.0 {
                for logit in logits.iter_mut() {
                    *logit = softcap * tanh(*logit / softcap);
                }
            }
            let most = max(logits);
            let total = sum(
                vocabulary,
                #[inline(always)]
                |i| exp(logits[i] - most),
            );
            let log_sum = most + total.ln();
            let mut loss = log_sum - (1.0 - label_smoothing) * logits[target];
            let even = label_smoothing / vocabulary as f32;
            if label_smoothing > 0.0 {
                loss -= even
                    * sum(
                        vocabulary,
                        #[inline(always)]
                        |i| logits[i],
                    );
            }
            loss += z_loss * log_sum * log_sum;
            if with_gradient {
                let factor = weight * spec.scale;
                let share = factor * (1.0 + 2.0 * z_loss * log_sum);
                // The slope of the soft cap at the target, before its logit is overwritten.
                let bent = if softcap > 0.0 { logits[target] / softcap } else { 0.0 };
                for logit in logits.iter_mut() {
                    let slope = share * exp(*logit - log_sum) - factor * even;
                    let bent = if softcap > 0.0 { *logit / softcap } else { 0.0 };
                    *logit = slope * (1.0 - bent * bent);
                }
                logits[target] -= factor * (1.0 - label_smoothing) * (1.0 - bent * bent);
            }
            weight * loss
        },
    )
}
