//! The run: everything that happens between steps.

use super::{
    LOSS_SCALE, PendingStep, Trainer,
    event::{
        CheckpointReport, EvaluationReport, Event, FinishReason, FinishReport, RunInfo, SampleReport,
        StepReport, TaskReport,
    },
    overfitting::{self, Losses},
};
use crate::{
    checkpoint::Files,
    config::{Architecture, OnNonFinite},
    data::evaluation_batches,
    device::{device_failed, read_numbers},
    error::{Error, Result},
    eval::{confusion::Confusion, evaluate, evaluate_objective},
    generate::Generator,
    model::Model,
    objective::{self, MetricValue, Metrics, Sample},
    platform::{Instant, peak_memory_bytes},
};
use burn::tensor::Tensor;
use std::path::PathBuf;

/// Callbacks of a run.
pub struct Hooks<'a> {
    /// Called with each event. An error ends the run.
    pub observe: &'a mut dyn FnMut(&Event) -> Result<()>,
    /// Stores the checkpoint of a step, marks it if it is the best, and returns its path.
    pub save: &'a mut dyn FnMut(u64, &Files, bool) -> Result<PathBuf>,
    /// Called after each step; true ends the run.
    pub interrupted: &'a dyn Fn() -> bool,
    /// Name of the device, for reports.
    pub device: String,
    /// Measured peak of the device in FLOP/s.
    pub peak_flops: Option<f64>,
}

/// Actions that are due after a step, in the order in which they happen.
struct Due {
    /// Whether to read the losses that are still on the device.
    losses: bool,
    evaluation: bool,
    tasks: bool,
    sample: bool,
    checkpoint: bool,
}

impl Due {
    /// Whether an action interrupts training.
    fn pauses(&self) -> bool {
        self.evaluation || self.tasks || self.checkpoint || self.sample
    }
}

/// Number of consecutive skipped steps after which the run fails.
const MAX_SKIPPED_IN_A_ROW: u64 = 100;

/// State of a run in progress that is not part of checkpoints.
pub struct Progress {
    first_step: u64,
    /// Step of the newest checkpoint.
    saved_step: u64,
    meter: Meter,
}

/// Measurements since the losses were last read.
struct Meter {
    start: Instant,
    last_read: Instant,
    last_tokens: u64,
    last_step: u64,
}

impl Trainer {
    /// Trains up to the configured step, unless it is interrupted or stopped early. Ends with a checkpoint of
    /// the last step.
    pub async fn run(&mut self, hooks: &mut Hooks<'_>) -> Result<FinishReport> {
        let mut progress = self.begin(hooks)?;
        let reason = loop {
            if let Some(reason) = self.advance(&mut progress, hooks).await? {
                break reason;
            }
        };
        self.finish(&progress, reason, hooks)
    }

    /// Begins a run, for callers that do something of their own between steps. They then call
    /// [`advance`](Self::advance) until it returns a reason, and [`finish`](Self::finish).
    pub fn begin(&self, hooks: &mut Hooks<'_>) -> Result<Progress> {
        let info = self.info(&hooks.device, hooks.peak_flops);
        (hooks.observe)(&Event::Started(info))?;
        let now = Instant::now();
        let meter = Meter { start: now, last_read: now, last_tokens: self.tokens, last_step: self.step };
        Ok(Progress { first_step: self.step, saved_step: self.step, meter })
    }

    /// Takes one step and the actions that are due after it. Returns a reason if the run ends.
    ///
    /// # Errors
    /// Errors of a step and of the actions. If the weights are as good as before, they are saved first, so that
    /// the run can go on from there.
    pub async fn advance(
        &mut self,
        progress: &mut Progress,
        hooks: &mut Hooks<'_>,
    ) -> Result<Option<FinishReason>> {
        let result = self.step_and_act(progress, hooks).await;
        if result.as_ref().is_err_and(spares_weights) && self.step > progress.saved_step {
            self.read_losses(&mut progress.meter, hooks).await?;
            self.save(&mut progress.saved_step, false, hooks).await?;
        }
        result
    }

