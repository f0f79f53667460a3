//! Identities that hold before the first update: the probabilities of sampled answers are the same as they
//! were drawn, measured and trained, and those of the reference are the policy's. Dropout, truncation, or a
//! fault of the cache breaks them.

use super::PolicyOptimization;
use crate::{
    device::short_name,
    error::{Error, Result},
    generate::{Completion, batch::is_exact},
    model::Model,
    objective::{
        Start, reference,
        rollout::{Answer, Measured, Shape, answer_log_probabilities},
    },
};

/// Largest difference of log-probabilities that are computed alike on the CPU, relative to those over 1.
const SAME: f64 = 1e-6;

/// Bound on other devices, and for probabilities that are computed token by token with a cache.
const CLOSE: f64 = 1e-3;

impl PolicyOptimization {
    /// Checks the identities on the answers of the first rollout.
    ///
    /// # Errors
    /// [`Error::OverTolerance`] with the first token of which one does not hold, and [`Error::DeviceFailed`].
    pub(super) async fn check_identities(
        &self,
        run: &Start<'_>,
        answers: &[Answer],
        shape: Shape,
        measured: &Measured,
        completions: &[Option<Completion>],
        reference: Option<&Model>,
    ) -> Result<()> {
        let bound = if short_name(run.device) == "cpu" { SAME } else { CLOSE };
        // As many as a micro-batch, so that they are computed as in a step.
        let first = &answers[..answers.len().min(run.config.train.batch_size)];
        let trained =
            answer_log_probabilities(first, shape, run.model, self.update.temperature, run.device).await?;
        let measured_first = &measured.log_probabilities[..trained.len()];
        compare(
            "the policy in training",
            &trained,
            "the policy that was sampled from",
            measured_first,
            bound,
        )?;
        if let Some(reference) = reference
            && reference::is_same(run.model, reference).await?
        {
            let of_reference = &measured.reference_log_probabilities;
            let of_policy = &measured.log_probabilities;
            compare("the reference, which is the same model", of_reference, "the policy", of_policy, bound)?;
        }
        if is_exact(&run.config.model) {
            let places = |completion: &Option<Completion>| {
                let mut drawn =
                    completion.as_ref().map_or_else(Vec::new, |found| found.log_probabilities.clone());
                drawn.resize(shape.width, 0.0);
                drawn
            };
            let drawn: Vec<f32> = completions.iter().flat_map(places).collect();
            let whole = &measured.log_probabilities;
            compare("the cache while sampling", &drawn, "a pass over the whole answer", whole, CLOSE)?;
        }
        Ok(())
    }
}

/// Compares log-probabilities that should be the same.
fn compare(what: &str, own: &[f32], other: &str, expected: &[f32], bound: f64) -> Result<()> {
    for (own, expected) in own.iter().zip(expected) {
        let difference = f64::from(own - expected).abs();
        if difference.is_nan() || difference > bound * f64::from(expected.abs()).max(1.0) {
            return Err(Error::OverTolerance {
                message: format!(
                    "before the first update a token of an answer has the log-probability {own} under {what}, but \
                     {expected} under {other}"
                ),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_new_log_probabilities_differ_at_step_0_verl_2088() {
        compare("a", &[-1.0, -20.0], "b", &[-1.000_000_5, -20.000_01], SAME).unwrap();
        let error = compare("the policy", &[-1.0, -2.0], "the sampler", &[-1.0, -2.001], SAME).unwrap_err();
        assert_eq!(
            error.to_string(),
            "before the first update a token of an answer has the log-probability -2 under the policy, but -2.001 \
             under the sampler"
        );
        assert!(compare("a", &[f32::NAN], "b", &[-1.0], CLOSE).is_err());
    }
}
