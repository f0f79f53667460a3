//! Writes a model to a new folder, with the tensor names and the number type that another program needs.

use super::{
    Checkpoint, Index, Manifest, Weights, files,
    names::{self, TOKENIZER_CONFIG},
    tensors::{self, FloatType},
};
use crate::{
    config::ModelConfig,
    error::{Error, Result, hint},
    model::{families::Family, parameters::NamedData},
    platform::storage,
    transform::adapter,
};
use burn::tensor::Device;
use serde_json::Value;
use std::path::Path;

/// Convention for the names and shapes of tensors and for `config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// Names of the model's Hugging Face family, which transformers loads.
    HuggingFace,
    /// Kiln's own names, which can express every configuration.
    Kiln,
}

/// Format of an exported model.
#[derive(Debug, Clone, Copy)]
pub struct Export {
    pub names: Names,
    /// Number type of the weights. `None` keeps the type that the weights have, or f32 if they have several.
    pub float: Option<FloatType>,
    /// Largest size of a file in bytes. A single tensor that is larger gets a file of its own.
    pub max_shard_size: u64,
}

/// Summary of an exported model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    pub family: Family,
    /// Name of the weights' type in Kiln's options.
    pub number_type: &'static str,
    /// Number of weight files.
    pub shards: usize,
    pub parameters: u64,
    /// Size of the weights, in bytes.
    pub bytes: u64,
}

/// Files of a model's folder, besides weights and `config.json`, that are valid for the model in any type and
/// layout.
const COPIED: [&str; 10] = [
    TOKENIZER_CONFIG,
    names::GENERATION,
    names::SPECIAL_TOKENS,
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    names::CHAT_TEMPLATE,
    names::CHAT_TEMPLATE_JSON,
];

impl Export {
    /// Writes the latest weights of a checkpoint, its configuration and its tokenizer into a new folder.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] if something exists at `destination` already, [`Error::Checkpoint`] for a
    /// model that cannot be read, that no Hugging Face family can express, or whose numbers are out of the
    /// type's range, and [`Error::Io`]. On an error nothing is left at `destination`.
    pub fn write(&self, checkpoint: &Checkpoint, destination: &Path) -> Result<Exported> {
        check_free(destination)?;
        self.write_weights(checkpoint, &checkpoint.model, checkpoint.weights(Weights::Latest)?, destination)
    }

    /// Writes a checkpoint's model with its adapters merged into the weights, and its tokenizer into a new folder. The
    /// model is built on `device`.
    ///
    /// # Errors
    /// Those of [`write`](Self::write), and of a model that cannot be built.
    pub fn write_merged(
        &self,
        checkpoint: &Checkpoint,
        destination: &Path,
        device: &Device,
    ) -> Result<Exported> {
        check_free(destination)?;
        // The context of the base, whose configuration the folder gets.
        let base = &checkpoint.source().model;
        let (block_size, dropout) = (base.block_size, base.dropout);
        let model = ModelConfig { block_size, dropout, ..checkpoint.model.clone() };
        let adapted = checkpoint.build_in(&model, checkpoint.mode(), Weights::Latest, 0.0, device)?;
        let (weights, model) = pollster::block_on(adapter::merged_weights(&adapted, &model))?;
        self.write_weights(checkpoint, &model, weights, destination)
    }

    /// Writes a model that was made of a checkpoint's, with other weights and perhaps fewer layers, heads and neurons,
    /// and the checkpoint's tokenizer into a new folder.
    ///
    /// # Errors
    /// Those of [`write`](Self::write).
    pub fn write_changed(
        &self,
        checkpoint: &Checkpoint,
        model: &ModelConfig,
        weights: NamedData,
        destination: &Path,
    ) -> Result<Exported> {
        check_free(destination)?;
        self.write_weights(checkpoint, model, weights, destination)
    }

