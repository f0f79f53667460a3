//! Configuration of adapters: low-rank changes of a pretrained model's matrices, which alone are trained.

use super::Config;
use crate::{
    error::{Error, Result, hint},
    section::Range,
};
use kiln_base::section;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};

section! {
    /// Low-rank adapters. Modules are named as in transformers: whole (`model.layers.0.self_attn.q_proj`), by the
    /// end of the name (`q_proj`, `mlp.up_proj`), or with `*` for any characters.
    #["adapter"]
    pub struct AdapterConfig {
        /// `none`, `lora` (arXiv:2106.09685) or `dora` (arXiv:2402.09353): train low-rank changes of a pretrained
        /// model (`--init-from`) instead of all its weights.
        kind: AdapterKind = AdapterKind::None;
        /// Rank of the changes.
        r: usize = 16, Range::SIZE;
        /// Changes are multiplied by `alpha` / `r`.
        alpha: f64 = 32.0, Range::Positive;
        /// Multiply changes by `alpha` / √`r` instead (arXiv:2312.03732).
        rslora: bool = false;
        /// Probability of zeroing an input of the changes, in training only; inside experts there is none.
        dropout: f64 = 0.0, Range::Share;
        /// Modules that are changed: linear layers, experts and the token embedding; `all-linear` names all linear
        /// layers but routers and the output.
        targets: Vec<String> = vec![ALL_LINEAR.into()];
        /// Numbers of the layers whose modules are changed; empty: all.
        layers: Vec<usize> = Vec::new();
        /// Ranks of single modules, for example `{ q_proj = 8 }`; where several names fit a module, the longest counts.
        rank_pattern: BTreeMap<String, usize> = BTreeMap::new();
        /// Values of `alpha` for single modules.
        alpha_pattern: BTreeMap<String, f64> = BTreeMap::new();
        /// Modules of which a whole copy is trained, for example `lm_head`.
        modules_to_save: Vec<String> = Vec::new();
        /// An output projection that is tied to the token embedding follows the changes of the embedding.
        weight_tying: bool = false;
        /// Path of the model that is adapted; `--init-from` sets it.
        base: Option<PathBuf> = None;
    }
}

/// Name that stands for all linear layers in `adapter.targets`.
pub const ALL_LINEAR: &str = "all-linear";

/// Kinds of adapters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdapterKind {
    /// All weights are trained.
    None,
    /// A product of two thin matrices is added to a matrix.
    Lora,
    /// Also, the columns of the changed matrix get trained norms.
    Dora,
}

impl AdapterKind {
    /// Name of the kind in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lora => "lora",
            Self::Dora => "dora",
        }
    }
}

impl AdapterConfig {
    /// Whether adapters are trained.
    pub fn is_on(&self) -> bool {
        self.kind != AdapterKind::None
    }

    /// Whether another configuration trains the same adapters. The place of the model and the dropout may differ.
    pub fn is_same_adapter(&self, other: &Self) -> bool {
        let comparable = |config: &Self| Self { base: None, dropout: 0.0, ..config.clone() };
        comparable(self) == comparable(other)
    }
}

impl Config {
    /// Refuses adapters of impossible sizes, and those without targets.
    pub(super) fn check_adapter(&self) -> Result<()> {
        let adapter = &self.adapter;
        for (module, rank) in &adapter.rank_pattern {
            Range::SIZE.check(&format!("adapter.rank_pattern.{module}"), rank)?;
        }
        for (module, alpha) in &adapter.alpha_pattern {
            Range::Positive.check(&format!("adapter.alpha_pattern.{module}"), alpha)?;
        }
        if adapter.is_on() && adapter.targets.is_empty() && adapter.modules_to_save.is_empty() {
            return Err(Error::InvalidValue {
                key: "adapter.targets".into(),
                value: "[]".into(),
                message: "there is nothing to train".into(),
                hint: Some(hint![
                    "name modules, or all linear layers with ",
                    hint::set("adapter.targets", "['all-linear']")
                ]),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(overrides: &[&str]) -> Result<Config> {
        let mut config = Config::default();
        config.apply(&overrides.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())?;
        config.validate()?;
        Ok(config)
    }

    #[test]
    fn patterns_are_tables() {
        let config = config(&[
            "adapter.kind=dora",
            "adapter.rank_pattern={q_proj=8, 'mlp.up_proj'=4}",
            "adapter.alpha_pattern={o_proj=3}",
            "adapter.layers=[0, 2]",
        ])
        .unwrap();
        assert_eq!(config.adapter.rank_pattern["mlp.up_proj"], 4);
        assert_eq!(config.adapter.alpha_pattern["o_proj"], 3.0);
        for text in [config.to_toml().unwrap(), config.to_annotated_toml().unwrap()] {
            assert_eq!(Config::from_toml(&text, "here").unwrap(), config, "{text}");
        }
    }

    #[test]
    fn impossible_adapters_are_refused() {
        let cases: [(&[&str], &str, &str); 6] = [
            (&["adapter.r=0"], "adapter.r", "from 1"),
            (&["adapter.alpha=0"], "adapter.alpha", "above 0"),
            (&["adapter.rank_pattern={q_proj=0}"], "adapter.rank_pattern.q_proj", "from 1"),
            (&["adapter.alpha_pattern={q_proj=-1.0}"], "adapter.alpha_pattern.q_proj", "above 0"),
            (&["adapter.kind=lora", "adapter.targets=[]"], "adapter.targets", "nothing to train"),
            (&["adapter.kind=pissa"], "adapter.kind", "`dora`"),
        ];
        for (overrides, key, part) in cases {
            let error = config(overrides).unwrap_err();
            assert!(matches!(&error, Error::InvalidValue { key: found, .. } if found == key), "{error}");
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
