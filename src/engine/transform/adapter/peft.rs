//! Settings of an adapter as PEFT stores them in `adapter_config.json`, both ways.

use super::targets::Target;
use crate::config::{AdapterConfig, AdapterKind, Architecture, Head, ModelConfig};
use regex::Regex;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Map, Value, json};
use std::{collections::BTreeSet, fmt, path::Path};

/// Contents of `adapter_config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct PeftConfig {
    /// Path of the model that the adapter changes, or its name on the Hub.
    pub base: Option<String>,
    pub rank: usize,
    pub alpha: f64,
    pub rslora: bool,
    pub dora: bool,
    pub dropout: f64,
    /// Whether an output projection that is tied to the token embedding has the embedding's changes too.
    pub weight_tying: bool,
    /// Names of the modules that are saved as a whole.
    pub modules_to_save: Vec<String>,
    /// Values of alpha by a regular expression for the end of a module's name. The first that fits counts.
    alphas: Vec<(Regexp, f64)>,
    /// All keys of the file.
    keys: Map<String, Value>,
}

/// A regular expression for the end of a module's name.
#[derive(Debug, Clone)]
struct Regexp(Regex);

impl PartialEq for Regexp {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// Initializations that leave the base as it is.
const INITIALIZATIONS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// Whether a key has a value by which PEFT computes nothing that Kiln does not.
fn is_plain(key: &str, value: &Value) -> bool {
    match key {
        "bias" => value == "none" || value.is_null(),
        "init_lora_weights" => value.as_str().is_none_or(|name| INITIALIZATIONS.contains(&name)),
        "lora_bias" | "use_qalora" | "use_bdlora" => value.is_null() || *value == Value::Bool(false),
        "megatron_config" => value.as_object().is_none_or(Map::is_empty),
        "layer_replication" | "alora_invocation_tokens" | "target_parameters" | "trainable_token_indices" => {
            value.is_null() || value.as_array().is_some_and(Vec::is_empty)
        }
        _ => true,
    }
}

impl PeftConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// A message about a key that is missing, has the wrong type, or by which PEFT computes something that Kiln does
    /// not.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let json: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let Value::Object(keys) = json else { return Err("it is not a JSON object".into()) };
        let get = |key: &str| keys.get(key).filter(|value| !value.is_null());
        let wrong = |key: &str, value: &Value| format!("`{key}` is `{value}`");
        match get("peft_type").and_then(Value::as_str) {
            Some("LORA") => {}
            found => return Err(format!("`peft_type` is `{}`, but kiln has LORA", found.unwrap_or("null"))),
        }
        if let Some((key, value)) = keys.iter().find(|(key, value)| !is_plain(key, value)) {
            return Err(wrong(key, value) + ", which kiln does not compute");
        }
        let flag = |key: &str| match get(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(value) => Err(wrong(key, value)),
        };
        let number = |key: &str, default: f64| match get(key) {
            None => Ok(default),
            Some(value) => value
                .as_f64()
                .filter(|number| number.is_finite() && *number >= 0.0)
                .ok_or_else(|| wrong(key, value)),
        };
        let rank = match get("r") {
            None => 8,
            Some(value) => {
                let rank = value.as_u64().and_then(|rank| usize::try_from(rank).ok());
                rank.filter(|&rank| rank > 0).ok_or_else(|| wrong("r", value))?
            }
        };
        let modules_to_save = match get("modules_to_save") {
            None => Vec::new(),
            Some(value) => {
                serde_json::from_value(value.clone()).map_err(|_| wrong("modules_to_save", value))?
            }
        };
        let patterns = match get("alpha_pattern") {
            None => Vec::new(),
            Some(value) => alpha_patterns(text).map_err(|_| wrong("alpha_pattern", value))?,
        };
        let mut alphas = Vec::new();
        for (pattern, alpha) in patterns {
            let regex = Regex::new(&format!(r"^(?:.*\.)?(?:{pattern})$"));
            let regex = regex.map_err(|error| format!("`alpha_pattern` has `{pattern}`: {error}"))?;
            alphas.push((Regexp(regex), alpha));
        }
        Ok(Self {
            base: get("base_model_name_or_path").and_then(Value::as_str).map(str::to_owned),
            rank,
            alpha: number("lora_alpha", 8.0)?,
            rslora: flag("use_rslora")?,
            dora: flag("use_dora")?,
            dropout: number("lora_dropout", 0.0)?.min(0.99),
            weight_tying: flag("ensure_weight_tying")?,
            modules_to_save,
            alphas,
            keys,
        })
    }

    /// Makes the settings of an adapter that Kiln trains: those of a configuration, with the modules that it adapts
    /// spelled out.
    pub fn of_targets(
        config: &AdapterConfig,
        targets: &[Target],
        saved: &[String],
        model: &ModelConfig,
    ) -> Self {
        let modules: BTreeSet<&str> = targets.iter().map(|target| target.matrix.module.as_str()).collect();
        let [rank_pattern, alpha_pattern] = whole_names(targets, config.r, config.alpha);
        let task = match (model.architecture, model.head) {
            (
                Architecture::Encoder | Architecture::Decoder,
                Head::SequenceClassification | Head::Regression,
            ) => {
                json!("SEQ_CLS")
            }
            (_, Head::TokenClassification) => json!("TOKEN_CLS"),
            (Architecture::Decoder, _) => json!("CAUSAL_LM"),
            (Architecture::EncoderDecoder, _) => json!("SEQ_2_SEQ_LM"),
            (Architecture::Encoder, _) => Value::Null,
        };
        let keys = json!({
            "peft_type": "LORA",
            "task_type": task,
            "base_model_name_or_path": config.base.as_ref().map(|base| base.display().to_string()),
            "inference_mode": true,
            "r": config.r,
            "lora_alpha": whole(config.alpha),
            "lora_dropout": config.dropout,
            "use_rslora": config.rslora,
            "use_dora": config.kind == AdapterKind::Dora,
            "target_modules": modules,
            "rank_pattern": rank_pattern,
            "alpha_pattern": alpha_pattern,
            "modules_to_save": if saved.is_empty() { Value::Null } else { json!(saved) },
            "layers_to_transform": null,
            "layers_pattern": null,
            "fan_in_fan_out": targets.iter().any(|target| target.matrix.is_conv1d()),
            "bias": "none",
            "init_lora_weights": true,
            "ensure_weight_tying": config.weight_tying,
        });
        let alphas = targets.iter().filter(|target| target.alpha != config.alpha).filter_map(|target| {
            let name = regex::escape(&target.matrix.module);
            Some((Regexp(Regex::new(&format!("^{name}$")).ok()?), target.alpha))
        });
        Self {
            base: config.base.as_ref().map(|base| base.display().to_string()),
            rank: config.r,
            alpha: config.alpha,
            rslora: config.rslora,
            dora: config.kind == AdapterKind::Dora,
            dropout: config.dropout,
            weight_tying: config.weight_tying,
            modules_to_save: saved.to_vec(),
            alphas: alphas.collect(),
            keys: match keys {
                Value::Object(keys) => keys,
                _ => Map::new(),
            },
        }
    }

    /// Names the modules of an adapter whole where several patterns give their ranks or alphas: the first pattern that
    /// fits a module counts, but keys are sorted when they are written.
    pub fn with_whole_names(mut self, targets: &[Target]) -> Self {
        let values = whole_names(targets, self.rank, self.alpha);
        for (key, value) in ["rank_pattern", "alpha_pattern"].into_iter().zip(values) {
            if self.keys.get(key).and_then(Value::as_object).is_some_and(|patterns| patterns.len() > 1) {
                self.keys.insert(key.into(), value);
            }
        }
        self
    }

    /// Value of alpha for a module.
    pub fn alpha_of(&self, module: &str) -> f64 {
        let own = self.alphas.iter().find(|(pattern, _)| pattern.0.is_match(module));
        own.map_or(self.alpha, |(_, alpha)| *alpha)
    }

    /// Factor that the change of a module with this rank is multiplied by.
    pub fn scale_of(&self, module: &str, rank: usize) -> f64 {
        let rank = rank.max(1) as f64;
        self.alpha_of(module) / if self.rslora { rank.sqrt() } else { rank }
    }

    /// Kind of the adapter.
    pub fn kind(&self) -> AdapterKind {
        if self.dora { AdapterKind::Dora } else { AdapterKind::Lora }
    }

    /// Names the model that the adapter changes.
    pub fn set_base(&mut self, path: &Path) {
        let path = path.display().to_string();
        self.keys.insert("base_model_name_or_path".into(), path.clone().into());
        self.base = Some(path);
    }

    /// Makes the file.
    pub fn to_json(&self) -> Vec<u8> {
        format!("{:#}\n", Value::Object(self.keys.clone())).into_bytes()
    }

    /// All keys of the file.
    pub fn keys(&self) -> &Map<String, Value> {
        &self.keys
    }
}