    fn write_weights(
        &self,
        checkpoint: &Checkpoint,
        model: &ModelConfig,
        ours: NamedData,
        destination: &Path,
    ) -> Result<Exported> {
        let family = self.family(checkpoint, model)?;
        let stored = checkpoint.source().weight_files(Weights::Latest)?.float_type();
        let float = self.float.or(stored).unwrap_or(FloatType::F32);
        let failed = |message| Error::Checkpoint { path: checkpoint.path().into(), message, hint: None };
        let tensors = family.store(model, ours).map_err(failed)?;
        check_range(checkpoint, &tensors, float)?;

        let config = config_json(checkpoint, model, family, float)?;
        let shards = split(&tensors, float, self.max_shard_size);
        let parameters = tensors.values().map(|tensor| tensor.values.len() as u64).sum();
        let bytes = parameters * float.size();
        let names = file_names(shards.len());
        files::write_whole(destination, |folder| {
            let mut manifest = Manifest::default();
            let mut put = |name: &str, bytes: &[u8]| {
                manifest.record(name, bytes);
                storage::write_synced(&folder.join(name), bytes)
            };
            for (name, shard) in names.iter().zip(&shards) {
                let part = shard.iter().filter_map(|name| tensors.get_key_value(*name));
                put(name, &tensors::write(part, float).map_err(failed)?)?;
            }
            if names.len() > 1 {
                let locations = shards.iter().zip(&names);
                let locations =
                    locations.flat_map(|(shard, file)| shard.iter().map(|name| (*name, file.as_str())));
                put(names::INDEX, &Index::of(locations).to_json(parameters, bytes))?;
            }
            put(names::CONFIG, &config)?;
            if checkpoint.has_tokenizer() {
                put(names::TOKENIZER, &checkpoint.tokenizer_files().tokenizer_json()?)?;
            }
            for name in COPIED {
                // Those of an adapter count before those of its base, whose template it may have replaced.
                let sources = [&checkpoint.files, &checkpoint.source().files];
                let mut places = sources.iter().map(|files| files.origin.join(name));
                if let Some(bytes) = sources.iter().find_map(|files| files.get(name)) {
                    put(name, bytes)?;
                } else if let Some(place) = places.find(|place| storage::exists(place)) {
                    put(name, &storage::read(&place)?)?;
                }
            }
            match self.names {
                Names::HuggingFace => Ok(()),
                Names::Kiln => storage::write_synced(&folder.join(names::MANIFEST), &manifest.to_json()),
            }
        })?;
        Ok(Exported { family, number_type: float.name(), shards: shards.len(), parameters, bytes })
    }

    fn family(&self, checkpoint: &Checkpoint, model: &ModelConfig) -> Result<Family> {
        if self.names == Names::Kiln {
            return Ok(Family::KILN);
        }
        let own = checkpoint.family;
        // A family may have no such sizes, for example GPT-2 no heads whose widths do not add up to the model's.
        let is_outgrown = sizes(model) != sizes(&checkpoint.model) && !own.expresses(model);
        let family = if own == Family::KILN || is_outgrown { Family::of(model) } else { own };
        if family == Family::KILN {
            return Err(Error::Checkpoint {
                path: checkpoint.path().into(),
                message: "no Hugging Face family that kiln knows computes what this model does".into(),
                hint: Some(hint!["keep kiln's own names with ", hint::command("--layout kiln")]),
            });
        }
        Ok(family)
    }
}

/// Refuses a destination that exists, unless it is an empty folder.
///
/// # Errors
/// [`Error::InvalidValue`], and [`Error::Io`] for a folder that cannot be read.
pub fn check_free(destination: &Path) -> Result<()> {
    let taken = storage::exists(destination)
        && !(storage::is_folder(destination) && storage::list(destination)?.is_empty());
    match taken {
        false => Ok(()),
        true => Err(Error::InvalidValue {
            key: "DST".into(),
            value: destination.display().to_string(),
            message: "something is there already".into(),
            hint: Some("name a new or empty folder: nothing is ever overwritten".into()),
        }),
    }
}

/// Refuses a number type in which a finite number would become infinite.
pub(super) fn check_range(checkpoint: &Checkpoint, tensors: &NamedData, float: FloatType) -> Result<()> {
    let largest = |values: &[f32]| values.iter().copied().find(|value| float.overflows(*value));
    let over = tensors.iter().find_map(|(name, tensor)| Some((name, largest(&tensor.values)?)));
    match over {
        None => Ok(()),
        Some((name, value)) => Err(Error::Checkpoint {
            path: checkpoint.path().into(),
            message: format!("tensor `{name}` has the number {value}, beyond the range of {}", float.name()),
            hint: Some(hint![hint::command("--dtype bf16"), " has the range of f32"]),
        }),
    }
}

/// Makes `config.json`. If the family stays the same, it is based on the source's file, so that fields
/// unknown to Kiln are kept.
fn config_json(
    checkpoint: &Checkpoint,
    model: &ModelConfig,
    family: Family,
    float: FloatType,
) -> Result<Vec<u8>> {
    let failed = |e: serde_json::Error| Error::Checkpoint {
        path: checkpoint.path().join(names::CONFIG),
        message: e.to_string(),
        hint: None,
    };
    let source: Value = serde_json::from_slice(checkpoint.config_json()?).map_err(failed)?;
    let path = checkpoint.path().join(names::CONFIG);
    let (_, described) = Family::from_json(checkpoint.config_json()?, &path)?;
    let ties_agree = described.tie_embeddings == model.tie_embeddings;
    let is_described = family == checkpoint.family && !checkpoint.has_new_head();
    let mut json = if is_described && (ties_agree || family != Family::KILN) {
        let mut json = source;
        json["model_type"] = family.name().into();
        if sizes(&described) != sizes(model) {
            set_sizes(&mut json, family, &described, model);
        }
        if !ties_agree {
            // The tensors said otherwise.
            let own = family.to_json(model, None);
            for key in ["tie_word_embeddings", "scale_decoder_outputs"] {
                if let Some(value) = own.get(key) {
                    json[key] = value.clone();
                }
            }
        }
        json
    } else {
        let mut json = family.to_json(model, None);
        for key in ["bos_token_id", "eos_token_id", "pad_token_id"] {
            json[key] = source[key].clone();
        }
        json
    };
    if let Some(fields) = json.as_object_mut() {
        // The older name, which would contradict the one that transformers 5 writes.
        fields.remove("torch_dtype");
    }
    json["dtype"] = float.torch_name().into();
    Ok(format!("{json:#}\n").into_bytes())
}

