//! What the loss is. [`Objective`] takes the model and a batch and gives the loss as a tensor; how rows of
//! tokens become what a model reads and what it is to say is in the file of each kind.

mod batch;
pub mod masked;
pub mod router;
pub mod rows;
pub mod spans;

pub use batch::{Batch, Weighting};
pub use rows::Rows;

use crate::{config::Config, model::Model};
use burn::tensor::Tensor;

/// The mean over targets, with what a mixture of experts adds to it.
#[derive(Debug, Clone, Copy)]
pub struct Objective {
    router_aux_loss: f64,
    router_z_loss: f64,
    weighting: Weighting,
}

/// The loss of one micro-batch as its share of a step's mean.
pub struct Loss {
    /// What is differentiated, `[1]`.
    pub total: Tensor<1>,
    /// The part of it that the targets give, `[1]`: cross entropy in nats, or squared errors.
    pub of_targets: Tensor<1>,
    /// With experts: load-balancing loss, router-z loss, and the share of each expert, `[2 + X]`.
    pub router: Option<Tensor<1>>,
}

impl Objective {
    pub fn of(config: &Config) -> Self {
        let Config { model, objective, .. } = config;
        Self {
            router_aux_loss: model.moe.aux_loss,
            router_z_loss: model.moe.z_loss,
            weighting: Weighting {
                label_smoothing: objective.label_smoothing as f32,
                z_loss: objective.z_loss as f32,
                ..Default::default()
            },
        }
    }

    /// The sum over the batch's targets divided by `step_targets`, the number of targets of all
    /// micro-batches of the step. Summed over them it is the mean over tokens, however they are grouped.
    /// A step without targets has loss 0.
    pub fn loss(&self, model: &Model, batch: &Batch, step_targets: usize) -> Loss {
        let (answer, routings) = model.answer(batch.input.clone());
        let targets = step_targets.max(1) as f64;
        let of_targets = batch.loss(answer, Weighting { scale: (1.0 / targets) as f32, ..self.weighting });
        let (read, written) = (batch.real(), &batch.targets.weights);
        let of_input = routings.of_input.iter().map(|routing| (routing, &read));
        let of_written = routings.of_written.iter().map(|routing| (routing, written));
        let Some(found) = router::losses(&of_input.chain(of_written).collect::<Vec<_>>()) else {
            return Loss { total: of_targets.clone(), of_targets, router: None };
        };
        let share = batch.target_tokens as f64 / targets;
        let total = of_targets.clone()
            + found.load_balancing.clone().mul_scalar(self.router_aux_loss * share)
            + found.z.clone().mul_scalar(self.router_z_loss * share);
        let router = Tensor::cat(vec![found.load_balancing, found.z, found.utilization], 0);
        Loss { total, of_targets, router: Some(router.mul_scalar(share)) }
    }
}
