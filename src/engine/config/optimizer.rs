//! Settings of single optimizers, of where their state is kept, and of the factor of the loss.

use crate::section::Range;
use kiln_base::section;
use serde::{Deserialize, Serialize};

section! {
    /// Adafactor.
    #["train.adafactor"]
    pub struct AdafactorConfig {
        /// The second moment takes the share `1 / step ^ decay_exponent` of new squares (`beta2_decay` of PyTorch, with
        /// the other sign).
        decay_exponent: f64 = 0.8, Range::FromZero;
        /// Smallest root of the second moment.
        epsilon1: f64 = f64::from(f32::EPSILON), Range::Positive;
        /// Smallest root mean square of a parameter's weights that its learning rate is multiplied by.
        epsilon2: f64 = 1e-3, Range::Positive;
        /// Largest root mean square of an update, before the learning rate.
        clip_threshold: f64 = 1.0, Range::FromOne;
    }
}

section! {
    /// Factor of the loss that keeps small gradients above the smallest numbers of f16.
    #["train.loss_scale"]
    pub struct LossScaleConfig {
        /// Whether the loss is scaled: `auto` (in f16 only), `on` or `off`.
        scaling: LossScaling = LossScaling::Auto;
        /// Factor of the first step.
        initial: f64 = 65536.0, Range::FromOne;
        /// The factor is multiplied by this after `interval` steps without an overflow.
        growth: f64 = 2.0, Range::FromOne;
        /// The factor is multiplied by this after an overflow.
        backoff: f64 = 0.5, Range::OpenShare;
        /// Steps in a row without an overflow after which the factor grows.
        interval: u64 = 2000, Range::AT_LEAST_ONE;
        /// The run ends when the factor falls below this.
        floor: f64 = 1.0 / 16384.0, Range::Positive;
    }
}

/// When the loss is scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossScaling {
    /// In f16.
    Auto,
    On,
    Off,
}

/// Optimizers whose momentum is Nesterov's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nesterov {
    Muon,
    All,
    Never,
}

/// Size of Muon's updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MuonScale {
    /// That of AdamW's updates, so that one learning rate serves both (arXiv:2502.16982).
    MatchRmsAdamw,
    /// `√max(1, rows / columns)` (kellerjordan.github.io/posts/muon).
    Original,
}

/// Place of the optimizer's state between steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Offload {
    /// The device.
    None,
    /// The machine's memory.
    Optimizer,
    /// A file that is mapped into memory.
    OptimizerDisk,
}