/// Entries of `alpha_pattern` in the order of the file, of which PEFT takes the first that fits a module
/// (`get_pattern_key` in `peft/utils/other.py`).
fn alpha_patterns(text: &[u8]) -> serde_json::Result<Vec<(String, f64)>> {
    #[derive(Deserialize)]
    struct Keys {
        alpha_pattern: Entries,
    }
    struct Entries(Vec<(String, f64)>);
    struct InOrder;
    impl<'de> Visitor<'de> for InOrder {
        type Value = Entries;
        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object of numbers")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = map.next_entry()? {
                entries.push(entry);
            }
            Ok(Entries(entries))
        }
    }
    impl<'de> Deserialize<'de> for Entries {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_map(InOrder)
        }
    }
    serde_json::from_slice(text).map(|keys: Keys| keys.alpha_pattern.0)
}

/// Ranks and values of alpha of the modules that have others than the given ones, by their whole names.
fn whole_names(targets: &[Target], rank: usize, alpha: f64) -> [Value; 2] {
    let named = |own: &dyn Fn(&Target) -> Option<Value>| -> Value {
        let each = |target: &Target| Some((target.matrix.module.clone(), own(target)?));
        targets.iter().filter_map(each).collect::<Map<_, _>>().into()
    };
    [
        named(&|target| (target.rank != rank).then(|| target.rank.into())),
        named(&|target| (target.alpha != alpha).then(|| whole(target.alpha))),
    ]
}

