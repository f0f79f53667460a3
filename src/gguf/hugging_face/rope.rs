//! Scaling of rotary positions. Llama 3's is stored as a tensor: how many times slower each pair of elements
//! rotates.

use crate::Gguf;
use serde_json::{Value, json};
use std::f64::consts::TAU;

/// Name of the tensor with the factors.
pub(super) const FACTORS: &str = "rope_freqs.weight";

/// Largest relative difference of two equal factors that were computed in different ways.
const TOLERANCE: f32 = 1e-4;

/// Context and factors of the models with this scaling, which files do not name.
const ORIGINAL_CONTEXT: f64 = 8192.0;
const LOW: f64 = 1.0;
const HIGH: f64 = 4.0;

/// Makes transformers' `rope_parameters`.
pub(super) fn from_gguf(
    file: &Gguf<'_>,
    prefix: &str,
    theta: f64,
    head_size: usize,
) -> Result<Value, String> {
    let metadata = &file.metadata;
    let key = |name: &str| format!("{prefix}.rope.{name}");
    let kind = metadata.text(&key("scaling.type"))?;
    let factor = match metadata.number(&key("scaling.factor"))? {
        None => metadata.number(&key("scale_linear"))?,
        factor => factor,
    };
    let factor = factor.filter(|factor| *factor != 0.0).unwrap_or(1.0);
    let plain = json!({ "rope_type": "default", "rope_theta": theta });
    let mut rope = match kind {
        Some("none") => plain,
        // As llama.cpp, which takes a factor without a type for this.
        None | Some("linear") if factor == 1.0 => plain,
        None | Some("linear") => json!({ "rope_type": "linear", "rope_theta": theta, "factor": factor }),
        Some(other) => {
            let key = key("scaling.type");
            return Err(format!(
                "`{key}` is `{other}`, but kiln computes only `none`, `linear` and Llama 3's"
            ));
        }
    };
    if let Some(tensor) = file.tensor(FACTORS) {
        if rope["rope_type"] != "default" {
            return Err(format!("it has both a linear scaling and `{FACTORS}`"));
        }
        let factors = tensor.read();
        let factor = f64::from(factors.iter().copied().fold(1.0, f32::max));
        let given = metadata.number(&key("scaling.original_context_length"))?;
        let inferred = factors
            .iter()
            .enumerate()
            .filter_map(|(pair, value)| original_context(theta, head_size, pair, f64::from(*value), factor));
        let is_near = |(a, b): (&f32, &f32)| (a - b).abs() <= TOLERANCE * b.abs();
        let mut candidates = given.into_iter().chain(inferred).chain([ORIGINAL_CONTEXT]);
        let original = candidates.find(|original| {
            let computed = factors_of(theta, head_size, factor, [LOW, HIGH], *original);
            factors.len() == computed.len() && factors.iter().zip(&computed).all(is_near)
        });
        let original = original.ok_or_else(|| {
            format!("the factors in `{FACTORS}` are not Llama 3's, the only ones that kiln computes")
        })?;
        rope = json!({
            "rope_type": "llama3",
            "rope_theta": theta,
            "factor": factor,
            "low_freq_factor": LOW,
            "high_freq_factor": HIGH,
            "original_max_position_embeddings": original as u64,
        });
    }
    Ok(rope)
}

/// The factors of a `config.json` with Llama 3's scaling; `None` for another scaling.
pub(super) fn to_gguf(rope: &Value, theta: f64, head_size: usize) -> Result<Option<Vec<f32>>, String> {
    let kind = rope["rope_type"].as_str().or_else(|| rope["type"].as_str());
    if kind != Some("llama3") {
        return Ok(None);
    }
    let number = |key: &str| rope[key].as_f64().ok_or_else(|| format!("`{key}` of the scaling is missing"));
    let bounds = [number("low_freq_factor")?, number("high_freq_factor")?];
    let original = number("original_max_position_embeddings")?;
    Ok(Some(factors_of(theta, head_size, number("factor")?, bounds, original)))
}

/// The context that a model with this factor of a pair was trained with before it was scaled, which files do
/// not name; `None` if the factor does not depend on it.
fn original_context(theta: f64, head_size: usize, pair: usize, value: f64, factor: f64) -> Option<f64> {
    let smooth = (1.0 / value - 1.0 / factor) / (1.0 - 1.0 / factor);
    let turns = LOW + smooth * (HIGH - LOW);
    (smooth > 0.0 && smooth < 1.0).then(|| (turns * TAU / frequency(theta, head_size, pair)).round())
}

/// Angle that a pair of elements rotates by from one position to the next.
fn frequency(theta: f64, head_size: usize, pair: usize) -> f64 {
    theta.powf(-((2 * pair) as f64) / head_size as f64)
}

/// Factors by which each pair of elements rotates more slowly with Llama 3's scaling (`_compute_llama3_parameters`
/// of transformers).
fn factors_of(theta: f64, head_size: usize, factor: f64, [low, high]: [f64; 2], original: f64) -> Vec<f32> {
    let pairs = (0..head_size / 2).map(|pair| {
        let turns = original * frequency(theta, head_size, pair) / TAU;
        if turns > high {
            1.0
        } else if turns < low {
            factor
        } else {
            let smooth = (turns - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    });
    pairs.map(|value| value as f32).collect()
}
