//! The run: what happens between steps.

use super::{
    PendingStep, Trainer,
    event::{
        CheckpointReport, EvaluationReport, Event, FinishReason, FinishReport, RouterReport, RunInfo,
        SampleReport, StepReport,
    },
};
use crate::{
    checkpoint::Files,
    config::{Architecture, OnNonFinite},
    data::evaluation_batches,
    device::device_failed,
    error::{Error, Result},
    eval::{confusion::Confusion, evaluate},
    generate::Generator,
    platform::{Instant, peak_memory_bytes},
};
use burn::tensor::Tensor;
use std::path::PathBuf;

/// How a run reaches the outside world.
pub struct Hooks<'a> {
    /// Is told everything worth showing. An error ends the run.
    pub observe: &'a mut dyn FnMut(&Event) -> Result<()>,
    /// Stores the checkpoint of a step, marks it as best if it is, and says where it lies.
    pub save: &'a mut dyn FnMut(u64, &Files, bool) -> Result<PathBuf>,
    /// Asked after each step whether to end.
    pub interrupted: &'a dyn Fn() -> bool,
    /// Name of the device, for the report.
    pub device: String,
    /// Measured peak of the device in FLOP/s.
    pub peak_flops: Option<f64>,
}

/// Steps in a row without effect after which skipping makes no sense any more.
const MAX_SKIPPED_IN_A_ROW: u64 = 100;

/// A run in progress: what the trainer does not keep in its checkpoints.
pub struct Progress {
    first_step: u64,
    meter: Meter,
}

/// Figures between two readings of the losses.
struct Meter {
    start: Instant,
    last_read: Instant,
    last_tokens: u64,
    last_step: u64,
    /// Sum and number of losses since the last evaluation.
    losses: (f64, u32),
    skipped_in_a_row: u64,
}

impl Trainer {
    /// Trains up to the configured step, or until interrupted or out of patience. Ends with a
    /// checkpoint of the last step.
    pub async fn run(&mut self, hooks: &mut Hooks<'_>) -> Result<FinishReport> {
        let mut progress = self.begin(hooks)?;
        let reason = loop {
            if let Some(reason) = self.advance(&mut progress, hooks).await? {
                break reason;
            }
        };
        self.finish(&progress, reason, hooks)
    }

    /// The beginning of [`run`](Self::run), for callers that do something of their own between
    /// steps: then [`advance`](Self::advance) until it gives a reason, then [`finish`](Self::finish).
    pub fn begin(&self, hooks: &mut Hooks<'_>) -> Result<Progress> {
        let info = self.info(&hooks.device, hooks.peak_flops);
        (hooks.observe)(&Event::Started(info))?;
        let now = Instant::now();
        let meter = Meter {
            start: now,
            last_read: now,
            last_tokens: self.tokens,
            last_step: self.step,
            losses: (0.0, 0),
            skipped_in_a_row: 0,
        };
        Ok(Progress { first_step: self.step, meter })
    }

    /// One step and what is due after it. Gives a reason if the run is to end.
    pub async fn advance(
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
        let meter = &mut progress.meter;
        self.step();

        let train = &self.config.train;
        let at_end = self.step == last_step;
        let due = |interval: u64| interval > 0 && self.step.is_multiple_of(interval);
        let interrupted = (hooks.interrupted)();
        let evaluation_due = (due(train.eval_interval) || at_end) && self.evaluates();
        let sample_due = (due(train.sample_interval) || at_end) && self.writes();
        let save_due = train.save_interval.is_some_and(due) || at_end || interrupted;

        let pauses = evaluation_due || sample_due || save_due;
        if due(train.log_interval) || self.step == progress.first_step + 1 || pauses {
            self.read_losses(meter, hooks).await?;
        }
        let mut is_best = false;
        if evaluation_due {
            is_best = self.evaluate(meter, hooks).await?;
        }
        let exhausted = evaluation_due && self.early_stop.exhausted();
        let with_evaluation = evaluation_due && self.config.train.save_interval.is_none();
        if save_due || is_best || with_evaluation || exhausted {
            let files = self.checkpoint().await?;
            let path = (hooks.save)(self.step, &files, is_best)?;
            (hooks.observe)(&Event::Checkpoint(CheckpointReport { step: self.step, path, is_best }))?;
        }
        if sample_due && !interrupted {
            self.sample(hooks).await?;
        }
        if pauses {
            // What happened between steps is not training time.
            meter.restart(self);
        }
        Ok(match (at_end, interrupted, exhausted) {
            (true, ..) => Some(if exhausted { FinishReason::EarlyStopped } else { ended }),
            (_, true, _) => Some(FinishReason::Interrupted),
            (.., true) => Some(FinishReason::EarlyStopped),
            _ => None,
        })
    }

    /// Reports the losses that are still on the device, before a pause.
    pub async fn settle(&mut self, progress: &mut Progress, hooks: &mut Hooks<'_>) -> Result<()> {
        self.read_losses(&mut progress.meter, hooks).await
    }

    /// Goes on after a pause, which was not training time.
    pub fn restart_clock(&self, progress: &mut Progress) {
        progress.meter.restart(self);
    }

    /// The end of a run.
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

