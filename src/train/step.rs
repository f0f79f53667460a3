//! One optimizer step, from tokens to new weights.

use super::{PendingStep, Trainer};
use crate::{
    config::OnNonFinite,
    data::random::seed_for,
    device::device_failed,
    error::Result,
    model::{DropoutSource, Model},
    objective::Batch,
    optim::{Update, clip, schedule},
};
use burn::{optim::GradientsParams, tensor::Tensor};
use replace_with::replace_with;

impl Trainer {
    /// Trains one step. Nothing in here waits for the device: losses and norms are left there and
    /// read every `train.log_interval` steps.
    pub fn step(&mut self) {
        let train = &self.config.train;

        // Batch: the same rows however they are grouped into micro-batches.
        let rows = |i: usize| i * train.batch_size..(i + 1) * train.batch_size;
        let dropout_seed = seed_for(train.seed, self.step, "dropout") as u32;
        let host: Vec<_> =
            (0..train.gradient_accumulation_steps).map(|i| self.loader.rows(self.step, rows(i))).collect();
        let target_tokens: usize = host.iter().map(|batch| batch.target_tokens).sum();

        // Forward and backward, adding up micro-batches.
        let mut loss = Tensor::<1>::zeros([1], &self.device.clone().inner());
        let mut router: Option<Tensor<1>> = None;
        let mut gradients = None;
        for (i, batch) in host.iter().enumerate() {
            let mut batch = Batch::new(batch, &self.device);
            batch.input.dropout = Some(DropoutSource { seed: dropout_seed, first_row: rows(i).start });
            let share = self.objective.loss(&self.model, &batch, target_tokens);
            let new = GradientsParams::from_grads(share.total.backward(), &self.model);
            gradients = Some(clip::accumulate(&self.model, gradients, new));
            loss = loss + share.of_targets.inner();
            if let Some(share) = share.router.map(Tensor::inner) {
                router = Some(router.map_or(share.clone(), |sum| sum + share));
            }
        }
        let gradients = gradients.unwrap_or_default();

        // Clip by the global norm. What is not finite makes the scale so, by which the update knows.
        let (device, mode) = (self.device.clone().inner(), self.config.kernels.mode());
        let norm = clip::global_norm(&self.model, &gradients, &device, mode);
        let factor = match train.grad_clip > 0.0 {
            true => clip::clip_factor(norm.clone(), train.grad_clip),
            false => norm.ones_like(),
        };
        let scale = factor + (loss.clone() + norm.clone()).mul_scalar(0.0);

        // Update the weights, unless the step is to be void where a number is not finite.
        let learning_rate = schedule::learning_rate(train, self.step);
        let skip_non_finite = train.on_nan == OnNonFinite::Skip;
        let keep_if = skip_non_finite.then(|| scale.clone().is_finite());
        let update = Update { learning_rate, scale, skip_non_finite };
        let (optimizer, config, device) = (&mut self.optimizer, &self.config, &self.device);
        replace_with(
            &mut self.model,
            || Model::unloaded(&config.model, config.kernels.mode(), device),
            |model| optimizer.step(model, gradients, update),
        );
        if let Some(ema) = &mut self.ema {
            ema.update(&self.model, keep_if.as_ref());
        }

        // Report, later.
        self.step += 1;
        self.tokens += host.iter().map(|batch| batch.tokens as u64).sum::<u64>();
        let numbers = Tensor::cat([Some(loss), Some(norm), router].into_iter().flatten().collect(), 0);
        self.pending.push(PendingStep { step: self.step, tokens: self.tokens, learning_rate, numbers });
    }

    /// Takes two steps and forgets them, so that the device has compiled what steps need before the
    /// first one counts. Two, because the second finds moments where the first found none.
    pub async fn warm_up(&mut self) -> Result<()> {
        let model = self.model.clone();
        let state = self.optimizer.state.clone();
        let ema = self.ema.clone();
        let (step, tokens) = (self.step, self.tokens);
        self.step();
        self.step();
        let read = self.last_numbers().await;
        (self.model, self.optimizer.state, self.ema) = (model, state, ema);
        (self.step, self.tokens) = (step, tokens);
        read.map(drop)
    }

    /// Waits for the last step and gives its loss, in nats, and gradient norm; NaN before the first
    /// step. Forgets what was pending: for measuring, not within a run.
    pub async fn last_numbers(&mut self) -> Result<(f32, f32)> {
        let Some(last) = std::mem::take(&mut self.pending).pop() else {
            return Ok((f32::NAN, f32::NAN));
        };
        let failed = |message| device_failed(&self.device, "training", message);
        let data = last.numbers.into_data_async().await.map_err(|e| failed(e.to_string()))?;
        let numbers = data.try_into_vec_as::<f32>().map_err(|e| failed(format!("{e:?}")))?;
        Ok((numbers[0], numbers[1]))
    }
}
