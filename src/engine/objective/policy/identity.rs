//! Identities that hold before the first update: the probabilities of sampled answers are the same as they
//! were drawn, measured and trained, and those of the reference are the policy's. Dropout, truncation, or a
//! fault of the cache breaks them.

use super::PolicyOptimization;
use crate::{
    error::{Error, Result},
    generate::{Completion, batch::is_exact},
    model::Model,
    objective::{
        Start,
        reference::{self, CLOSE, identity_bound},
        rollout::{Answer, Measured, Shape, answer_log_probabilities},
    },
};

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
        let bound = identity_bound(run.device);
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
            let drawn = of_sampling(completions, shape.width, |found| &found.log_probabilities);
            let whole = &measured.log_probabilities;
            // Token by token with a cache, they are not computed alike on any device.
            compare("the cache while sampling", &drawn, "a pass over the whole answer", whole, CLOSE)?;
        }
        Ok(())
    }
}

/// Numbers of the tokens of each answer as they were drawn, `[answers * width]`.
pub(super) fn of_sampling(
    completions: &[Option<Completion>],
    width: usize,
    numbers: impl Fn(&Completion) -> &[f32],
) -> Vec<f32> {
    let of_row = |completion: &Option<Completion>| {
        let mut drawn = completion.as_ref().map_or_else(Vec::new, |found| numbers(found).to_vec());
        drawn.resize(width, 0.0);
        drawn
    };
    completions.iter().flat_map(of_row).collect()
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
        let bound = identity_bound(&crate::device::Choice::cpu().open().unwrap());
        compare("a", &[-1.0, -20.0], "b", &[-1.000_000_5, -20.000_01], bound).unwrap();
        let error = compare("the policy", &[-1.0, -2.0], "the sampler", &[-1.0, -2.001], bound).unwrap_err();
        assert_eq!(
            error.to_string(),
            "before the first update a token of an answer has the log-probability -2 under the policy, but -2.001 \
             under the sampler"
        );
        assert!(compare("a", &[f32::NAN], "b", &[-1.0], CLOSE).is_err());
    }
}
