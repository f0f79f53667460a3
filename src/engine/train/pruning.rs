//! Pruning between steps.

use super::Trainer;
use crate::{
    error::Result,
    model::parameters::{self, FlatTensor},
};

impl Trainer {
    /// Prunes the model, and the average of its weights, as far as it is due after the present step.
    ///
    /// # Errors
    /// Those of [`GradualPruning::prune`](crate::transform::pruning::GradualPruning::prune).
    pub(super) async fn prune_if_due(&mut self) -> Result<()> {
        let Some(pruning) = &self.pruning else { return Ok(()) };
        let Some(pruned) = pruning.prune(&self.model, self.step).await? else { return Ok(()) };
        let device = self.device.clone().inner();
        let on_device = |(name, host)| (name, FlatTensor::from_host(host, &device));
        let pruned = pruned.into_iter().map(on_device).collect();
        self.model = parameters::with_weights(self.model.clone(), &pruned);
        if let Some(ema) = &mut self.ema {
            for (name, weights) in pruned {
                let Some(average) = ema.weights.get_mut(&name) else { continue };
                let zeros = weights.values.equal_elem(0.0);
                average.values.inplace(|old| old.mask_fill(zeros, 0.0));
            }
        }
        Ok(())
    }
}
