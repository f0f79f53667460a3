//! Makes a file's metadata of transformers' `config.json`.

use super::{Architecture, config::Heads, names::Form, rope};
use crate::{TensorType, Value};
use serde_json::Value as Json;

/// The `config.json` of a model, of which a file is made.
#[derive(Debug, Clone, Copy)]
struct Config<'a> {
    json: &'a Json,
    architecture: Architecture,
}

/// Reads the architecture of a `config.json`.
///
/// # Errors
/// A message for a model that GGUF has another architecture for.
fn config(json: &Json) -> Result<Config<'_>, String> {
    let name = json["model_type"].as_str().unwrap_or_default();
    match Architecture::from_name(name) {
        Some(architecture) => Ok(Config { json, architecture }),
        None => {
            let known = Architecture::ALL.map(Architecture::name).join(", ");
            Err(format!("its family is `{name}`, but kiln writes {known} as GGUF"))
        }
    }
}

/// Makes the metadata that describe the model. Matrices will be of type `kind`.
///
/// # Errors
/// A message for a model that GGUF cannot express.
pub fn model_metadata(json: &Json, kind: TensorType) -> Result<Vec<(String, Value<'static>)>, String> {
    let config = config(json)?;
    let name = config.architecture.name();
    let mut all = vec![
        (super::ARCHITECTURE.to_owned(), Value::Text(name.into())),
        ("general.type".to_owned(), Value::Text("model".into())),
        ("general.file_type".to_owned(), Value::U32(file_type(kind))),
    ];
    if kind.is_quantized() {
        all.push(("general.quantization_version".into(), Value::U32(2)));
    }
    let values = match config.architecture {
        Architecture::Gpt2 => config.gpt2()?,
        Architecture::Llama | Architecture::Qwen2 | Architecture::Qwen3 => config.llama()?,
    };
    all.extend(values.into_iter().map(|(key, value)| (format!("{name}.{key}"), value)));
    Ok(all)
}

/// Tensors that a file has beside those of the checkpoint: the factors of Llama 3's rotary positions.
///
/// # Errors
/// Those of [`model_metadata`].
pub fn extra_tensors(json: &Json) -> Result<Vec<(&'static str, Vec<f32>)>, String> {
    let config = config(json)?;
    if config.architecture == Architecture::Gpt2 {
        return Ok(Vec::new());
    }
    let (head_size, theta) = (config.head_size()?, config.theta());
    let factors = rope::to_gguf(config.rope(), theta, head_size)?;
    Ok(factors.into_iter().map(|factors| (rope::FACTORS, factors)).collect())
}

impl Form {
    /// Form in a file of the tensor with a name in a model with this `config.json`.
    ///
    /// # Errors
    /// Those of [`model_metadata`].
    pub fn in_gguf(json: &Json, name: &str) -> Result<(String, Self), String> {
        let config = config(json)?;
        let stored = super::to_gguf(config.architecture, name);
        let stored = stored.ok_or_else(|| format!("tensor `{name}` has no place in GGUF"))?;
        let heads = match config.architecture {
            Architecture::Gpt2 => Heads { queries: 1, keys: 1 },
            _ => config.heads()?,
        };
        Ok((stored, Self::of(config.architecture, name, heads)))
    }
}

