//! State of the objective in a checkpoint: the rollout whose steps are not all done, and what the next one
//! depends on.

use super::PolicyOptimization;
use crate::{
    model::parameters::{HostTensor, NamedData},
    objective::rollout::{Rollout, to_whole_numbers, whole_numbers},
};

/// Number of rollouts drawn and of answers left out so far.
const COUNTERS: &str = "policy.counters";

/// Weight of the divergence in the rewards.
const KL_COEFFICIENT: &str = "policy.kl_coefficient";

impl PolicyOptimization {
    pub(super) fn to_tensors(&self) -> NamedData {
        let mut data = self.rollout.as_ref().map(Rollout::to_tensors).unwrap_or_default();
        data.insert(COUNTERS.into(), whole_numbers(&[self.drawn, self.left_out]));
        data.insert(KL_COEFFICIENT.into(), HostTensor::new([1], vec![self.controller.coefficient]));
        data
    }

    /// Takes up the state of a checkpoint.
    ///
    /// # Errors
    /// A message about the tensor that is missing, broken or unknown.
    pub(super) fn read_tensors(&mut self, mut data: NamedData) -> Result<(), String> {
        let mut take = |name: &str| data.remove(name).ok_or_else(|| format!("tensor `{name}` is missing"));
        let (counters, coefficient) = (take(COUNTERS)?, take(KL_COEFFICIENT)?);
        let &[drawn, left_out] = &to_whole_numbers(&counters)[..] else {
            return Err(format!("`{COUNTERS}` has {} values", counters.values.len()));
        };
        let &[coefficient] = &coefficient.values[..] else {
            return Err(format!("`{KL_COEFFICIENT}` has {} values", coefficient.values.len()));
        };
        let rollout = Rollout::from_tensors(&mut data)?;
        if let Some(name) = data.into_keys().next() {
            return Err(format!("tensor `{name}` belongs to nothing"));
        }
        // One that is not adapted is the configuration's.
        if self.controller.target.is_some() {
            self.controller.coefficient = coefficient;
        }
        (self.drawn, self.left_out, self.rollout) = (drawn, left_out, rollout);
        Ok(())
    }
}
