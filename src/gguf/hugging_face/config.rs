//! Makes transformers' `config.json` of a file's metadata.

use super::{Architecture, rope};
use crate::Gguf;
use kiln_base::error::Result;
use serde_json::{Value, json};

/// Keys, after the architecture's name, of scales that other descendants of Llama multiply with.
const SCALES: [&str; 4] = ["logit_scale", "residual_scale", "embedding_scale", "attention.scale"];

/// Number of query heads, and of key and value heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heads {
    pub queries: usize,
    pub keys: usize,
}

pub(super) fn heads(file: &Gguf<'_>, architecture: Architecture) -> Result<Heads, String> {
    let keys = Keys { file, architecture };
    let queries = keys.size("attention.head_count")?;
    Ok(Heads { queries, keys: keys.size_or("attention.head_count_kv", queries)? })
}

/// Makes `config.json` without the tokens.
pub(super) fn config(file: &Gguf<'_>, architecture: Architecture) -> Result<Value> {
    let failed = |message: String| file.failed(message);
    let keys = Keys { file, architecture };
    keys.refuse_what_is_not_computed()
        .map_err(|message| file.refused(message, "take a model without it: its numbers would be wrong"))?;
    match architecture {
        Architecture::Gpt2 => keys.gpt2().map_err(failed),
        Architecture::Llama | Architecture::Qwen2 | Architecture::Qwen3 => keys.llama().map_err(failed),
    }
}

/// Values of the metadata whose keys begin with the architecture's name.
struct Keys<'f, 'a> {
    file: &'f Gguf<'a>,
    architecture: Architecture,
}

impl Keys<'_, '_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture.name())
    }

    /// A size that must be there and positive.
    fn size(&self, name: &str) -> Result<usize, String> {
        let key = self.key(name);
        let size = self.file.metadata.unsigned(&key)?.ok_or_else(|| format!("`{key}` is missing"))?;
        usize::try_from(size).ok().filter(|size| *size > 0).ok_or_else(|| format!("`{key}` is {size}"))
    }

    fn size_or(&self, name: &str, default: usize) -> Result<usize, String> {
        match self.file.metadata.get(&self.key(name)) {
            None => Ok(default),
            Some(_) => self.size(name),
        }
    }

    fn number_or(&self, name: &str, default: f64) -> Result<f64, String> {
        Ok(self.file.metadata.number(&self.key(name))?.unwrap_or(default))
    }

    fn has_tensor(&self, name: &str) -> bool {
        self.file.tensor(name).is_some()
    }

    /// Refuses a model whose numbers would be wrong.
    fn refuse_what_is_not_computed(&self) -> Result<(), String> {
        let metadata = &self.file.metadata;
        let experts = self.key("expert_count");
        if let Some(count) = metadata.unsigned(&experts)?.filter(|count| *count > 0) {
            return Err(format!("`{experts}` is {count}, but kiln reads no experts from GGUF"));
        }
        for key in SCALES.map(|name| self.key(name)) {
            if let Some(scale) = metadata.number(&key)?.filter(|scale| *scale != 0.0) {
                return Err(format!("`{key}` is {scale}, but kiln computes without it"));
            }
        }
        let causal = self.key("attention.causal");
        if metadata.flag(&causal)? == Some(false) {
            return Err(format!("`{causal}` is false, but kiln computes only decoders here"));
        }
        let window = self.key("attention.sliding_window");
        match metadata.unsigned(&window)? {
            Some(length) if length > 0 && length < self.size("context_length")? as u64 => {
                Err(format!("`{window}` is {length}, but kiln reads no sliding windows from GGUF"))
            }
            _ => Ok(()),
        }
    }

    /// Number of tokens that the model has embeddings of.
    fn vocabulary(&self) -> Result<usize, String> {
        let table = self.file.tensor("token_embd.weight");
        Ok(table.ok_or("tensor `token_embd.weight` is missing")?.rows())
    }

    fn llama(&self) -> Result<Value, String> {
        let Heads { queries, keys } = heads(self.file, self.architecture)?;
        let width = self.size("embedding_length")?;
        let head_size = self.size_or("attention.key_length", width / queries)?;
        let (values, rotating) = ("attention.value_length", "rope.dimension_count");
        for (name, computes) in [(values, "as wide as keys"), (rotating, "for whole heads")] {
            let size = self.size_or(name, head_size)?;
            if size != head_size {
                let key = self.key(name);
                return Err(format!(
                    "`{key}` is {size}, but a head has {head_size}: kiln computes them {computes}"
                ));
            }
        }
        let theta = self.number_or("rope.freq_base", 10_000.0)?;
        let rope = rope::from_gguf(self.file, self.architecture.name(), theta, head_size)?;
        let mut config = json!({
            "architectures": [self.architecture.class()],
            "model_type": self.architecture.name(),
            "hidden_act": "silu",
            "vocab_size": self.vocabulary()?,
            "max_position_embeddings": self.size("context_length")?,
            "hidden_size": width,
            "intermediate_size": self.size("feed_forward_length")?,
            "num_hidden_layers": self.size("block_count")?,
            "num_attention_heads": queries,
            "num_key_value_heads": keys,
            "head_dim": head_size,
            "rms_norm_eps": self.number_or("attention.layer_norm_rms_epsilon", 1e-5)?,
            "rope_parameters": rope,
            "rope_theta": theta,
            "tie_word_embeddings": !self.has_tensor("output.weight"),
        });
        match self.architecture {
            Architecture::Llama => {
                config["attention_bias"] = self.has_tensor("blk.0.attn_q.bias").into();
                config["mlp_bias"] = self.has_tensor("blk.0.ffn_up.bias").into();
            }
            Architecture::Qwen2 => config["use_sliding_window"] = false.into(),
            Architecture::Qwen3 => {
                config["attention_bias"] = self.has_tensor("blk.0.attn_q.bias").into();
                config["use_sliding_window"] = false.into();
            }
            Architecture::Gpt2 => {}
        }
        Ok(config)
    }

    fn gpt2(&self) -> Result<Value, String> {
        Ok(json!({
            "architectures": [self.architecture.class()],
            "model_type": self.architecture.name(),
            "activation_function": "gelu_new",
            "vocab_size": self.vocabulary()?,
            "n_positions": self.size("context_length")?,
            "n_embd": self.size("embedding_length")?,
            "n_layer": self.size("block_count")?,
            "n_head": self.size("attention.head_count")?,
            "n_inner": self.size("feed_forward_length")?,
            "layer_norm_epsilon": self.number_or("attention.layer_norm_epsilon", 1e-5)?,
            // Older files have a copy of the embedding as output. The tensors decide.
            "tie_word_embeddings": true,
            // A file is for inference and says nothing of dropout, of which GPT-2 has a tenth by default.
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
            "resid_pdrop": 0.0,
        }))
    }
}
