//! The training loop's settings.

use serde::{Deserialize, Serialize};

/// Length, batch, optimizer, schedule, and what happens how often.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Names of parameters that are not trained; `*` stands for any characters.
    pub freeze: Vec<String>,
    /// Rows per micro-batch.
    pub batch_size: usize,
    /// Micro-batches per optimizer step.
    pub gradient_accumulation_steps: usize,
    /// Optimizer steps of the whole schedule.
    pub max_steps: u64,
    /// End cleanly at this step although the schedule goes on to `max_steps`; 0: do not.
    pub stop_after: u64,

    pub optimizer: OptimizerKind,
    pub learning_rate: f64,
    pub schedule: ScheduleKind,
    /// Steps of linear warmup from 0.
    pub warmup_steps: u64,
    /// Steps until `min_lr` is reached; 0: `max_steps`. Warmup-stable-decay: steps of the final decay, 0: a fifth of `max_steps`.
    pub decay_steps: u64,
    /// The lowest learning rate that a decaying schedule reaches.
    pub min_lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    /// Momentum of SGD and Muon.
    pub momentum: f64,
    /// Decay of matrices and embeddings; vectors (biases, norms) are never decayed.
    pub weight_decay: f64,
    /// Largest global gradient norm; 0: no clipping.
    pub grad_clip: f64,
    /// Decay of the exponential moving average of the weights; 0: none is kept.
    pub ema_decay: f64,

    /// Steps between evaluations; 0: none.
    pub eval_interval: u64,
    /// Batches per evaluation; 0: the whole split.
    pub eval_batches: usize,
    /// Steps between reads of the loss from the device.
    pub log_interval: u64,
    /// Steps between checkpoints; 0: at evaluations and at the end.
    pub save_interval: u64,
    /// Checkpoints kept besides the best one.
    pub keep_checkpoints: usize,
    /// Steps between samples of text; 0: only at the end.
    pub sample_interval: u64,
    /// Evaluations without improvement after which the run stops; 0: never.
    pub early_stopping_patience: u64,
    /// Decrease of the validation loss that counts as improvement.
    pub early_stopping_min_delta: f64,
    /// What to do when the loss is NaN or infinite.
    pub on_nan: OnNonFinite,
    pub seed: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            freeze: Vec::new(),
            batch_size: 12,
            gradient_accumulation_steps: 1,
            max_steps: 2000,
            stop_after: 0,
            optimizer: OptimizerKind::Adamw,
            learning_rate: 1e-3,
            schedule: ScheduleKind::Cosine,
            warmup_steps: 100,
            decay_steps: 0,
            min_lr: 1e-4,
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-8,
            momentum: 0.95,
            weight_decay: 0.1,
            grad_clip: 1.0,
            ema_decay: 0.0,
            eval_interval: 250,
            eval_batches: 20,
            log_interval: 10,
            save_interval: 0,
            keep_checkpoints: 2,
            sample_interval: 500,
            early_stopping_patience: 0,
            early_stopping_min_delta: 0.0,
            on_nan: OnNonFinite::Stop,
            seed: 1337,
        }
    }
}

impl TrainConfig {
    /// The step at which the run ends.
    pub fn last_step(&self) -> u64 {
        if self.stop_after == 0 { self.max_steps } else { self.stop_after.min(self.max_steps) }
    }
}

/// The optimizers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerKind {
    /// arXiv:1711.05101
    Adamw,
    /// arXiv:1412.6980, weight decay added to the gradient
    Adam,
    /// With momentum, weight decay added to the gradient
    Sgd,
    /// arXiv:2302.06675
    Lion,
    /// Muon for the matrices inside blocks, AdamW for the rest (kellerjordan.github.io/posts/muon)
    Muon,
}

/// The learning-rate schedules. All warm up first; none rises again after its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    Constant,
    /// A straight line down to `min_lr`
    Linear,
    /// Half a cosine down to `min_lr`
    Cosine,
    /// Constant, then a straight line to `min_lr` over the last `decay_steps` (arXiv:2404.06395)
    Wsd,
    /// `√(warmup / step)` (arXiv:1706.03762), not below `min_lr`
    InverseSqrt,
}

/// What to do when the loss is NaN or infinite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnNonFinite {
    /// End the run with an error; the last checkpoint stays.
    Stop,
    /// Leave weights, moments and average untouched by that step and go on. It still counts as a
    /// step of the schedule and of Adam's bias correction.
    Skip,
}
