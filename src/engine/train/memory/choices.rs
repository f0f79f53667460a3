//! Settings that change the memory of a run, by their keys and names.

use super::MemoryKind;
use crate::config::Config;
use serde_json::Value;

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

/// What is computed again in the backward pass (`train.recompute`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recompute {
    None,
    /// The feed-forward layers, of which only the input is kept.
    Selective,
    /// Every n-th block, the first one included.
    Every(u128),
}

/// Where the moments are between updates (`train.offload`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offload {
    None,
    /// In the main memory.
    Main,
    Disk,
}

impl Choices {
    pub fn of(config: &Config) -> Self {
        Self::read(&serde_json::to_value(&config.train).unwrap_or_default())
    }

    /// Reads the settings from the section `train`.
    fn read(train: &Value) -> Self {
        let text = |key: &str| train.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let recompute = text("recompute");
        let recompute = match recompute.strip_prefix("every ") {
            Some(blocks) => Recompute::Every(blocks.trim().parse().unwrap_or(1)),
            None => match recompute.as_str() {
                "selective" => Recompute::Selective,
                "blocks" => Recompute::Every(1),
                _ => Recompute::None,
            },
        };
        Self {
            recompute,
            half: matches!(text("dtype").as_str(), "bf16" | "f16"),
            offload: match text("offload").as_str() {
                "optimizer" => Offload::Main,
                "optimizer-disk" => Offload::Disk,
                _ => Offload::None,
            },
            moment_bytes: moment_bytes(&text("optimizer")),
        }
    }

    /// Whether the moments are in another memory than the run.
    pub fn offloads(self, kind: MemoryKind) -> bool {
        match self.offload {
            Offload::None => false,
            Offload::Main => kind == MemoryKind::Device,
            Offload::Disk => true,
        }
    }

    /// Bytes of a saved activation. The residual stream is in f32, and so is everything on the CPU, whatever type the
    /// products compute in.
    pub fn activation_bytes(self, on_cpu: bool) -> u128 {
        if self.half && !on_cpu { 2 } else { 4 }
    }
}

/// Bytes of an optimizer's moments for each trained number.
fn moment_bytes(optimizer: &str) -> f64 {
    match optimizer {
        // A number of one byte each, and the largest of a block of 256 in f32.
        "adamw-8bit" => 2.0 * (1.0 + 4.0 / 256.0),
        // A row and a column of each matrix.
        "adafactor" => 0.0,
        "sgd" | "lion" | "muon" => 4.0,
        _ => 8.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_are_told_by_their_names() {
        let read = |train: Value| Choices::read(&train);
        let usual = Choices::of(&Config::default());
        assert_eq!((usual.recompute, usual.half, usual.moment_bytes), (Recompute::None, false, 8.0));
        assert_eq!(read(json!({})), usual);
        assert_eq!(read(json!({ "recompute": "every 3" })).recompute, Recompute::Every(3));
        assert_eq!(read(json!({ "recompute": "blocks" })).recompute, Recompute::Every(1));
        assert_eq!(read(json!({ "recompute": "selective" })).recompute, Recompute::Selective);
        let half = read(json!({ "dtype": "bf16", "optimizer": "adamw-8bit" }));
        assert_eq!((half.activation_bytes(true), half.activation_bytes(false)), (4, 2));
        assert_eq!(half.moment_bytes, 2.03125);
        let cpu = MemoryKind::Main { program: 0 };
        let offloads = |name: &str| {
            let choices = read(json!({ "offload": name }));
            (choices.offloads(MemoryKind::Device), choices.offloads(cpu))
        };
        assert_eq!(offloads("none"), (false, false));
        assert_eq!(offloads("optimizer"), (true, false));
        assert_eq!(offloads("optimizer-disk"), (true, true));
    }
}
