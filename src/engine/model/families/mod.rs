//! Hugging Face model families: conversion of `config.json` and tensor names to Kiln's and back. Each family
//! has one file.
//!
//! A family is described by a list of [`Entry`]s, each of which says under which names and in which form one
//! of Kiln's tensors is stored. Conversion only slices and transposes, so gradients and moments are converted
//! in the same way as weights.

mod activation;
mod assemble;
mod bert;
mod fields;
mod gemma2;
mod gpt2;
mod heads;
mod kiln;
mod llama;
mod matrices;
mod mistral;
mod mixtral;
mod modernbert;
mod projection;
mod qwen;
mod t5;
mod transform;
mod windows;

pub use assemble::Stored;
pub use matrices::NamedMatrix;
pub use projection::Projection;

use crate::{
    config::{Architecture, AttentionConfig, Head, ModelConfig, MoeConfig, Position, RopeScaling},
    error::{Error, Result},
    model::parameters::{HostTensor, NamedData},
};
use fields::Fields;
use serde_json::{Value, json};
use std::{borrow::Cow, fmt, path::Path};
use transform::Transform;

/// A model family that Kiln reads and writes.
#[derive(Clone, Copy)]
pub struct Family(&'static Spec);

/// Definition of a family: one constant in each family's file.
struct Spec {
    /// `model_type` in `config.json`.
    name: &'static str,
    /// Prefix of tensor names. Checkpoints that were saved from the model without its output projection, such
    /// as GPT-2 on the Hub, do not have it.
    prefix: &'static str,
    /// Whether models of this family have biases even if Kiln's configuration has none, which are then stored
    /// as zeros.
    always_biased: bool,
    to_json: fn(&ModelConfig) -> Value,
    from_json: fn(&Fields) -> Result<ModelConfig>,
    /// Whether a tensor, of whatever type, is not part of the model: a constant that transformers used to
    /// save and Kiln computes itself, or a head that the configuration does not have.
    is_ignored: fn(&ModelConfig, &str) -> bool,
    entries: fn(&ModelConfig) -> Vec<Entry>,
    /// Further names of the token embedding.
    embedding_copies: &'static [&'static str],
    /// Keeps one name of tensors that may have two.
    settle: fn(&ModelConfig, &mut NamedData),
    /// Converts a tensor's name in transformers' memory to its name in files.
    name_in_files: fn(String) -> String,
}

/// Stored form of one of Kiln's tensors.
pub struct Entry {
    /// Name in Kiln.
    name: String,
    /// Parts that the tensor consists of. A single group contains columns side by side; several groups
    /// contain the columns of each matrix in a stack.
    groups: Vec<Vec<Part>>,
    stacked: bool,
}

