//! Selects the modules that an adapter changes, with the rank and the scale of each.

use crate::{
    config::{ALL_LINEAR, AdapterConfig},
    error::{Error, Result, hint},
    model::{families::NamedMatrix, parameters::matches},
};
use std::collections::{BTreeMap, BTreeSet};

/// A module that gets a low-rank change.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    pub matrix: NamedMatrix,
    pub rank: usize,
    pub alpha: f64,
}

/// Selects the modules of `matrices` that a configuration adapts.
///
/// # Errors
/// [`Error::InvalidValue`] for a name that no module has, a layer that the model does not have, layers without a
/// module to train, and a module that is both adapted and saved as a whole.
pub fn select(config: &AdapterConfig, matrices: &[NamedMatrix]) -> Result<Vec<Target>> {
    let layers: BTreeSet<usize> = matrices.iter().filter_map(layer).collect();
    if let Some(missing) = config.layers.iter().find(|layer| !layers.contains(*layer)) {
        let message = format!("the model has the layers 0 to {}", layers.last().copied().unwrap_or(0));
        return Err(Error::invalid_value("adapter.layers", missing, message));
    }
    let in_layers = |matrix: &NamedMatrix| {
        config.layers.is_empty() || layer(matrix).is_none_or(|layer| config.layers.contains(&layer))
    };
    let mut selected = BTreeSet::new();
    for target in &config.targets {
        let is_meant = |matrix: &&NamedMatrix| match target.as_str() {
            ALL_LINEAR => is_usual(matrix),
            name => is_named(&matrix.module, name),
        };
        let mut meant = matrices.iter().filter(is_meant).peekable();
        if meant.peek().is_none() {
            return Err(no_such_module("adapter.targets", target, matrices));
        }
        selected.extend(meant.filter(|matrix| in_layers(matrix)).map(|matrix| &matrix.module));
    }
    if selected.is_empty() && config.modules_to_save.is_empty() && !config.layers.is_empty() {
        let message = "no module of `adapter.targets` is in these layers, so that nothing would be trained";
        return Err(Error::invalid_value("adapter.layers", format!("{:?}", config.layers), message));
    }
    for (key, names) in [
        ("adapter.rank_pattern", config.rank_pattern.keys().collect::<Vec<_>>()),
        ("adapter.alpha_pattern", config.alpha_pattern.keys().collect()),
        ("adapter.modules_to_save", config.modules_to_save.iter().collect()),
    ] {
        for name in names {
            let mut named = matrices.iter().filter(|matrix| is_named(&matrix.module, name)).peekable();
            if named.peek().is_none() {
                return Err(no_such_module(key, name, matrices));
            }
            let is_saved = key == "adapter.modules_to_save";
            if let Some(both) = named.find(|matrix| is_saved && selected.contains(&matrix.module)) {
                return Err(Error::InvalidValue {
                    key: key.into(),
                    value: name.clone(),
                    message: format!("`{}` would be both changed and saved as a whole", both.module),
                    hint: Some(hint!["leave it out here or in ", hint::key("adapter.targets")]),
                });
            }
        }
    }
    let targets = matrices.iter().filter(|matrix| selected.contains(&matrix.module));
    Ok(targets
        .map(|matrix| Target {
            matrix: matrix.clone(),
            rank: for_module(&config.rank_pattern, &matrix.module).unwrap_or(config.r),
            alpha: for_module(&config.alpha_pattern, &matrix.module).unwrap_or(config.alpha),
        })
        .collect())
}

/// Modules of which a configuration saves whole copies.
pub(super) fn saved<'a>(config: &AdapterConfig, matrices: &'a [NamedMatrix]) -> Vec<&'a NamedMatrix> {
    let is_saved =
        |matrix: &&NamedMatrix| config.modules_to_save.iter().any(|name| is_named(&matrix.module, name));
    matrices.iter().filter(is_saved).collect()
}

/// Whether a name stands for a module: the whole name, its end after a dot, or a pattern with `*` for either.
pub(super) fn is_named(module: &str, name: &str) -> bool {
    matches(module, name) || matches(module, &format!("*.{name}"))
}

/// Value of the longest name that stands for a module.
fn for_module<T: Copy>(patterns: &BTreeMap<String, T>, module: &str) -> Option<T> {
    let named = patterns.iter().filter(|(name, _)| is_named(module, name));
    named.max_by_key(|(name, _)| name.len()).map(|(_, value)| *value)
}

/// Whether a matrix is one of those that `all-linear` names: linear layers, but neither those that choose experts nor
/// those that make the output.
fn is_usual(matrix: &NamedMatrix) -> bool {
    let name = &matrix.parameter;
    let chooses = [".router.", ".shared_gate."].iter().any(|part| name.contains(part));
    (name.contains("blocks.") && !chooses) || name.starts_with("head.transform.")
}

/// Number of the layer that a matrix belongs to.
fn layer(matrix: &NamedMatrix) -> Option<usize> {
    let (_, rest) = matrix.parameter.split_once("blocks.")?;
    rest.split('.').next()?.parse().ok()
}