    async fn step_and_act(
        &mut self,
        progress: &mut Progress,
        hooks: &mut Hooks<'_>,
    ) -> Result<Option<FinishReason>> {
        let last_step = self.config.train.last_step();
        let ended = if last_step < self.config.train.max_steps {
            FinishReason::StoppedAtStep
        } else {
            FinishReason::Completed
        };
        if self.step >= last_step {
            return Ok(Some(ended));
        }
        // A process may have been killed between the checkpoint at which it stopped and its end.
        if self.early_stop.exhausted() {
            return Ok(Some(FinishReason::EarlyStopped));
        }
        self.prepare().await?;
        for Sample { text, reward } in self.next_step().await? {
            let report = SampleReport { step: self.step, text, reward: Some(reward) };
            (hooks.observe)(&Event::Sample(report))?;
        }
        self.prune_if_due().await?;

        let meter = &mut progress.meter;
        let mut end = match (self.step == last_step, (hooks.interrupted)()) {
            (true, _) => Some(ended),
            (_, true) => Some(FinishReason::Interrupted),
            _ => None,
        };
        let due = self.due(end, self.step == progress.first_step + 1);
        if due.losses {
            self.read_losses(meter, hooks).await?;
        }
        let mut is_best = false;
        if due.evaluation {
            is_best = self.evaluate(hooks).await?;
            if self.early_stop.exhausted() && end != Some(FinishReason::Interrupted) {
                end = Some(FinishReason::EarlyStopped);
            }
        }
        if due.tasks {
            self.evaluate_tasks(hooks)?;
        }
        if due.sample {
            self.sample(hooks).await?;
        }
        // Last, so that all that was reported up to a checkpoint is in the log of the run that resumes from it.
        if due.checkpoint || is_best || end.is_some() {
            self.save(&mut progress.saved_step, is_best, hooks).await?;
        }
        if due.pauses() {
            // What happened between steps is not training time.
            meter.restart(self);
        }
        Ok(end)
    }

    /// Saves and reports a checkpoint of the present step.
    async fn save(&self, saved_step: &mut u64, is_best: bool, hooks: &mut Hooks<'_>) -> Result<()> {
        let files = self.checkpoint().await?;
        let path = (hooks.save)(self.step, &files, is_best)?;
        *saved_step = self.step;
        (hooks.observe)(&Event::Checkpoint(CheckpointReport { step: self.step, path, is_best }))
    }

    /// Reports the losses that are still on the device, before a pause.
    pub async fn settle(&mut self, progress: &mut Progress, hooks: &mut Hooks<'_>) -> Result<()> {
        self.read_losses(&mut progress.meter, hooks).await
    }

    /// Restarts the clock after a pause, so that the pause does not count as training time.
    pub fn restart_clock(&self, progress: &mut Progress) {
        progress.meter.restart(self);
    }

    /// Ends a run and reports its result.
    pub fn finish(
        &self,
        progress: &Progress,
        reason: FinishReason,
        hooks: &mut Hooks<'_>,
    ) -> Result<FinishReport> {
        let report = FinishReport {
            step: self.step,
            reason,
            best_val_loss: self.early_stop.best_loss(),
            best_step: self.early_stop.best_step(),
            seconds: progress.meter.start.elapsed().as_secs_f64(),
            tokens: self.tokens,
            skipped_steps: self.skipped_steps,
            peak_memory_bytes: peak_memory_bytes(),
        };
        (hooks.observe)(&Event::Finished(report.clone()))?;
        Ok(report)
    }

    /// Describes the run. `device` is the name of the device, `peak_flops` its measured peak in FLOP/s.
    pub fn info(&self, device: &str, peak_flops: Option<f64>) -> RunInfo {
        let vocab_size = self.config.model.vocab_size;
        RunInfo {
            device: device.into(),
            parameters: self.parameters(),
            vocab_size,
            train_tokens: self.dataset.train.len(),
            val_tokens: self.dataset.val.len(),
            tokens_per_step: self.tokens_per_step(),
            flops_per_step: self.flops_per_step(),
            peak_flops,
            first_step: self.step,
            last_step: self.config.train.last_step(),
            log_interval: self.config.train.log_interval,
            uniform_loss: self.config.model.uniform_loss().filter(|_| self.objective.predicts_targets()),
            has_perplexity: self.config.model.has_perplexity() && self.objective.predicts_targets(),
            notes: self.dataset.notes.iter().chain(&self.notes).cloned().collect(),
        }
    }

