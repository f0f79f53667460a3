//! An objective of one's own: next-token prediction that stays close to a frozen copy of the model it began
//! with, with two metrics of its own. They appear in the progress line, `log.jsonl` and `report.html`.
//!
//!     cargo run --release --example custom_objective -- RUN

use burn::tensor::activation::log_softmax;
use kiln::{
    config::presets::Preset,
    data::Dataset,
    device::Choice,
    model::Model,
    objective::{Average, Batch, Frozen, Loss, Objective, StepTotals},
    train::Trainer,
};

/// Cross entropy plus `beta` times the divergence KL(reference | model), both means over targets.
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
        let mean = |values| (values * targets.weights.clone()).sum().div_scalar(step.divisor()); // [1]
        let (nll, divergence) = (mean(nll), mean(divergence));
        Loss::new(nll.clone() + divergence.clone().mul_scalar(self.beta))
            .with_metric("nll", nll, Average::Sum)
            .with_metric("divergence", divergence, Average::Sum)
    }
}

fn main() -> anyhow::Result<()> {
    let run = std::env::args().nth(1).unwrap_or_else(|| "runs/custom".into());
    let mut config = Preset::find("debug")?.config()?;
    config.train.max_steps = 20;
    let dataset = Dataset::prepare(&config, None)?;
    let config = config.resolve(&dataset)?;
    let trainer = Trainer::new(config, dataset, &Choice::cpu().open()?)?;
    let reference = Frozen::new(trainer.model());
    let trainer = trainer.with_objective(StayClose { reference, beta: 0.5 });
    kiln::cli::train_in(run.as_ref(), trainer)
}