/// A range of columns (last dimension) of Kiln's tensor, stored under a name of the family's.
struct Part {
    name: String,
    columns: std::ops::Range<usize>,
    transform: Transform,
}

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Family {}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Family {
    pub const GPT2: Self = Self(&gpt2::SPEC);
    pub const LLAMA: Self = Self(&llama::SPEC);
    pub const MISTRAL: Self = Self(&mistral::SPEC);
    pub const QWEN2: Self = Self(&qwen::QWEN2);
    pub const QWEN3: Self = Self(&qwen::QWEN3);
    pub const GEMMA2: Self = Self(&gemma2::SPEC);
    pub const MIXTRAL: Self = Self(&mixtral::SPEC);
    pub const QWEN2_MOE: Self = Self(&qwen::QWEN2_MOE);
    pub const QWEN3_MOE: Self = Self(&qwen::QWEN3_MOE);
    pub const BERT: Self = Self(&bert::SPEC);
    pub const MODERNBERT: Self = Self(&modernbert::SPEC);
    pub const T5: Self = Self(&t5::SPEC);
    /// Kiln's own family, for models that no other family can express.
    pub const KILN: Self = Self(&kiln::SPEC);

    /// All families. A configuration belongs to the first that can express it.
    const ALL: [Self; 13] = [
        Self::GPT2,
        Self::LLAMA,
        Self::MISTRAL,
        Self::QWEN2,
        Self::QWEN3,
        Self::GEMMA2,
        Self::MIXTRAL,
        Self::QWEN2_MOE,
        Self::QWEN3_MOE,
        Self::BERT,
        Self::MODERNBERT,
        Self::T5,
        Self::KILN,
    ];

    /// The first family that can express a configuration.
    pub fn of(config: &ModelConfig) -> Self {
        Self::ALL.into_iter().find(|family| family.expresses(config)).unwrap_or(Self::KILN)
    }

    /// Whether a model of this family computes the same as the configuration's, that is, whether the
    /// configuration would be read back from `config.json`.
    pub(crate) fn expresses(self, config: &ModelConfig) -> bool {
        let config = ModelConfig { bias: config.bias || self.0.always_biased, ..config.clone() };
        let json = self.to_json(&config, None);
        let Some(json) = json.as_object() else { return false };
        let fields = &Fields { json, path: Path::new("config.json") };
        let read = (self.0.from_json)(fields).and_then(|mut read| {
            heads::read_of_decoder(fields, &mut read)?;
            Ok(read)
        });
        read.is_ok_and(|read| canonical(&read) == canonical(&config))
    }

    /// Value of `model_type` in `config.json`.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Makes the `config.json`. `end_of_text` is the token that ends a document, if the tokenizer has one.
    pub fn to_json(self, config: &ModelConfig, end_of_text: Option<u32>) -> Value {
        let mut json = (self.0.to_json)(config);
        heads::write_of_decoder(&mut json, config);
        json["model_type"] = self.name().into();
        json["dtype"] = "float32".into();
        if json.get("tie_word_embeddings").is_none() {
            json["tie_word_embeddings"] = config.tie_embeddings.into();
        }
        json["use_cache"] = true.into();
        for key in ["bos_token_id", "eos_token_id", "pad_token_id"] {
            if json.get(key).is_none() {
                json[key] = Value::Null;
            }
        }
        if let Some(token) = end_of_text {
            json["bos_token_id"] = token.into();
            json["eos_token_id"] = token.into();
        }
        json
    }

    /// Reads the family and the configuration from a `config.json`.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if it is not a JSON object, or has a family or a setting that Kiln does not
    /// support.
    pub fn from_json(text: &[u8], path: &Path) -> Result<(Self, ModelConfig)> {
        let failed = |message: String| Error::Checkpoint { path: path.into(), message, hint: None };
        let json: Value = serde_json::from_slice(text).map_err(|e| failed(e.to_string()))?;
        let fields =
            Fields { json: json.as_object().ok_or_else(|| failed("not a JSON object".into()))?, path };
        let known = || Self::ALL.map(Self::name).join(", ");
        let refused = |message: String, hint: String| Error::Checkpoint {
            path: path.into(),
            message,
            hint: Some(hint.into()),
        };
        let family = match fields.get("model_type") {
            Some(_) => {
                let name = fields.text_or("model_type", "")?;
                Self::ALL.into_iter().find(|family| family.name() == name).ok_or_else(|| {
                    refused(format!("`model_type` is `{name}`"), format!("kiln reads {}", known()))
                })?
            }
            // Of old the class was what told.
            None => Self::by_class(&fields).ok_or_else(|| {
                refused("`model_type` is missing".into(), format!("set it to one of {}", known()))
            })?,
        };
        if let Some(layers) = fields.get("per_layer_config").filter(|layers| **layers != json!({})) {
            return Err(fields.unsupported("per_layer_config", layers, "layers that are alike"));
        }
        let mut config = (family.0.from_json)(&fields)?;
        heads::read_of_decoder(&fields, &mut config)?;
        Ok((family, config))
    }

    /// Finds the family by the name of transformers' class, for example `Qwen2MoeForCausalLM`.
    fn by_class(fields: &Fields) -> Option<Self> {
        let class = fields.get("architectures")?.as_array()?.first()?.as_str()?.to_lowercase();
        Self::ALL.into_iter().find(|family| {
            let kind = class.strip_prefix(&family.name().replace('_', ""));
            kind.is_some_and(|kind| ["for", "lmhead", "model"].iter().any(|known| kind.starts_with(known)))
        })
    }

    /// Whether a tensor of a checkpoint is one that the model does not need.
    pub fn is_ignored(self, config: &ModelConfig, name: &str) -> bool {
        (self.0.is_ignored)(config, name)
    }

    /// Converts tensors from the form that transformers has in memory, which names gradients, to the form in
    /// files.
    pub fn as_in_files(self, tensors: NamedData) -> NamedData {
        let apart = transform::experts_apart(tensors).into_iter();
        apart.map(|(name, tensor)| ((self.0.name_in_files)(name), tensor)).collect()
    }

    /// Names under which one of Kiln's tensors is stored, for messages; Kiln's own name if the family does
    /// not have it.
    pub fn stored_as(self, config: &ModelConfig, ours: &str) -> String {
        let entry = (self.0.entries)(config).into_iter().find(|entry| entry.name == ours);
        let parts = entry.into_iter().flat_map(|entry| entry.groups.into_iter().flatten());
        let names: Vec<String> = parts.map(|part| part.name).collect();
        if names.is_empty() { ours.into() } else { names.join("`, `") }
    }

    /// Converts Kiln's tensors (weights or gradients) to the family's names and forms.
    ///
    /// # Errors
    /// A message about a tensor that is missing or that the family cannot store.
    pub fn store(self, config: &ModelConfig, ours: NamedData) -> Result<NamedData, String> {
        self.store_entries((self.0.entries)(config), ours)
    }

    /// Converts some of Kiln's tensors to the family's names and forms.
    ///
    /// # Errors
    /// A message about a tensor that the family cannot store.
    pub fn store_some(self, config: &ModelConfig, ours: NamedData) -> Result<NamedData, String> {
        let mut entries = (self.0.entries)(config);
        entries.retain(|entry| ours.contains_key(&entry.name));
        self.store_entries(entries, ours)
    }

    fn store_entries(self, entries: Vec<Entry>, mut ours: NamedData) -> Result<NamedData, String> {
        let mut theirs = NamedData::new();
        for Entry { name, groups, stacked } in entries {
            let tensor = ours.remove(&name);
            for (index, group) in groups.into_iter().enumerate() {
                let tensor = tensor.as_ref().map(|tensor| match stacked {
                    true => Cow::Owned(transform::matrix(tensor, index)),
                    false => Cow::Borrowed(tensor),
                });
                for part in group {
                    let stored = match (part.transform, &tensor) {
                        (Transform::Zeros(count), _) => HostTensor::new([count], vec![0.0; count]),
                        (transform, Some(tensor)) => {
                            transform.store(transform::columns(tensor, &part.columns))
                        }
                        (_, None) => return Err(format!("tensor `{name}` is missing")),
                    };
                    theirs.insert(part.name, stored);
                }
            }
        }
        match ours.into_keys().next() {
            None => Ok(theirs),
            Some(name) => Err(format!("tensor `{name}` has no place in a {} checkpoint", self.name())),
        }
    }

    /// Converts the family's tensors to Kiln's names and forms.
    ///
    /// # Errors
    /// A message about a tensor that is missing, has the wrong shape or is not part of the model.
    pub fn load(self, config: &ModelConfig, mut theirs: NamedData) -> Result<NamedData, String> {
        theirs.retain(|name, _| !self.is_ignored(config, name));
        theirs = self.as_in_files(theirs);
        if self.lacks_prefix(theirs.keys().map(String::as_str)) {
            theirs = theirs.into_iter().map(|(name, tensor)| (self.with_prefix(&name), tensor)).collect();
        }
        self.keep_one_embedding(config, &mut theirs)?;
        (self.0.settle)(config, &mut theirs);
        self.assemble(config, theirs)
    }

    /// Converts some of the family's tensors to Kiln's names and forms. Where Kiln has several of them in one
    /// tensor, all of them must be there.
    ///
    /// # Errors
    /// A message about a tensor that is missing, has the wrong shape or is not part of the model.
    pub fn load_some(self, config: &ModelConfig, theirs: NamedData) -> Result<NamedData, String> {
        let mut entries = (self.0.entries)(config);
        let is_given = |part: &Part| theirs.contains_key(&part.name);
        entries.retain(|entry| entry.groups.iter().flatten().any(is_given));
        assemble::assemble_entries(entries, theirs)
    }
}