    /// Actions that are due after the present step. `end` is the reason if the run ends with it.
    fn due(&self, end: Option<FinishReason>, is_first: bool) -> Due {
        let train = &self.config.train;
        let every = |interval: u64| interval > 0 && self.step.is_multiple_of(interval);
        let interrupted = end == Some(FinishReason::Interrupted);
        let at_end = end.is_some() && !interrupted;
        let evaluation = (every(train.eval_interval) || at_end) && self.evaluates();
        let mut due = Due {
            losses: every(train.log_interval) || is_first,
            evaluation,
            tasks: (every(self.config.eval.suite_interval) || at_end) && self.tasks.is_some(),
            sample: (every(train.sample_interval) || at_end) && self.generates() && !interrupted,
            checkpoint: train.save_interval.is_some_and(every)
                || end.is_some()
                || (evaluation && train.save_interval.is_none()),
        };
        due.losses |= due.pauses();
        due
    }

    fn generates(&self) -> bool {
        self.config.model.supports_generation()
    }

    fn evaluates(&self) -> bool {
        self.config.train.eval_interval > 0 && !self.dataset.val.is_empty()
    }

    /// Reads and reports the losses and metrics of all steps since the last reading.
    async fn read_losses(&mut self, meter: &mut Meter, hooks: &mut Hooks<'_>) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return Ok(());
        }
        let numbers = Tensor::cat(pending.iter().map(|step| step.numbers.clone()).collect(), 0);
        let device = self.device.clone();
        let numbers = read_numbers(numbers, "training").await?;
        let mut rest = numbers.as_slice();