fn no_such_module(key: &str, name: &str, matrices: &[NamedMatrix]) -> Error {
    let inner = matrices.iter().find(|matrix| matrix.parameter.contains("blocks."));
    let example = inner.or(matrices.first()).map_or("", |matrix| matrix.module.as_str());
    Error::InvalidValue {
        key: key.into(),
        value: name.into(),
        message: "no module of the model has this name".into(),
        hint: Some(
            format!("names are like `{example}` or the end of one, and `*` stands for any characters").into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Activation, ModelConfig, MoeConfig, Position},
        model::families::Family,
    };

    fn llama() -> Vec<NamedMatrix> {
        Family::LLAMA.matrices(&ModelConfig {
            vocab_size: 11,
            n_layer: 2,
            position: Position::Rotary,
            activation: Activation::Swiglu,
            tie_embeddings: false,
            ..Default::default()
        })
    }

    fn names(config: &AdapterConfig, matrices: &[NamedMatrix]) -> Vec<String> {
        select(config, matrices).unwrap().into_iter().map(|target| target.matrix.module).collect()
    }

    fn with_targets(targets: &[&str]) -> AdapterConfig {
        let targets = targets.iter().map(|target| (*target).to_owned()).collect();
        AdapterConfig { targets, ..Default::default() }
    }

    #[test]
    fn all_linear_layers_are_those_of_the_blocks() {
        let all = names(&AdapterConfig::default(), &llama());
        assert_eq!(all.len(), 14);
        assert!(all.iter().all(|name| name.ends_with("_proj")), "{all:?}");
        let experts = ModelConfig {
            vocab_size: 11,
            n_layer: 1,
            position: Position::Rotary,
            activation: Activation::Swiglu,
            moe: MoeConfig { n_experts: 2, shared_expert_inner: Some(8), ..Default::default() },
            ..Default::default()
        };
        let all = names(&AdapterConfig::default(), &Family::QWEN2_MOE.matrices(&experts));
        assert_eq!(all.len(), 4 + 3 + 2 * 3, "{all:?}");
        assert!(all.iter().all(|name| !name.ends_with("gate")), "{all:?}");
    }

    #[test]
    fn names_may_be_ends_or_patterns() {
        let attention = "model.layers.1.self_attn";
        let mut config = with_targets(&["q_proj", "model.layers.1.self_attn.v_proj", "embed_tokens"]);
        assert_eq!(names(&config, &llama()).len(), 4);
        config = with_targets(&["layers.1.*_proj"]);
        assert_eq!(names(&config, &llama()).len(), 7);
        config.layers = vec![0];
        let error = select(&config, &llama()).unwrap_err().to_string();
        assert!(error.contains("`[0]` for `adapter.layers`"), "{error}");
        config = AdapterConfig { layers: vec![1], ..with_targets(&["self_attn.q_proj", "o_proj"]) };
        config.rank_pattern = BTreeMap::from([("q_proj".to_owned(), 2)]);
        config.alpha_pattern = BTreeMap::from([(format!("{attention}.o_proj"), 3.0)]);
        let targets = select(&config, &llama()).unwrap();
        let found: Vec<_> = targets.iter().map(|t| (t.matrix.module.clone(), t.rank, t.alpha)).collect();
        assert_eq!(
            found,
            [(format!("{attention}.q_proj"), 2, 32.0), (format!("{attention}.o_proj"), 16, 3.0)]
        );
    }

    #[test]
    fn the_longest_name_counts_where_several_stand_for_a_module() {
        let mut config = with_targets(&["q_proj"]);
        let ranks = [("q_proj", 2), ("layers.1.self_attn.q_proj", 3), ("*.q_proj", 4)];
        config.rank_pattern = ranks.map(|(name, rank)| (name.to_owned(), rank)).into();
        let targets = select(&config, &llama()).unwrap();
        let ranks: Vec<usize> = targets.iter().map(|target| target.rank).collect();
        assert_eq!(ranks, [4, 3]);
    }

    #[test]
    fn names_of_nothing_are_refused() {
        let refused = |config: AdapterConfig, key: &str| {
            let error = select(&config, &llama()).unwrap_err();
            assert!(matches!(&error, Error::InvalidValue { key: found, .. } if found == key), "{error}");
            error.hint().map(|hint| hint.to_string())
        };
        let hint = refused(with_targets(&["c_attn"]), "adapter.targets").unwrap();
        assert!(hint.contains("`model.layers.0.self_attn.q_proj`"), "{hint}");
        refused(with_targets(&["proj"]), "adapter.targets");
        refused(AdapterConfig { layers: vec![2], ..Default::default() }, "adapter.layers");
        let pattern = BTreeMap::from([("x".to_owned(), 2)]);
        refused(AdapterConfig { rank_pattern: pattern, ..Default::default() }, "adapter.rank_pattern");
        let saved = vec!["q_proj".to_owned()];
        refused(AdapterConfig { modules_to_save: saved, ..Default::default() }, "adapter.modules_to_save");
    }
}
