//! Trains with an objective of your own: next-token prediction with a penalty for leaving the model that
//! training began with, of which a frozen copy is kept. The objective has two metrics of its own, which
//! appear in the progress line, `log.jsonl` and `report.html`.
//!
//!     cargo run --release --example custom_objective -- RUN

use burn::tensor::{Tensor, activation::log_softmax};
use kiln::{
    config::presets::Preset,
    data::Dataset,
    device::Choice,
    model::Model,
    objective::{Average, Batch, Frozen, Loss, Objective, StepTotals},
    train::Trainer,
};
use std::path::Path;

/// Cross entropy plus `beta` times the divergence KL(reference | model), both averaged over targets.
struct StayClose {
    reference: Frozen,
    beta: f64,
}

impl Objective for StayClose {
    fn loss(&self, model: &Model, batch: &Batch, step: StepTotals) -> Loss {
        let targets = batch.targets.clone();
        let log_p = log_softmax(batch.logits(model), 1); // [N, V]
        let reference = log_softmax(self.reference.logits(batch), 1); // [N, V]
        let nll = log_p.clone().gather(1, targets.tokens).neg(); // [N, 1]
        let divergence = (reference.clone().exp() * (reference - log_p)).sum_dim(1); // [N, 1]
        let mean = |values: Tensor<2>| (values * targets.weights.clone()).sum().div_scalar(step.divisor()); // [1]
        let (nll, divergence) = (mean(nll), mean(divergence));
        Loss::new(nll.clone() + divergence.clone().mul_scalar(self.beta))
            .with_metric("nll", nll, Average::Sum)
            .with_metric("divergence", divergence, Average::Sum)
    }
}

/// Trains for 20 steps in the run folder `run`.
pub fn train(run: &Path) -> anyhow::Result<()> {
    let mut config = Preset::find("debug")?.config()?;
    config.train.max_steps = 20;
    let dataset = Dataset::prepare(&config, None)?;
    let config = config.resolve(&dataset)?;
    let trainer = Trainer::new(config, dataset, &Choice::cpu().open()?)?;
    let reference = Frozen::new(trainer.model());
    kiln::cli::train_in(run, trainer.with_objective(StayClose { reference, beta: 0.5 }))
}

fn main() -> anyhow::Result<()> {
    train(Path::new(&std::env::args().nth(1).unwrap_or_else(|| "runs/custom".into())))
}
