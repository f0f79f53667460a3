//! Log-probabilities of the tokens of sampled answers, and the entropy of their distributions. Only the
//! positions that predict a token of an answer are projected to the vocabulary, and where answers differ much in
//! length, few of those beyond their ends.

use crate::{
    kernels::{
        linear::LinearSpec,
        log_probabilities::{self as kernel, ProjectionSpec},
    },
    model::{Output, layers::output::Projection},
};
use burn::tensor::{IndexingUpdateOp, Int, Tensor, activation::log_softmax};

/// Largest number of logits that are in memory at a time for an entropy: 64 MiB.
const CHUNK: usize = 1 << 24;

/// Output at the given positions, `[N]`, of all positions of a batch, with logits divided by a temperature.
fn select(output: &Output, positions: Tensor<1, Int>, temperature: f64) -> Output {
    match output {
        Output::Logits(logits) => {
            let logits = logits.clone().select(0, positions);
            Output::Logits(if temperature == 1.0 { logits } else { logits.div_scalar(temperature) })
        }
        Output::Projection(Projection { states, weight, transposed, softcap, mode }) => {
            let projection = Projection {
                states: states.clone().select(0, positions),
                weight: weight.clone(),
                transposed: *transposed,
                softcap: *softcap,
                mode: *mode,
            };
            if temperature == 1.0 {
                return Output::Projection(projection);
            }
            // Without a soft cap logits are linear in the states.
            if *softcap == 0.0 {
                let states = projection.states.div_scalar(temperature);
                return Output::Projection(Projection { states, ..projection });
            }
            Output::Logits(projection.logits().div_scalar(temperature))
        }
    }
}

/// Log-probabilities in nats, `[N, 1]`, of `tokens`, `[N, 1]`, under the output at `positions`, `[N]`. Only those
/// at the indices `places` are computed, if these are given; the others are 0. Logits are divided by `temperature`.
pub fn log_probabilities(
    output: &Output,
    positions: &Tensor<1, Int>,
    tokens: &Tensor<2, Int>,
    places: Option<&Tensor<1, Int>>,
    temperature: f64,
) -> Tensor<2> {
    let tokens = match places {
        Some(places) => tokens.clone().select(0, places.clone()),
        None => tokens.clone(),
    };
    let log_p = match select(output, at(positions, places), temperature) {
        Output::Logits(logits) => kernel::of_logits(logits, tokens),
        Output::Projection(Projection { states, weight, transposed, softcap, mode }) => {
            let product = LinearSpec { transposed, precision: mode.precision };
            let spec = ProjectionSpec { product, softcap: softcap as f32 };
            kernel::log_probabilities(states, weight, tokens, spec, mode)
        }
    };
    spread(log_p, positions, places)
}

/// The positions at the indices `places`, or all.
fn at(positions: &Tensor<1, Int>, places: Option<&Tensor<1, Int>>) -> Tensor<1, Int> {
    match places {
        Some(places) => positions.clone().select(0, places.clone()),
        None => positions.clone(),
    }
}

/// Puts numbers for `places` among as many as there are positions, of which the others are 0.
fn spread(numbers: Tensor<2>, positions: &Tensor<1, Int>, places: Option<&Tensor<1, Int>>) -> Tensor<2> {
    let Some(places) = places else { return numbers };
    let zeros = Tensor::<2>::zeros([positions.dims()[0], 1], &numbers.device());
    zeros.select_assign(0, places.clone(), numbers, IndexingUpdateOp::Add)
}

/// Entropy in nats, `[N, 1]`, of the distribution of the next token at `positions`, `[N]`. Only those at the indices
/// `places` are computed, if these are given; the others are 0. Without autodiff the logits of a part of the
/// positions are in memory at a time.
pub fn entropy(
    output: &Output,
    positions: &Tensor<1, Int>,
    places: Option<&Tensor<1, Int>>,
    temperature: f64,
) -> Tensor<2> {
    let chosen = at(positions, places);
    let [count] = chosen.dims();
    let vocabulary = match output {
        Output::Logits(logits) => logits.dims()[1],
        Output::Projection(Projection { weight, transposed, .. }) => weight.dims()[usize::from(!transposed)],
    };
    let size = (CHUNK / vocabulary.max(1)).max(1);
    let chunk = |start: usize| {
        let part = chosen.clone().narrow(0, start, size.min(count - start));
        let logits = match select(output, part, temperature) {
            Output::Logits(logits) => logits,
            Output::Projection(projection) => projection.logits(),
        };
        let log_p = log_softmax(logits, 1); // [chunk, V]
        (log_p.clone().exp() * log_p).sum_dim(1).neg()
    };
    spread(Tensor::cat((0..count).step_by(size).map(chunk).collect(), 0), positions, places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_positions_asked_for_count_and_temperature_flattens() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let output = Output::Logits(Tensor::from_data([[9.0, 0.0], [0.0, 0.0], [2.0, 0.0]], &device));
        let positions = Tensor::<1, Int>::from_data([1, 2], &device);
        let tokens = Tensor::<2, Int>::from_data([[1], [0]], &device);
        let of = |temperature| {
            let log_p = log_probabilities(&output, &positions, &tokens, None, temperature);
            let entropy = entropy(&output, &positions, None, temperature);
            [log_p, entropy].map(|tensor| tensor.into_data().try_into_vec_as::<f32>().unwrap())
        };
        let log_p = |difference: f32| -(1.0 + (-difference).exp()).ln();
        let [found, entropies] = of(1.0);
        assert!((found[0] + 2f32.ln()).abs() < 1e-6 && (found[1] - log_p(2.0)).abs() < 1e-6, "{found:?}");
        assert!((entropies[0] - 2f32.ln()).abs() < 1e-6 && entropies[1] < entropies[0]);
        let [cool, _] = of(2.0);
        assert!((cool[1] - log_p(1.0)).abs() < 1e-6, "{cool:?}");

        // One place alone.
        let second = Tensor::<1, Int>::from_data([1], &device);
        let some = log_probabilities(&output, &positions, &tokens, Some(&second), 1.0);
        let of_some = super::entropy(&output, &positions, Some(&second), 1.0);
        let [some, of_some] =
            [some, of_some].map(|tensor| tensor.into_data().try_into_vec_as::<f32>().unwrap());
        assert!(some[0] == 0.0 && (some[1] - found[1]).abs() < 1e-6, "{some:?}");
        assert!(of_some[0] == 0.0 && (of_some[1] - entropies[1]).abs() < 1e-6, "{of_some:?}");
    }
}
