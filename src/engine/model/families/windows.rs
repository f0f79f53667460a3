//! Converts between the two ways to say which layers have a sliding window. transformers lists the type of
//! each layer; Kiln has a rule: one in `full_attention_every` layers attends to everything, and the others
//! have the window.

use super::Fields;
use crate::{
    config::{AttentionConfig, ModelConfig},
    error::Result,
};
use serde_json::Value;

pub(super) const FULL: &str = "full_attention";
pub(super) const SLIDING: &str = "sliding_attention";

/// Largest number of layers that is examined. A configuration with more is refused later, before anything is
/// made for each of them.
const MOST_LAYERS: usize = 1 << 24;

/// Key and value that decide which layers have a sliding window, for messages.
pub(super) struct Origin<'a> {
    pub key: &'a str,
    pub value: &'a Value,
}

/// Makes a configuration in which the layers selected by `is_sliding` have a window of `window` tokens.
///
/// # Errors
/// [`Error::Checkpoint`](crate::Error::Checkpoint) if there are sliding layers but no length of the window,
/// or if no rule of Kiln's selects these layers.
pub(super) fn with_windows(
    fields: &Fields,
    config: ModelConfig,
    window: Option<usize>,
    origin: &Origin,
    is_sliding: impl Fn(usize) -> bool,
) -> Result<ModelConfig> {
    let layers = config.n_layer;
    if layers > MOST_LAYERS || !(0..layers).any(&is_sliding) {
        return Ok(config);
    }
    let Origin { key, value } = origin;
    let window = window.filter(|window| *window > 0).ok_or_else(|| {
        fields.failed(format!("`{key}` is `{value}`, but `sliding_window` gives its layers no window"))
    })?;
    let (full_attention_every, full_attention_offset) =
        rule(layers, |layer| !is_sliding(layer)).ok_or_else(|| {
            fields.unsupported(key, value, "layers without a sliding window at equal distances")
        })?;
    let attention = AttentionConfig {
        sliding_window: Some(window),
        full_attention_every,
        full_attention_offset,
        ..config.attention
    };
    Ok(ModelConfig { attention, ..config })
}

/// Finds `model.attention.full_attention_every` and `model.attention.full_attention_offset` that select
/// exactly the layers with full attention; `None` if that is impossible.
fn rule(layers: usize, is_full: impl Fn(usize) -> bool) -> Option<(Option<usize>, usize)> {
    let mut full = (0..layers).filter(|layer| is_full(*layer));
    let Some(first) = full.next() else { return Some((None, 0)) };
    let every = full.next().map_or(layers, |second| second - first);
    let agrees = |layer: usize| (layer % every == first) == is_full(layer);
    (first < every && (0..layers).all(agrees)).then_some((Some(every), first))
}

/// Canonical form of the rule, which is equal if the same layers have a window. There is no window if no
/// layer has one.
pub(super) fn canonical(config: ModelConfig) -> ModelConfig {
    let (layers, attention) = (config.n_layer, config.attention);
    if attention.sliding_window.is_none() || layers > MOST_LAYERS {
        return config;
    }
    let is_sliding = (0..layers).any(|layer| config.is_sliding(layer));
    let found = if is_sliding { rule(layers, |layer| !config.is_sliding(layer)) } else { Some((None, 0)) };
    let (full_attention_every, full_attention_offset) =
        found.unwrap_or((attention.full_attention_every, attention.full_attention_offset));
    let attention = AttentionConfig {
        sliding_window: attention.sliding_window.filter(|_| is_sliding),
        full_attention_every,
        full_attention_offset,
        ..attention
    };
    ModelConfig { attention, ..config }
}

/// Whether each layer has a sliding window, read from the list in `config.json`; `None` if there is no list.
pub(super) fn listed(fields: &Fields, layers: usize) -> Result<Option<Vec<bool>>> {
    let Some(types) = fields.get("layer_types") else { return Ok(None) };
    let listed = types.as_array().map(Vec::as_slice).unwrap_or_default();
    let is_sliding = |found: &Value| match found.as_str() {
        Some(FULL) => Some(false),
        Some(SLIDING) => Some(true),
        _ => None,
    };
    match listed.iter().map(is_sliding).collect::<Option<Vec<bool>>>() {
        Some(is_sliding) if is_sliding.len() == layers => Ok(Some(is_sliding)),
        _ => {
            let needed = format!("{layers} layers of full or sliding attention");
            Err(fields.unsupported("layer_types", types, &needed))
        }
    }
}

/// Makes the list of layer types for `config.json`.
pub(super) fn layer_types(config: &ModelConfig) -> Value {
    (0..config.n_layer).map(|layer| if config.is_sliding(layer) { SLIDING } else { FULL }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rule for a drawing of layers, in which `#` has a window and `.` has none.
    fn found(drawn: &str) -> Option<(Option<usize>, usize)> {
        let layers = drawn.as_bytes();
        rule(layers.len(), |layer| layers[layer] == b'.')
    }

    #[test]
    fn layers_are_found_by_their_rule() {
        for (drawn, expected) in [
            ("####", Some((None, 0))),
            ("#.#.", Some((Some(2), 1))),
            (".##.##.", Some((Some(3), 0))),
            ("##.#", Some((Some(4), 2))),
            ("....", Some((Some(1), 0))),
            ("..##", None),
            ("#..#", None),
            ("##.#.", None),
        ] {
            assert_eq!(found(drawn), expected, "{drawn}");
        }
    }

    #[test]
    fn rules_for_the_same_layers_are_one() {
        let config = |sliding_window, full_attention_every, full_attention_offset, n_layer| {
            let attention = AttentionConfig {
                sliding_window,
                full_attention_every,
                full_attention_offset,
                ..Default::default()
            };
            canonical(ModelConfig { attention, n_layer, ..Default::default() })
        };
        assert_eq!(config(Some(4), Some(2), 1, 1), config(Some(4), None, 0, 1));
        assert_eq!(config(Some(4), Some(7), 2, 4), config(Some(4), Some(4), 2, 4));
        assert_eq!(config(Some(4), Some(1), 0, 3), config(None, None, 0, 3));
        assert_ne!(config(Some(4), Some(2), 1, 2), config(Some(4), Some(2), 0, 2));
    }
}