        let seconds = meter.last_read.elapsed().as_secs_f64().max(1e-9);
        let tokens_per_second = (self.tokens - meter.last_tokens) as f64 / seconds;
        let steps_per_second = (self.step - meter.last_step) as f64 / seconds;
        let mfu = hooks.peak_flops.map(|peak| self.flops_per_step() * steps_per_second / peak);
        for PendingStep { step, tokens, learning_rate, metrics, .. } in pending {
            let count = 2 + metrics.iter().map(|(_, count)| count).sum::<usize>();
            let Some((&[loss, grad_norm, ref further @ ..], after)) = rest.split_at_checked(count) else {
                let message = "fewer numbers came back than were asked for";
                return Err(device_failed(&device, "training", message.into()));
            };
            rest = after;
            let metrics = objective::named(&metrics, further);
            self.check_loss_scale(step, &metrics)?;
            if !(loss.is_finite() && grad_norm.is_finite()) {
                self.not_finite(step, loss, grad_norm, hooks)?;
                continue;
            }
            self.skipped_in_a_row = 0;
            self.recent_losses.add(loss);
            (hooks.observe)(&Event::Step(StepReport {
                step,
                loss,
                grad_norm,
                learning_rate,
                tokens,
                tokens_per_second,
                mfu,
                epoch: self.loader.epoch(step) * self.config.prompts_per_row(),
                seconds: meter.start.elapsed().as_secs_f64(),
                metrics,
            }))?;
        }
        meter.restart(self);
        Ok(())
    }

    /// Counts a skipped step, or fails if steps with non-finite numbers are not skipped, or too many were in
    /// a row.
    fn not_finite(&mut self, step: u64, loss: f32, grad_norm: f32, hooks: &mut Hooks) -> Result<()> {
        let batch = self.loader.describe(step - 1);
        let skipped = self.skipped_before();
        if skipped.is_none_or(|steps| steps >= MAX_SKIPPED_IN_A_ROW) {
            return Err(Error::NonFiniteLoss { step, loss, grad_norm: Some(grad_norm), batch, skipped });
        }
        self.skipped_in_a_row += 1;
        self.skipped_steps += 1;
        (hooks.observe)(&Event::Skipped { step, loss, grad_norm, batch })
    }

    /// Number of steps skipped in a row before the present one; `None` if such steps are not skipped.
    fn skipped_before(&self) -> Option<u64> {
        let skips = self.config.train.on_nan == OnNonFinite::Skip || self.loss_scale.is_some();
        skips.then_some(self.skipped_in_a_row)
    }

    /// Refuses a factor of the loss below its floor, which makes all gradients 0.
    fn check_loss_scale(&self, step: u64, metrics: &Metrics) -> Result<()> {
        let Some(MetricValue::One(scale)) = metrics.get(LOSS_SCALE) else { return Ok(()) };
        let floor = self.config.train.loss_scale.floor;
        match f64::from(*scale) < floor {
            true => Err(Error::LossScale { step, scale: *scale, floor }),
            false => Ok(()),
        }
    }

    /// Evaluates the model on the validation split. Returns true if it is the best result so far.
    async fn evaluate(&mut self, hooks: &mut Hooks<'_>) -> Result<bool> {
        let start = Instant::now();
        let train = &self.config.train;
        let batches = evaluation_batches(
            self.dataset.val.clone(),
            self.layout.clone(),
            train.batch_size,
            train.eval_batches,
        );
        let model = self.trained_model();
        let mut report = EvaluationReport { step: self.step, ..EvaluationReport::default() };
        let mut is_training_loss = true;
        if self.objective.predicts_targets() {
            let result = evaluate(&model, &self.config.model, batches, &self.device).await?;
            report.val_loss = result.loss;
            report.perplexity = result.perplexity;
            report.exact_match = result.exact_match.filter(|_| self.dataset.val.labels().are_texts());
            report.macro_f1 = result.classes.as_ref().map(Confusion::macro_f1);
        } else {
            let own = self.objective.evaluate(self.start(), &model).await?;
            // Then it is no loss that the training loss can be compared with.
            is_training_loss = own.is_none();
            (report.val_loss, report.metrics) = match own {
                Some(found) => found,
                None => evaluate_objective(self.objective.as_ref(), &model, batches, &self.device).await?,
            };
        }
        if !report.val_loss.is_finite() {
            // The weights are spoilt, though every training loss so far was finite.
            return Err(Error::NonFiniteLoss {
                step: self.step,
                loss: report.val_loss as f32,
                grad_norm: None,
                batch: "the validation split".into(),
                skipped: self.skipped_before(),
            });
        }
        let train_loss = std::mem::take(&mut self.recent_losses).mean().filter(|_| is_training_loss);
        let losses = Losses {
            step: self.step,
            validation: report.val_loss,
            training: train_loss,
            best: self.early_stop.best_loss().zip(self.early_stop.best_step()),
        };
        let is_best = self.early_stop.observe(report.val_loss, self.step);
        (hooks.observe)(&Event::Evaluation(EvaluationReport {
            train_loss,
            gap: train_loss.map(|train_loss| report.val_loss - train_loss),
            is_best,
            seconds: start.elapsed().as_secs_f64(),
            ..report
        }))?;
        if let Some(report) = overfitting::observe(&mut self.overfitting, &losses, &self.config.train) {
            (hooks.observe)(&Event::Overfitting(report))?;
        }
        Ok(is_best)
    }

    /// Evaluates the tasks and reports their metrics.
    fn evaluate_tasks(&self, hooks: &mut Hooks<'_>) -> Result<()> {
        let Some(tasks) = &self.tasks else { return Ok(()) };
        let start = Instant::now();
        let metrics = tasks(&self.generator(&self.trained_model()))
            .map_err(|error| error.with_origin(format!("step {}", self.step)))?;
        let seconds = start.elapsed().as_secs_f64();
        (hooks.observe)(&Event::Tasks(TaskReport { step: self.step, metrics, seconds }))
    }

    fn generator<'a>(&'a self, model: &'a Model) -> Generator<'a> {
        Generator {
            model,
            config: &self.config.model,
            tokenizer: &self.dataset.tokenizer,
            device: &self.device,
        }
    }

    /// Generates and reports a sample.
    async fn sample(&self, hooks: &mut Hooks<'_>) -> Result<()> {
        let sample = &self.config.sample;
        let model = self.trained_model();
        let generator = self.generator(&model);
        let generated = generator.generate(sample, &mut |_| {}, &|| false).await;
        let generated = generated.map_err(|error| error.with_origin(format!("step {}", self.step)))?;
        // What a decoder beside an encoder generates does not continue the prompt.
        let text = match self.config.model.architecture {
            Architecture::EncoderDecoder => generated.text,
            _ => format!("{}{}", sample.prompt, generated.text),
        };
        (hooks.observe)(&Event::Sample(SampleReport { step: self.step, text, reward: None }))
    }
}

/// Whether the weights are as good as they were before the error.
fn spares_weights(error: &Error) -> bool {
    matches!(
        error,
        Error::Rollout { .. }
            | Error::InvalidValue { .. }
            | Error::InvalidTask { .. }
            | Error::LossScale { .. }
    )
}

impl Meter {
    fn restart(&mut self, trainer: &Trainer) {
        self.last_read = Instant::now();
        self.last_tokens = trainer.tokens;
        self.last_step = trainer.step;
    }
}