/// Canonical form of a configuration, which is equal for two configurations whose models compute the same.
/// Settings that have no effect are set to their defaults.
fn canonical(config: &ModelConfig) -> ModelConfig {
    let default = ModelConfig::default();
    let config = &windows::canonical(config.clone());
    let mut canonical = ModelConfig {
        n_kv_head: Some(config.kv_heads()),
        head_dim: Some(config.head_size()),
        n_inner: Some(config.inner_size()),
        attention: AttentionConfig {
            // Through a square root and back it may differ in the last digit.
            scale: Some(f64::from(config.score_scale() as f32)),
            qkv_bias: config.bias || config.attention.qkv_bias,
            ..config.attention
        },
        dropout: default.dropout,
        init: default.init,
        init_std: default.init_std,
        moe: MoeConfig {
            capacity: default.moe.capacity,
            aux_loss: default.moe.aux_loss,
            z_loss: default.moe.z_loss,
            ..config.moe
        },
        ..config.clone()
    };
    if config.architecture != Architecture::EncoderDecoder {
        canonical.n_decoder_layer = default.n_decoder_layer;
        canonical.decoder_start_token = default.decoder_start_token;
    } else {
        canonical.n_decoder_layer = Some(config.decoder_layers());
    }
    if !matches!(config.head, Head::SequenceClassification | Head::Regression) {
        canonical.pooling = default.pooling;
    }
    if config.head != Head::LanguageModel {
        canonical.tie_embeddings = default.tie_embeddings;
    }
    if config.position != Position::Relative {
        canonical.relative_buckets = default.relative_buckets;
        canonical.relative_max_distance = default.relative_max_distance;
    }
    let has_local_theta = config.position == Position::Rotary && config.attention.sliding_window.is_some();
    canonical.rope.local_theta =
        has_local_theta.then(|| config.rope.local_theta.unwrap_or(config.rope.theta));
    if config.attention.sparse_block.is_none() {
        canonical.attention.sparse_local_blocks = default.attention.sparse_local_blocks;
        canonical.attention.sparse_global_tokens = default.attention.sparse_global_tokens;
    }
    // Columns are stored in the order of the one layout; norms over them are not.
    if config.position != Position::Rotary || !config.attention.qk_norm {
        canonical.rope.layout = default.rope.layout;
    }
    if config.position != Position::Rotary {
        canonical.rope.theta = default.rope.theta;
    }
    if config.rope.scaling != RopeScaling::Llama3 {
        canonical.rope.original_context = default.rope.original_context;
        canonical.rope.low_freq_factor = default.rope.low_freq_factor;
        canonical.rope.high_freq_factor = default.rope.high_freq_factor;
    }
    if config.rope.scaling == RopeScaling::None {
        canonical.rope.factor = default.rope.factor;
    }
    if !config.has_experts() {
        canonical.moe.experts_per_token = default.moe.experts_per_token;
        canonical.moe.normalize = default.moe.normalize;
    }
    canonical
}

