//! Configuration of the training loop.

use super::{
    Recompute,
    optimizer::{AdafactorConfig, LossScaleConfig, LossScaling, MuonScale, Nesterov, Offload},
};
use crate::{kernels::Precision, section::Range};
use kiln_base::section;
use serde::{Deserialize, Serialize};

section! {
    /// Length, batch, optimizer, schedule, and what happens how often.
    #["train"]
    pub struct TrainConfig {
        /// Names of parameters that are not trained; `*` stands for any characters.
        freeze: Vec<String> = Vec::new();
        /// Rows per micro-batch. `auto`: the rows of a step, divided into as few micro-batches as fit in the device's
        /// memory.
        batch_size: usize = 12, Range::SIZE;
        /// What `batch_size = "auto"` sets: divide the rows of a step so, whose number is `batch_size` ×
        /// `gradient_accumulation_steps`.
        fit_batch: bool = false;
        /// Micro-batches per optimizer step.
        gradient_accumulation_steps: usize = 1, Range::SIZE;
        /// Activations that are computed again in the backward pass instead of saved: `none`; `selective`, those of
        /// the feed-forward layers; `blocks`, all of them; `every 2` or another number, those of every second block.
        recompute: Recompute = Recompute::None;
        /// Type that matrix products round their factors to: `f32`, `tf32` (f32 where a device is not faster in it),
        /// `bf16` or `f16`; weights, sums, norms and losses stay f32.
        dtype: Precision = Precision::F32;
        /// Optimizer steps of the whole schedule.
        max_steps: u64 = 2000, Range::AT_LEAST_ONE;
        /// End cleanly at this step although the schedule goes on to `max_steps`; absent: do not.
        stop_after: Option<u64> = None, Range::AT_LEAST_ONE;

        /// `adamw`, `adamw-8bit`, `adam`, `adafactor`, `sgd`, `lion` or `muon`.
        optimizer: OptimizerKind = OptimizerKind::Adamw;
        /// Highest learning rate.
        learning_rate: f64 = 1e-3, Range::Positive;
        /// `constant`, `linear`, `cosine`, `wsd` or `inverse-sqrt`.
        schedule: ScheduleKind = ScheduleKind::Cosine;
        /// Steps of linear warmup from 0.
        warmup_steps: u64 = 100;
        /// Steps until `min_lr` is reached; absent: `max_steps`. With `wsd` the steps of the final decay; absent: a
        /// fifth of `max_steps`.
        decay_steps: Option<u64> = None, Range::AT_LEAST_ONE;
        /// Lowest learning rate that a decaying schedule reaches.
        min_lr: f64 = 1e-4, Range::FromZero;
        /// Decay of the mean of gradients.
        beta1: f64 = 0.9, Range::Share;
        /// Decay of the mean of squared gradients.
        beta2: f64 = 0.99, Range::Share;
        /// Added to the root of the mean of squared gradients.
        epsilon: f64 = 1e-8, Range::Positive;
        /// Momentum of `sgd` and `muon`.
        momentum: f64 = 0.95, Range::Share;
        /// Share of each gradient but the first that the momentum of `sgd` leaves out.
        dampening: f64 = 0.0, Range::Share;
        /// Optimizers with momentum that look a step ahead, as Nesterov's: `muon`, `all` or `never`.
        nesterov: Nesterov = Nesterov::Muon;
        /// Size of the updates of `muon`: `match-rms-adamw` or `original`.
        muon_scale: MuonScale = MuonScale::MatchRmsAdamw;
        /// Decay of matrices and embeddings; vectors (biases, norms) are never decayed.
        weight_decay: f64 = 0.1, Range::FromZero;
        /// Largest global gradient norm; 0: no clipping.
        grad_clip: f64 = 1.0, Range::FromZero;
        /// Decay of the exponential moving average of the weights; absent: none is kept.
        ema_decay: Option<f64> = None, Range::OpenShare;
        /// Where the optimizer's state is between steps: `none` (on the device), `optimizer` (in the machine's memory) or
        /// `optimizer-disk` (in a file of the run folder that is mapped into memory).
        offload: Offload = Offload::None;

        /// Steps between evaluations; 0: none.
        eval_interval: u64 = 250;
        /// Batches per evaluation; 0: the whole split.
        eval_batches: usize = 20;
        /// Steps between reads of the loss from the device.
        log_interval: u64 = 10, Range::AT_LEAST_ONE;
        /// Steps between checkpoints; absent: at evaluations and at the end.
        save_interval: Option<u64> = None, Range::AT_LEAST_ONE;
        /// Checkpoints kept besides the best one.
        keep_checkpoints: usize = 2, Range::AT_LEAST_ONE;
        /// Steps between samples of text; 0: only at the end.
        sample_interval: u64 = 500;
        /// Evaluations without improvement after which the run stops; absent: never.
        early_stopping_patience: Option<u64> = None, Range::AT_LEAST_ONE;
        /// Decrease of the validation loss that counts as improvement.
        early_stopping_min_delta: f64 = 0.0, Range::FromZero;
        /// Evaluations in a row that call for a warning of overfitting: their validation loss is above the best by
        /// `overfitting_margin`, while the training loss is below that at the best; 0: no warning.
        overfitting_patience: u64 = 3;
        /// Share of the best validation loss that a loss must be above it to count as overfitting.
        overfitting_margin: f64 = 0.02, Range::FromZero;
        /// Measure at the end of `kiln train` what the model has learned by heart, for the report.
        memorization: bool = false;
        /// `stop` or `skip` the step when the loss is NaN or infinite.
        on_nan: OnNonFinite = OnNonFinite::Stop;
        /// Seed of initial weights, data order and dropout.
        seed: u64 = 1337;
    }
    sections {
        /// Adafactor.
        adafactor: AdafactorConfig,
        /// Factor of the loss in f16.
        loss_scale: LossScaleConfig,
    }
}

