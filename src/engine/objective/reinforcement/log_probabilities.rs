//! Log-probabilities of the tokens of sampled answers, and the entropy of their distributions. Only the
//! positions that predict a token of an answer are projected to the vocabulary.

use crate::{
    kernels::log_probabilities::{self as kernel, ProjectionSpec},
    model::{Output, layers::output::Projection},
};
use burn::tensor::{Int, Tensor, activation::log_softmax};

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

/// Log-probabilities in nats, `[N, 1]`, of `tokens`, `[N, 1]`, under the output at `positions`, `[N]`. Logits
/// are divided by `temperature`.
pub fn log_probabilities(
    output: &Output,
    positions: &Tensor<1, Int>,
    tokens: &Tensor<2, Int>,
    temperature: f64,
) -> Tensor<2> {
    match select(output, positions.clone(), temperature) {
        Output::Logits(logits) => kernel::of_logits(logits, tokens.clone()),
        Output::Projection(Projection { states, weight, transposed, softcap, mode }) => {
            let spec = ProjectionSpec { transposed, softcap: softcap as f32 };
            kernel::log_probabilities(states, weight, tokens.clone(), spec, mode)
        }
    }
}

/// Entropy in nats, `[N, 1]`, of the distribution of the next token at `positions`, `[N]`. Without autodiff
/// the logits of a part of the positions are in memory at a time.
pub fn entropy(output: &Output, positions: &Tensor<1, Int>, temperature: f64) -> Tensor<2> {
    let [count] = positions.dims();
    let vocabulary = match output {
        Output::Logits(logits) => logits.dims()[1],
        Output::Projection(Projection { weight, transposed, .. }) => weight.dims()[usize::from(!transposed)],
    };
    let size = (CHUNK / vocabulary.max(1)).max(1);
    let chunk = |start: usize| {
        let positions = positions.clone().narrow(0, start, size.min(count - start));
        let logits = match select(output, positions, temperature) {
            Output::Logits(logits) => logits,
            Output::Projection(projection) => projection.logits(),
        };
        let log_p = log_softmax(logits, 1); // [chunk, V]
        (log_p.clone().exp() * log_p).sum_dim(1).neg()
    };
    Tensor::cat((0..count).step_by(size).map(chunk).collect(), 0)
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
            let log_p = log_probabilities(&output, &positions, &tokens, temperature);
            let entropy = entropy(&output, &positions, temperature);
            [log_p, entropy].map(|tensor| tensor.into_data().try_into_vec_as::<f32>().unwrap())
        };
        let log_p = |difference: f32| -(1.0 + (-difference).exp()).ln();
        let [found, entropies] = of(1.0);
        assert!((found[0] + 2f32.ln()).abs() < 1e-6 && (found[1] - log_p(2.0)).abs() < 1e-6, "{found:?}");
        assert!((entropies[0] - 2f32.ln()).abs() < 1e-6 && entropies[1] < entropies[0]);
        let [cool, _] = of(2.0);
        assert!((cool[1] - log_p(1.0)).abs() < 1e-6, "{cool:?}");
    }
}