/// Name of the output projection in the families' files.
const HEAD: &str = "lm_head.weight";

impl Entry {
    /// A tensor that is stored as a whole.
    fn whole(
        name: impl Into<String>,
        stored_as: impl Into<String>,
        width: usize,
        transform: Transform,
    ) -> Self {
        Self::split(name, vec![(stored_as.into(), width, transform)])
    }

    /// A tensor whose columns are stored as several tensors, which are side by side in Kiln's.
    fn split(name: impl Into<String>, parts: Vec<(String, usize, Transform)>) -> Self {
        Self { name: name.into(), groups: vec![side_by_side(parts)], stacked: false }
    }

    /// A stack of matrices, each of which is stored as several tensors.
    fn stack(name: impl Into<String>, matrices: Vec<Vec<(String, usize, Transform)>>) -> Self {
        Self { name: name.into(), groups: matrices.into_iter().map(side_by_side).collect(), stacked: true }
    }

    /// A bias that only the family has, stored as zeros.
    fn zeros(stored_as: impl Into<String>, count: usize) -> Self {
        Self::whole("", stored_as, count, Transform::Zeros(count))
    }
}

fn side_by_side(parts: Vec<(String, usize, Transform)>) -> Vec<Part> {
    let mut start = 0;
    let parts = parts.into_iter().map(|(name, width, transform)| {
        start += width;
        Part { name, columns: start - width..start, transform }
    });
    parts.collect()
}

#[cfg(test)]
mod tests;