    /// What is about to run, on a device of this name and measured peak (FLOP/s).
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
            uniform_loss: self.config.model.uniform_loss(),
            has_perplexity: self.config.model.has_perplexity(),
            notes: self.dataset.notes.iter().chain(&self.notes).cloned().collect(),
        }
    }

    fn writes(&self) -> bool {
        self.config.model.architecture != Architecture::Encoder
    }

    fn evaluates(&self) -> bool {
        self.config.train.eval_interval > 0 && !self.dataset.val.is_empty()
    }

    /// Reads what the steps since the last reading left on the device, and reports it.
    async fn read_losses(&mut self, meter: &mut Meter, hooks: &mut Hooks<'_>) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return Ok(());
        }
        let width = pending.first().map_or(2, |step| step.numbers.dims()[0]);
        let numbers = Tensor::cat(pending.iter().map(|step| step.numbers.clone()).collect(), 0);
        let failed = |message| device_failed(&self.device, "training", message);
        let data = numbers.into_data_async().await.map_err(|e| failed(e.to_string()))?;
        let numbers = data.try_into_vec_as::<f32>().map_err(|e| failed(format!("{e:?}")))?;

        let seconds = meter.last_read.elapsed().as_secs_f64().max(1e-9);
        let tokens_per_second = (self.tokens - meter.last_tokens) as f64 / seconds;
        let steps_per_second = (self.step - meter.last_step) as f64 / seconds;
        let mfu = hooks.peak_flops.map(|peak| self.flops_per_step() * steps_per_second / peak);
        for (PendingStep { step, tokens, learning_rate, .. }, numbers) in
            pending.into_iter().zip(numbers.chunks_exact(width))
        {
            let (loss, grad_norm) = (numbers[0], numbers[1]);
            if !(loss.is_finite() && grad_norm.is_finite()) {
                self.not_finite(step, loss, grad_norm, meter, hooks)?;
                continue;
            }
            meter.skipped_in_a_row = 0;
            meter.losses.0 += f64::from(loss);
            meter.losses.1 += 1;
            (hooks.observe)(&Event::Step(StepReport {
                step,
                loss,
                grad_norm,
                learning_rate,
                tokens,
                tokens_per_second,
                mfu,
                epoch: self.loader.epoch(step),
                seconds: meter.start.elapsed().as_secs_f64(),
                router: RouterReport::of(&numbers[2..]),
            }))?;
        }
        meter.restart(self);
        Ok(())
    }

    /// Ends the run, or counts a step that had no effect.
    fn not_finite(
        &mut self,
        step: u64,
        loss: f32,
        grad_norm: f32,
        meter: &mut Meter,
        hooks: &mut Hooks,
    ) -> Result<()> {
        let batch = self.loader.describe(step - 1);
        let skipped = self.skipped_in_a_row(meter);
        if skipped.is_none_or(|steps| steps >= MAX_SKIPPED_IN_A_ROW) {
            return Err(Error::NonFiniteLoss { step, loss, grad_norm: Some(grad_norm), batch, skipped });
        }
        meter.skipped_in_a_row += 1;
        self.skipped_steps += 1;
        (hooks.observe)(&Event::Skipped { step, loss, grad_norm, batch })
    }

    /// How many steps were skipped just before; `None` where steps are not skipped.
    fn skipped_in_a_row(&self, meter: &Meter) -> Option<u64> {
        (self.config.train.on_nan == OnNonFinite::Skip).then_some(meter.skipped_in_a_row)
    }

    /// Evaluates on the validation split; true if it is the best result so far.
    async fn evaluate(&mut self, meter: &mut Meter, hooks: &mut Hooks<'_>) -> Result<bool> {
        let start = Instant::now();
        let train = &self.config.train;
        let batches = evaluation_batches(
            self.dataset.val.clone(),
            self.cut.clone(),
            train.batch_size,
            train.eval_batches,
        );
        let result = evaluate(&self.trained_model(), &self.config.model, batches, &self.device).await?;
        if !result.loss.is_finite() {
            // The weights are spoilt, though every training loss so far was finite.
            return Err(Error::NonFiniteLoss {
                step: self.step,
                loss: result.loss as f32,
                grad_norm: None,
                batch: "the validation split".into(),
                skipped: self.skipped_in_a_row(meter),
            });
        }
        let is_best = self.early_stop.observe(result.loss, self.step);
        let (sum, count) = std::mem::take(&mut meter.losses);
        (hooks.observe)(&Event::Evaluation(EvaluationReport {
            step: self.step,
            train_loss: (count > 0).then(|| sum / f64::from(count)),
            val_loss: result.loss,
            perplexity: result.perplexity,
            exact_match: result.exact_match.filter(|_| self.dataset.val.answers().are_texts()),
            macro_f1: result.classes.as_ref().map(Confusion::macro_f1),
            is_best,
            seconds: start.elapsed().as_secs_f64(),
        }))?;
        Ok(is_best)
    }

    /// Lets the model write.
    async fn sample(&self, hooks: &mut Hooks<'_>) -> Result<()> {
        let sample = &self.config.sample;
        let model = self.trained_model();
        let generator = Generator {
            model: &model,
            config: &self.config.model,
            tokenizer: &self.dataset.tokenizer,
            device: &self.device,
        };
        let written = generator.generate(sample, &mut |_| {}, &|| false).await;
        let written = written.map_err(|error| error.with_origin(format!("step {}", self.step)))?;
        // What a decoder beside an encoder generates does not continue the prompt.
        let text = match self.config.model.architecture {
            Architecture::EncoderDecoder => written.text,
            _ => format!("{}{}", sample.prompt, written.text),
        };
        (hooks.observe)(&Event::Sample(SampleReport { step: self.step, text }))
    }
}

impl Meter {
    fn restart(&mut self, trainer: &Trainer) {
        self.last_read = Instant::now();
        self.last_tokens = trainer.tokens;
        self.last_step = trainer.step;
    }
}
