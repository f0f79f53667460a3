//! Prediction of targets: cross entropy over tokens or classes (language models of all architectures,
//! classifiers) or squared error (regression), each averaged over targets, plus the auxiliary losses of a
//! mixture of experts. Instruction tuning is the same with weights: those of prompts are 0.

use super::{Average, Batch, Loss, LossWeights, Objective, StepTotals, neftune::NoisyEmbeddings, router};
use crate::{config::Config, model::Model};

/// The mean loss over targets, plus the auxiliary losses of a mixture of experts.
#[derive(Debug, Clone, Copy)]
pub struct Prediction {
    router_aux_loss: f64,
    router_z_loss: f64,
    weights: LossWeights,
    /// Noise on the embeddings in training; `None` without.
    noise: Option<NoisyEmbeddings>,
}

impl Prediction {
    /// Makes the objective with the label smoothing and the auxiliary losses of a configuration.
    pub fn new(config: &Config) -> Self {
        let Config { model, objective, .. } = config;
        Self {
            router_aux_loss: model.moe.aux_loss,
            router_z_loss: model.moe.z_loss,
            weights: LossWeights {
                label_smoothing: objective.label_smoothing as f32,
                z_loss: objective.z_loss as f32,
                ..Default::default()
            },
            noise: NoisyEmbeddings::new(config),
        }
    }
}

impl Objective for Prediction {
    fn loss(&self, model: &Model, batch: &Batch, step: StepTotals) -> Loss {
        let mut input = batch.input.clone();
        input.noise = self.noise.and_then(|noise| noise.of(batch));
        let (output, routings) = model.forward_unprojected(input);
        let scale = (1.0 / step.divisor()) as f32;
        let loss = Loss::new(batch.loss(output, LossWeights { scale, ..self.weights }));
        let (input_tokens, decoder_tokens) = (batch.real(), batch.has_target());
        let of_input = routings.of_input.iter().map(|routing| (routing, &input_tokens));
        let of_decoder = routings.of_decoder.iter().map(|routing| (routing, &decoder_tokens));
        let Some(found) = router::losses(&of_input.chain(of_decoder).collect::<Vec<_>>()) else {
            return loss;
        };
        let share = batch.target_weight / step.divisor();
        let total = loss.total.clone()
            + found.load_balancing.clone().mul_scalar(self.router_aux_loss * share)
            + found.z.clone().mul_scalar(self.router_z_loss * share);
        Loss { total, ..loss }
            .with_metric("router/load_balancing", found.load_balancing, Average::OverTargets)
            .with_metric("router/z", found.z, Average::OverTargets)
            .with_metric("router/expert", found.utilization, Average::OverTargets)
    }

    fn predicts_targets(&self) -> bool {
        true
    }
}