impl Config<'_> {
    fn size(&self, key: &str) -> Result<usize, String> {
        let size = self.json[key].as_u64().and_then(|size| usize::try_from(size).ok());
        size.filter(|size| *size > 0).ok_or_else(|| format!("`{key}` is {}", self.json[key]))
    }

    fn size_or(&self, key: &str, default: usize) -> Result<usize, String> {
        if self.json[key].is_null() { Ok(default) } else { self.size(key) }
    }

    fn heads(&self) -> Result<Heads, String> {
        let queries = self.size("num_attention_heads")?;
        Ok(Heads { queries, keys: self.size_or("num_key_value_heads", queries)? })
    }

    fn head_size(&self) -> Result<usize, String> {
        self.size_or("head_dim", self.size("hidden_size")? / self.heads()?.queries)
    }

    /// Scaling of rotary positions; the first name is the older one.
    fn rope(&self) -> &Json {
        if self.json["rope_scaling"].is_object() {
            &self.json["rope_scaling"]
        } else {
            &self.json["rope_parameters"]
        }
    }

    fn theta(&self) -> f64 {
        let theta = self.rope()["rope_theta"].as_f64().or_else(|| self.json["rope_theta"].as_f64());
        theta.unwrap_or(10_000.0)
    }

    fn llama(&self) -> Result<Vec<(&'static str, Value<'static>)>, String> {
        let (heads, head_size) = (self.heads()?, self.head_size()?);
        if self.json["hidden_act"] != "silu" {
            return Err(format!(
                "`hidden_act` is {}, but GGUF's {} has silu",
                self.json["hidden_act"],
                self.architecture.name()
            ));
        }
        if self.json["use_sliding_window"] == true {
            return Err("`use_sliding_window` is true, which GGUF's metadata cannot express".into());
        }
        let mut values = vec![
            ("vocab_size", size(self.size("vocab_size")?)),
            ("context_length", size(self.size("max_position_embeddings")?)),
            ("embedding_length", size(self.size("hidden_size")?)),
            ("block_count", size(self.size("num_hidden_layers")?)),
            ("feed_forward_length", size(self.size("intermediate_size")?)),
            ("attention.head_count", size(heads.queries)),
            ("attention.head_count_kv", size(heads.keys)),
            ("attention.key_length", size(head_size)),
            ("attention.value_length", size(head_size)),
            ("attention.layer_norm_rms_epsilon", self.float("rms_norm_eps", 1e-6)),
            ("rope.dimension_count", size(head_size)),
            ("rope.freq_base", Value::F32(self.theta() as f32)),
        ];
        let rope = self.rope();
        let kind = rope["rope_type"].as_str().or_else(|| rope["type"].as_str()).unwrap_or("default");
        match kind {
            "default" => {}
            "linear" => {
                values.push(("rope.scaling.type", Value::Text("linear".into())));
                values
                    .push(("rope.scaling.factor", Value::F32(rope["factor"].as_f64().unwrap_or(1.0) as f32)));
            }
            // As a tensor, but for what its factors do not tell.
            "llama3" => {
                if (rope["low_freq_factor"].as_f64(), rope["high_freq_factor"].as_f64())
                    != (Some(1.0), Some(4.0))
                {
                    return Err(
                        "its rotary positions are scaled with other bounds than Llama 3's, 1 and 4".into()
                    );
                }
                let original = rope["original_max_position_embeddings"].as_u64().unwrap_or_default();
                values.push(("rope.scaling.original_context_length", size(original as usize)));
            }
            other => return Err(format!("`rope_type` is `{other}`, which kiln does not write")),
        }
        Ok(values)
    }

    fn gpt2(&self) -> Result<Vec<(&'static str, Value<'static>)>, String> {
        let width = self.size("n_embd")?;
        let activation = &self.json["activation_function"];
        if !activation.is_null() && activation != "gelu_new" && activation != "gelu_pytorch_tanh" {
            return Err(format!("`activation_function` is {activation}, but GGUF's gpt2 has gelu_new"));
        }
        Ok(vec![
            ("context_length", size(self.size("n_positions")?)),
            ("embedding_length", size(width)),
            ("block_count", size(self.size("n_layer")?)),
            ("feed_forward_length", size(self.size_or("n_inner", 4 * width)?)),
            ("attention.head_count", size(self.size("n_head")?)),
            ("attention.layer_norm_epsilon", self.float("layer_norm_epsilon", 1e-5)),
        ])
    }

    fn float(&self, key: &str, default: f64) -> Value<'static> {
        Value::F32(self.json[key].as_f64().unwrap_or(default) as f32)
    }
}

fn size(size: usize) -> Value<'static> {
    Value::U32(u32::try_from(size).unwrap_or(u32::MAX))
}

/// Number of llama.cpp for a file whose matrices are mostly of a type.
fn file_type(kind: TensorType) -> u32 {
    match kind {
        TensorType::F16 => 1,
        TensorType::Bf16 => 32,
        TensorType::Q8_0 => 7,
        _ => 0,
    }
}