impl TrainConfig {
    /// Number of the step after which the run ends.
    pub fn last_step(&self) -> u64 {
        self.stop_after.map_or(self.max_steps, |step| step.min(self.max_steps))
    }

    /// Whether the loss is scaled, and steps that overflow are skipped.
    pub fn scales_loss(&self) -> bool {
        match self.loss_scale.scaling {
            LossScaling::Auto => self.dtype == Precision::F16,
            LossScaling::Off => false,
            LossScaling::On => true,
        }
    }
}

/// Optimization algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerKind {
    /// AdamW (arXiv:1711.05101).
    Adamw,
    /// AdamW with moments of 8 bits, in blocks of 256 (arXiv:2110.02861).
    #[serde(rename = "adamw-8bit")]
    Adamw8Bit,
    /// Adam (arXiv:1412.6980), with weight decay added to the gradient.
    Adam,
    /// Adafactor (arXiv:1804.04235), as PyTorch has it.
    Adafactor,
    /// SGD with momentum, with weight decay added to the gradient.
    Sgd,
    /// Lion (arXiv:2302.06675).
    Lion,
    /// Muon for the matrices inside blocks, AdamW for the rest (kellerjordan.github.io/posts/muon).
    Muon,
}

/// Learning-rate schedules. All begin with a warmup; none rises again after its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    Constant,
    /// A straight line down to `min_lr`.
    Linear,
    /// Half a cosine down to `min_lr`.
    Cosine,
    /// Constant, then a straight line to `min_lr` over the last `decay_steps` (arXiv:2404.06395).
    Wsd,
    /// Proportional to `√(warmup / step)` (arXiv:1706.03762), but not below `min_lr`.
    InverseSqrt,
}

/// Action when the loss is NaN or infinite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnNonFinite {
    /// End the run with an error; the last checkpoint is kept.
    Stop,
    /// Skip the step, without changing weights, moments and average. It still counts as a step of the
    /// schedule and of Adam's bias correction.
    Skip,
}
