//! One optimizer step, from tokens to new weights.

use super::{LOSS_SCALE, PendingStep, Trainer};
use crate::{
    config::OnNonFinite,
    data::HostBatch,
    data::random::seed_for,
    device::read_numbers,
    error::Result,
    model::{DropoutSource, Model},
    objective::{Batch, MetricSums, OwnBatches, Sample, Start, StepTotals},
    optim::{Update, clip, loss_scale, schedule},
};
use burn::{optim::GradientsParams, tensor::Tensor};
use replace_with::replace_with;

impl Trainer {
    /// Trains one step on the loader's next rows.
    pub fn step(&mut self) {
        let train = &self.config.train;
        // The same rows however they are grouped into micro-batches.
        let rows = |i: usize| i * train.batch_size..(i + 1) * train.batch_size;
        let micro_batches = 0..train.gradient_accumulation_steps;
        let batches: Vec<_> = micro_batches.map(|i| self.loader.rows(self.step, rows(i))).collect();
        self.step_on(&batches);
    }

    /// Trains one step on the given micro-batches, which together are the step's rows in order. Does not wait
    /// for the device: losses and norms stay there and are read every `train.log_interval` steps.
    pub fn step_on(&mut self, batches: &[HostBatch]) {
        let train = &self.config.train;
        let (totals, applies_dropout) = (StepTotals::of(batches), self.config.applies_dropout());

        // Forward and backward, adding up micro-batches.
        let seed = seed_for(train.seed, self.step, "dropout") as u32;
        self.objective.begin_step(&self.model, batches, &self.device);
        let mut loss = Tensor::<1>::zeros([1], &self.device.clone().inner());
        let (mut metrics, mut gradients, mut beside, mut first_row) = (MetricSums::default(), None, None, 0);
        for host in batches {
            let mut batch = Batch::new(host, &self.device);
            batch.input.dropout = applies_dropout.then_some(DropoutSource { seed, first_row });
            let share = self.objective.loss(&self.model, &batch, totals);
            let scaled = loss_scale::multiplied(share.total, self.loss_scale.as_ref());
            let mut total = clip::carry(&self.model, scaled, gradients.take());
            if let Some(companion) = self.objective.companion() {
                total = clip::carry(companion, total, beside.take());
            }
            let mut graph = total.backward();
            gradients = Some(GradientsParams::from_module(&mut graph, &self.model));
            let companion = self.objective.companion();
            beside = companion.map(|companion| GradientsParams::from_module(&mut graph, companion));
            loss = loss + share.reported.inner();
            metrics.add(share.metrics, &batch, totals);
            first_row += host.rows;
        }
        let zeros = self.pruning.as_ref().and_then(|pruning| pruning.zeros(&self.model, self.step));
        let mut gradients = gradients.unwrap_or_default();
        if let Some(zeros) = &zeros {
            gradients = zeros.mask_gradients(&self.model, gradients);
        }

        // Clip by the global norm. What is not finite makes the scale so, by which the update knows.
        let (device, mode) = (self.device.clone().inner(), self.config.kernels.mode());
        let mut norm = clip::global_norm(&self.model, &gradients, &device, mode);
        if let Some((companion, gradients)) = self.objective.companion().zip(beside.as_ref()) {
            let of_companion = clip::global_norm(companion, gradients, &device, mode);
            norm = (norm.square() + of_companion.square()).sqrt();
        }
        norm = loss_scale::divided(norm, self.loss_scale.as_ref());
        let factor = match train.grad_clip > 0.0 {
            true => clip::clip_factor(norm.clone(), train.grad_clip),
            false => norm.ones_like(),
        };
        let factor = loss_scale::divided(factor, self.loss_scale.as_ref());
        let scale = factor + (loss.clone() + norm.clone()).mul_scalar(0.0);

        // Update the weights, unless the step is to be skipped where a number is not finite.
        let learning_rate = schedule::learning_rate(train, self.step);
        let skip_non_finite = train.on_nan == OnNonFinite::Skip || self.loss_scale.is_some();
        let keep_if = skip_non_finite.then(|| scale.clone().is_finite());
        let update = Update { learning_rate, scale, skip_non_finite };
        let (optimizer, config, device) = (&mut self.optimizer, &self.config, &self.device);
        if let Some((slot, gradients)) = self.objective.companion_slot().zip(beside) {
            *slot = slot.take().map(|companion| optimizer.step(companion, gradients, update.clone()));
        }
        replace_with(
            &mut self.model,
            || Model::uninitialized(&config.model, config.kernels.mode(), device),
            |model| {
                let model = optimizer.step(model, gradients, update);
                match zeros {
                    Some(zeros) => zeros.restore(model),
                    None => model,
                }
            },
        );
        if let Some(ema) = &mut self.ema {
            ema.update(&self.model, keep_if.as_ref());
        }
        if let Some((loss_scale, is_finite)) = self.loss_scale.as_mut().zip(keep_if.as_ref()) {
            loss_scale.update(is_finite);
        }

        // Report, later.
        self.step += 1;
        self.tokens += batches.iter().map(|batch| batch.tokens as u64).sum::<u64>();
        let (mut metrics, mut sums) = metrics.into_parts();
        if let Some(loss_scale) = &self.loss_scale {
            metrics.push((LOSS_SCALE, 1));
            sums.push(loss_scale.scale());
        }
        let numbers = Tensor::cat([loss, norm].into_iter().chain(sums).collect(), 0);
        self.pending.push(PendingStep {
            step: self.step,
            tokens: self.tokens,
            learning_rate,
            metrics,
            numbers,
        });
    }