/// A number without a fraction, where it has none, as PEFT writes it.
fn whole(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 { json!(number as i64) } else { json!(number) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::families::Family, transform::adapter::targets::select};

    fn parse(more: &str) -> Result<PeftConfig, String> {
        PeftConfig::parse(
            format!(r#"{{"peft_type": "LORA", "r": 4, "lora_alpha": 8, {more} "bias": "none"}}"#).as_bytes(),
        )
    }

    #[test]
    fn scales_follow_patterns_and_ranks() {
        let config = parse(r#""alpha_pattern": {"o_proj": 3, "^model.layers.1.*k_proj": 5},"#).unwrap();
        assert_eq!(config.scale_of("model.layers.0.self_attn.q_proj", 4), 2.0);
        assert_eq!(config.scale_of("model.layers.0.self_attn.o_proj", 4), 0.75);
        assert_eq!(config.scale_of("model.layers.1.self_attn.k_proj", 5), 1.0);
        assert_eq!(config.scale_of("model.layers.0.self_attn.k_proj", 4), 2.0);
        assert_eq!(config.scale_of("model.layers.0.self_attn.no_proj", 4), 2.0);
        let config = parse(r#""use_rslora": true, "use_dora": true,"#).unwrap();
        assert_eq!(config.scale_of("x", 16), 2.0);
        assert_eq!(config.kind(), AdapterKind::Dora);
    }

    /// `get_pattern_key(["c_attn", "h.0.attn.c_attn"], "transformer.h.0.attn.c_attn")` of peft 0.21.2 is `c_attn`, and
    /// the other one with the order reversed.
    #[test]
    fn the_first_pattern_of_the_file_counts_where_several_fit() {
        let (narrow, wide) = (r#""h.0.attn.c_attn": 3"#, r#""c_attn": 5"#);
        let module = "transformer.h.0.attn.c_attn";
        for (patterns, alpha) in [(format!("{wide}, {narrow}"), 5.0), (format!("{narrow}, {wide}"), 3.0)] {
            let read = parse(&format!(r#""alpha_pattern": {{{patterns}}},"#)).unwrap();
            assert_eq!(read.alpha_of(module), alpha);
            // Also when it is written again, with sorted keys.
            let model = ModelConfig { vocab_size: 11, n_layer: 1, ..Default::default() };
            let matrices = Family::GPT2.matrices(&model).into_iter().filter(|matrix| matrix.module == module);
            let target = |matrix| Target { matrix, rank: 4, alpha: read.alpha_of(module) };
            let targets: Vec<Target> = matrices.map(target).collect();
            assert_eq!(targets.len(), 1);
            let written = PeftConfig::parse(&read.clone().with_whole_names(&targets).to_json()).unwrap();
            assert_eq!(written.alpha_of(module), alpha);
        }
    }

    #[test]
    fn other_methods_are_refused_by_name() {
        assert!(PeftConfig::parse(br#"{"peft_type": "IA3"}"#).unwrap_err().contains("`IA3`"));
        assert!(PeftConfig::parse(b"[]").unwrap_err().contains("object"));
        for (more, part) in [
            (r#""lora_bias": true,"#, "`lora_bias` is `true`"),
            (r#""layer_replication": [[0, 1]],"#, "`layer_replication`"),
            (r#""init_lora_weights": "pissa","#, "`init_lora_weights`"),
            (r#""use_dora": 1,"#, "`use_dora` is `1`"),
            (r#""alpha_pattern": {"(": 1},"#, "`alpha_pattern` has `(`"),
            (r#""alpha_pattern": {"q_proj": "x"},"#, "`alpha_pattern` is `"),
            (r#""r": 0,"#, "`r` is `0`"),
        ] {
            let error = parse(more).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        parse(r#""init_lora_weights": "gaussian", "lora_bias": false, "megatron_core": "megatron.core","#)
            .unwrap();
        assert!(
            PeftConfig::parse(br#"{"peft_type": "LORA", "bias": "all"}"#).unwrap_err().contains("`bias`")
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        let model = ModelConfig { vocab_size: 11, n_layer: 1, bias: true, ..Default::default() };
        let config = AdapterConfig {
            kind: AdapterKind::Lora,
            base: Some("models/gpt2".into()),
            alpha: 6.0,
            targets: vec!["c_attn".into(), "mlp.c_proj".into()],
            alpha_pattern: [("c_attn".to_owned(), 2.5)].into(),
            ..Default::default()
        };
        let targets = select(&config, &Family::GPT2.matrices(&model)).unwrap();
        let written = PeftConfig::of_targets(&config, &targets, &[], &model);
        let read = PeftConfig::parse(&written.to_json()).unwrap();
        assert_eq!(read.keys(), written.keys());
        assert_eq!((read.rank, read.alpha, read.base.as_deref()), (16, 6.0, Some("models/gpt2")));
        assert_eq!(read.alpha_of("transformer.h.0.attn.c_attn"), 2.5);
        assert_eq!(written.alpha_of("transformer.h.0.attn.c_attn"), 2.5);
        assert_eq!(read.keys()["lora_alpha"], json!(6));
        assert_eq!(read.keys()["fan_in_fan_out"], json!(true));
        let modules = ["transformer.h.0.attn.c_attn", "transformer.h.0.mlp.c_proj"];
        assert_eq!(read.keys()["target_modules"], json!(modules));
    }
}
