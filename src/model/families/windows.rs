//! Which layers have a sliding window. transformers lists the type of each layer; Kiln has a rule: one in
//! so many layers sees everything, and the others have the window.

use super::Fields;
use crate::{config::ModelConfig, error::Result};
use serde_json::Value;

pub(super) const FULL: &str = "full_attention";
pub(super) const SLIDING: &str = "sliding_attention";

/// A configuration with more layers is refused later, before anything is made for each of them.
const MOST_LAYERS: usize = 1 << 24;

/// What decides which layers slide, for messages.
pub(super) struct Origin<'a> {
    pub key: &'a str,
    pub value: &'a Value,
}

/// A configuration in which layers that `slide` have a window of so many tokens.
///
/// # Errors
/// For layers that slide without the length of a window, and for layers that no rule of Kiln's gives.
pub(super) fn with_windows(
    fields: &Fields,
    config: ModelConfig,
    window: Option<usize>,
    origin: &Origin,
    slide: impl Fn(usize) -> bool,
) -> Result<ModelConfig> {
    let layers = config.n_layer;
    if layers > MOST_LAYERS || !(0..layers).any(&slide) {
        return Ok(config);
    }
    let Origin { key, value } = origin;
    let window = window.filter(|window| *window > 0).ok_or_else(|| {
        fields.failed(format!("`{key}` is `{value}`, but `sliding_window` gives its layers no window"))
    })?;
    let (global_every, global_offset) = rule(layers, |layer| !slide(layer)).ok_or_else(|| {
        fields.unsupported(key, value, "layers without a sliding window at equal distances")
    })?;
    Ok(ModelConfig { sliding_window: window, global_every, global_offset, ..config })
}

/// `model.global_every` and `model.global_offset` that make exactly the layers see everything that should;
/// `None` if there are none.
fn rule(layers: usize, is_global: impl Fn(usize) -> bool) -> Option<(usize, usize)> {
    let mut global = (0..layers).filter(|layer| is_global(*layer));
    let Some(first) = global.next() else { return Some((0, 0)) };
    let every = global.next().map_or(layers, |second| second - first);
    let agrees = |layer: usize| (layer % every == first) == is_global(layer);
    (first < every && (0..layers).all(agrees)).then_some((every, first))
}

/// The same rule for the same layers, however it was written: no window where no layer has one.
pub(super) fn canonical(config: ModelConfig) -> ModelConfig {
    let layers = config.n_layer;
    if config.sliding_window == 0 || layers > MOST_LAYERS {
        return config;
    }
    let slides = (0..layers).any(|layer| config.slides(layer));
    let sliding_window = if slides { config.sliding_window } else { 0 };
    let found = if slides { rule(layers, |layer| !config.slides(layer)) } else { Some((0, 0)) };
    let (global_every, global_offset) = found.unwrap_or((config.global_every, config.global_offset));
    ModelConfig { sliding_window, global_every, global_offset, ..config }
}

/// Whether each layer slides, by the list in `config.json`; `None` where there is no list.
pub(super) fn listed(fields: &Fields, layers: usize) -> Result<Option<Vec<bool>>> {
    let Some(types) = fields.get("layer_types") else { return Ok(None) };
    let listed = types.as_array().map(Vec::as_slice).unwrap_or_default();
    let slides = |found: &Value| match found.as_str() {
        Some(FULL) => Some(false),
        Some(SLIDING) => Some(true),
        _ => None,
    };
    match listed.iter().map(slides).collect::<Option<Vec<bool>>>() {
        Some(slides) if slides.len() == layers => Ok(Some(slides)),
        _ => {
            let needed = format!("{layers} layers of full or sliding attention");
            Err(fields.unsupported("layer_types", types, &needed))
        }
    }
}

/// The list for `config.json`.
pub(super) fn layer_types(config: &ModelConfig) -> Value {
    (0..config.n_layer).map(|layer| if config.slides(layer) { SLIDING } else { FULL }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rule for layers that are drawn: `#` has a window.
    fn found(drawn: &str) -> Option<(usize, usize)> {
        let layers = drawn.as_bytes();
        rule(layers.len(), |layer| layers[layer] == b'.')
    }

    #[test]
    fn layers_are_found_by_their_rule() {
        for (drawn, expected) in [
            ("####", Some((0, 0))),
            ("#.#.", Some((2, 1))),
            (".##.##.", Some((3, 0))),
            ("##.#", Some((4, 2))),
            ("....", Some((1, 0))),
            ("..##", None),
            ("#..#", None),
            ("##.#.", None),
        ] {
            assert_eq!(found(drawn), expected, "{drawn}");
        }
    }

    #[test]
    fn rules_for_the_same_layers_are_one() {
        let config = |sliding_window, global_every, global_offset, n_layer| {
            let config =
                ModelConfig { sliding_window, global_every, global_offset, n_layer, ..Default::default() };
            canonical(config)
        };
        assert_eq!(config(4, 2, 1, 1), config(4, 0, 0, 1));
        assert_eq!(config(4, 7, 2, 4), config(4, 4, 2, 4));
        assert_eq!(config(4, 1, 0, 3), config(0, 0, 0, 3));
        assert_ne!(config(4, 2, 1, 2), config(4, 2, 0, 2));
    }
}