    /// Takes the next step, on batches of the objective's own or on the loader's rows. Returns what the
    /// objective has to show of its batches.
    ///
    /// # Errors
    /// Those of [`Objective::batches`](crate::objective::Objective::batches) and of
    /// [`Optimizer::check`](crate::optim::Optimizer::check).
    pub async fn next_step(&mut self) -> Result<Vec<Sample>> {
        let Self { objective, config, model, dataset, layout, loader, device, step, score_command, .. } =
            self;
        let score_command = score_command.as_ref();
        let run = Start { config, model, dataset, layout, loader, device, steps_done: *step, score_command };
        let own = objective.batches(run).await?;
        let Some(OwnBatches { batches, samples }) = own else {
            self.step();
            return self.optimizer.check().map(|()| Vec::new());
        };
        self.step_on(&batches);
        self.optimizer.check().map(|()| samples)
    }

    /// Takes two steps and undoes them, so that the device compiles the kernels of a step before the first
    /// one counts. The second step is needed because it finds moments, which the first does not.
    ///
    /// # Errors
    /// [`Error::DeviceFailed`](crate::Error::DeviceFailed).
    pub async fn warm_up(&mut self) -> Result<()> {
        if self.optimizer.is_away() {
            // Its state cannot be copied as a tensor is.
            return Ok(());
        }
        let model = self.model.clone();
        let (state, loss_scale) = (self.optimizer.state.clone(), self.loss_scale.clone());
        let ema = self.ema.clone();
        let (step, tokens) = (self.step, self.tokens);
        self.step();
        self.step();
        let read = self.last_numbers().await;
        (self.model, self.optimizer.state, self.ema) = (model, state, ema);
        (self.step, self.tokens, self.loss_scale) = (step, tokens, loss_scale);
        read.map(drop)
    }

    /// Waits for the last step and returns its loss in nats and its gradient norm; NaN before the first step.
    /// Discards the results of earlier steps, so use it for measurements, not within a run.
    ///
    /// # Errors
    /// [`Error::DeviceFailed`](crate::Error::DeviceFailed).
    pub async fn last_numbers(&mut self) -> Result<(f32, f32)> {
        let Some(last) = std::mem::take(&mut self.pending).pop() else {
            return Ok((f32::NAN, f32::NAN));
        };
        let numbers = read_numbers(last.numbers, "training").await?;
        Ok((numbers[0], numbers[1]))
    }
}