/// Numbers of layers, heads, key and value heads, and widths of heads and of the MLP.
fn sizes(model: &ModelConfig) -> [usize; 5] {
    [model.n_layer, model.n_head, model.kv_heads(), model.head_size(), model.inner_size()]
}

/// Sets the sizes of `model` in the `config.json` that describes `described`.
fn set_sizes(json: &mut Value, family: Family, described: &ModelConfig, model: &ModelConfig) {
    let resized = ModelConfig {
        n_layer: model.n_layer,
        n_head: model.n_head,
        n_kv_head: model.n_kv_head,
        head_dim: model.head_dim,
        n_inner: model.n_inner,
        ..described.clone()
    };
    let (before, after) = (family.to_json(described, None), family.to_json(&resized, None));
    for (key, value) in after.as_object().into_iter().flatten() {
        // Where these are absent, they follow from the number of heads, which may have changed.
        let follows = ["head_dim", "num_key_value_heads"].contains(&key.as_str());
        if follows || before.get(key) != Some(value) {
            json[key.as_str()] = value.clone();
        }
    }
    // GPT-2's second names count more.
    for (key, second) in [("n_layer", "num_hidden_layers"), ("n_head", "num_attention_heads")] {
        if let (Some(value), Some(other)) = (after.get(key), json.get_mut(second)) {
            *other = value.clone();
        }
    }
    // Layers keep their kinds, so that the list only gets shorter.
    if let Some(types) = json.get_mut("layer_types").and_then(Value::as_array_mut) {
        types.truncate(model.n_layer);
    }
}

/// Distributes tensors over files and returns the names in each. No file exceeds `most` bytes, unless it
/// holds a single tensor.
fn split(tensors: &NamedData, float: FloatType, most: u64) -> Vec<Vec<&str>> {
    let mut shards: Vec<Vec<&str>> = Vec::new();
    let mut remaining = 0;
    for (name, tensor) in tensors {
        let bytes = tensor.values.len() as u64 * float.size();
        match shards.last_mut().filter(|_| bytes <= remaining) {
            Some(shard) => shard.push(name),
            None => {
                shards.push(vec![name]);
                remaining = most;
            }
        }
        remaining = remaining.saturating_sub(bytes);
    }
    shards
}

fn file_names(count: usize) -> Vec<String> {
    match count {
        0 | 1 => vec![names::MODEL.into()],
        _ => (1..=count).map(|number| format!("model-{number:05}-of-{count:05}.safetensors")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parameters::HostTensor;
    use serde_json::json;

    #[test]
    fn sizes_are_set_and_unknown_fields_stay() {
        let read = |json: &Value| {
            Family::from_json(json.to_string().as_bytes(), Path::new("config.json")).unwrap().1
        };
        let mut llama = json!({
            "model_type": "llama", "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6,
            "num_key_value_heads": 3, "intermediate_size": 40, "vocab_size": 11, "bos_token_id": 1,
            "layer_types": ["full_attention", "full_attention", "full_attention"], "unknown": [1],
        });
        let described = read(&llama);
        let smaller = ModelConfig {
            n_layer: 2,
            n_head: 4,
            n_kv_head: Some(2),
            head_dim: Some(8),
            n_inner: Some(30),
            ..described.clone()
        };
        set_sizes(&mut llama, Family::LLAMA, &described, &smaller);
        assert_eq!(sizes(&read(&llama)), [2, 4, 2, 8, 30]);
        assert_eq!((&llama["unknown"], &llama["bos_token_id"]), (&json!([1]), &json!(1)));
        assert_eq!(llama["layer_types"].as_array().unwrap().len(), 2);

        let mut gpt2 = json!({ "model_type": "gpt2", "num_hidden_layers": 3, "n_head": 4, "n_embd": 32 });
        let described = read(&gpt2);
        let smaller = ModelConfig { n_layer: 1, n_inner: Some(20), ..described.clone() };
        set_sizes(&mut gpt2, Family::GPT2, &described, &smaller);
        assert_eq!(sizes(&read(&gpt2)), [1, 4, 4, 8, 20]);
    }

    #[test]
    fn files_are_filled_up_to_their_size() {
        let tensor = |name: &str, count| (name.to_owned(), HostTensor::new([count], vec![0.0; count]));
        let tensors =
            NamedData::from([tensor("a", 2), tensor("b", 3), tensor("c", 9), tensor("d", 1), tensor("e", 1)]);
        assert_eq!(split(&tensors, FloatType::F32, 20), [vec!["a", "b"], vec!["c"], vec!["d", "e"]]);
        assert_eq!(split(&tensors, FloatType::Bf16, 1 << 30).len(), 1);
        assert_eq!(split(&tensors, FloatType::F32, 1).len(), 5);
        assert_eq!(file_names(1), ["model.safetensors"]);
        assert_eq!(file_names(2)[1], "model-00002-of-00002.safetensors");
    }
}
