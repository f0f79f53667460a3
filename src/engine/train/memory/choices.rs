//! Settings of the training loop that change the memory of a run.

use super::MemoryKind;
use crate::config::{Config, Offload, OptimizerKind, Recompute, TrainConfig};

/// Settings of the training loop that change memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choices {
    pub recompute: Recompute,
    /// Whether activations are in a type of two bytes.
    half: bool,
    offload: Offload,
    /// Bytes of the moments for each trained number.
    pub moment_bytes: f64,
}

impl Choices {
    pub fn of(config: &Config) -> Self {
        let TrainConfig { recompute, dtype, offload, optimizer, .. } = config.train;
        Self { recompute, half: dtype.is_small(), offload, moment_bytes: moment_bytes(optimizer) }
    }

    /// Whether the moments are in another memory than the run.
    pub fn offloads(self, kind: MemoryKind) -> bool {
        match self.offload {
            Offload::None => false,
            Offload::Optimizer => kind == MemoryKind::Device,
            Offload::OptimizerDisk => true,
        }
    }

    /// Bytes of a saved activation. The residual stream is in f32, and so is everything on the CPU, whatever type the
    /// products compute in.
    pub fn activation_bytes(self, on_cpu: bool) -> u128 {
        if self.half && !on_cpu { 2 } else { 4 }
    }
}

/// Bytes of an optimizer's moments for each trained number.
fn moment_bytes(optimizer: OptimizerKind) -> f64 {
    match optimizer {
        // A number of one byte each, and the largest of a block of 256 in f32.
        OptimizerKind::Adamw8Bit => 2.0 * (1.0 + 4.0 / 256.0),
        // A row and a column of each matrix.
        OptimizerKind::Adafactor => 0.0,
        OptimizerKind::Sgd | OptimizerKind::Lion | OptimizerKind::Muon => 4.0,
        OptimizerKind::Adamw | OptimizerKind::Adam => 8.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_those_of_the_configuration() {
        let of = |overrides: &[&str]| {
            let mut config = Config::default();
            config.apply(&overrides.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap();
            Choices::of(&config)
        };
        let usual = of(&[]);
        assert_eq!((usual.recompute, usual.half, usual.moment_bytes), (Recompute::None, false, 8.0));
        assert_eq!(of(&["train.recompute=every 3"]).recompute, Recompute::Every(3));
        let half = of(&["train.dtype=bf16", "train.optimizer=adamw-8bit"]);
        assert_eq!((half.activation_bytes(true), half.activation_bytes(false)), (4, 2));
        assert_eq!(half.moment_bytes, 2.03125);
        let cpu = MemoryKind::Main { program: 0 };
        let offloads = |name: &str| {
            let choices = of(&[&format!("train.offload={name}")]);
            (choices.offloads(MemoryKind::Device), choices.offloads(cpu))
        };
        assert_eq!(offloads("none"), (false, false));
        assert_eq!(offloads("optimizer"), (true, false));
        assert_eq!(offloads("optimizer-disk"), (true, true));
    }
}
