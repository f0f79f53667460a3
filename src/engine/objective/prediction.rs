//! Prediction of targets: cross entropy over tokens or classes (language models of all architectures,
//! classifiers) or squared error (regression), each averaged over targets, plus the auxiliary losses of a
//! mixture of experts. Instruction tuning is the same with weights: those of prompts are 0.

use super::{
    Batch, Loss, LossWeights, Objective, StepTotals, neftune::NoisyEmbeddings, router::AuxiliaryLosses,
};
use crate::{config::Config, model::Model};

/// The mean loss over targets, plus the auxiliary losses of a mixture of experts.
#[derive(Debug, Clone, Copy)]
pub struct Prediction {
    router: AuxiliaryLosses,
    weights: LossWeights,
    /// Noise on the embeddings in training; `None` without.
    noise: Option<NoisyEmbeddings>,
}

impl Prediction {
    /// Makes the objective with the label smoothing and the auxiliary losses of a configuration.
    pub fn new(config: &Config) -> Self {
        let Config { model, objective, .. } = config;
        Self {
            router: AuxiliaryLosses::new(model),
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
        self.router.add(loss, &routings, batch, step)
    }

    fn predicts_targets(&self) -> bool {
        true
    }
}
