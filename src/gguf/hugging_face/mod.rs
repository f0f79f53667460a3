//! Models as Hugging Face's transformers has them: `config.json`, tensor names and `tokenizer.json`, made
//! from a file's metadata and back. The conventions are those of llama.cpp's `convert_hf_to_gguf.py`.

mod config; // Metadata to `config.json`.
mod model; // `config.json` to metadata.
mod names; // Names of tensors, both ways.
mod pre_tokenizer; // How texts are split into words, by name.
mod rope; // Scaling of rotary positions, both ways.
mod scores; // Scores of pieces to merges, both ways.
mod template; // Tokens around a text, both ways.
mod tensors; // Tensors in the form of Hugging Face's.
mod tokenizer; // Metadata to `tokenizer.json`.
mod vocabulary; // `tokenizer.json` to metadata.

pub use model::{extra_tensors, model_metadata};
pub use names::{Form, to_gguf};
pub use tensors::ModelTensor;
pub use vocabulary::{SpecialTokens, tokenizer_metadata};

use crate::Gguf;
use kiln_base::error::Result;
use serde_json::{Map, Value, json};

/// Key of the architecture in the metadata.
pub(crate) const ARCHITECTURE: &str = "general.architecture";

/// Keys of tokens in the metadata, and under which names they are known to transformers.
pub(crate) const TOKENS: [(&str, &str); 4] = [
    ("tokenizer.ggml.bos_token_id", "bos_token"),
    ("tokenizer.ggml.eos_token_id", "eos_token"),
    ("tokenizer.ggml.padding_token_id", "pad_token"),
    ("tokenizer.ggml.unknown_token_id", "unk_token"),
];

/// Keys of tokens that end a text, the end of a document first, then those of a turn and of a message.
const END_TOKENS: [&str; 3] =
    ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];

pub(crate) const CHAT_TEMPLATE: &str = "tokenizer.chat_template";

/// Architecture of a model. Its name in a file's metadata is also transformers' `model_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    Llama,
    Qwen2,
    Qwen3,
    Gpt2,
}

impl Architecture {
    pub const ALL: [Self; 4] = [Self::Llama, Self::Qwen2, Self::Qwen3, Self::Gpt2];

    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gpt2 => "gpt2",
        }
    }

    /// The architecture with a name; `None` for one that is not known.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|architecture| architecture.name() == name)
    }

    /// Name of transformers' class.
    fn class(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::Gpt2 => "GPT2LMHeadModel",
        }
    }
}

impl<'a> Gguf<'a> {
    /// Architecture of the model.
    ///
    /// # Errors
    /// [`Error::Checkpoint`](kiln_base::Error::Checkpoint) for one that is not known, and for a file that is
    /// a part of a model or something else. The other functions have the same error.
    pub fn architecture(&self) -> Result<Architecture> {
        let metadata = &self.metadata;
        let parts = metadata.unsigned("split.count").map_err(|message| self.failed(message))?.unwrap_or(1);
        if parts > 1 {
            let message = format!("it is one of the {parts} files of a model");
            return Err(self.refused(message, "join them with `llama-gguf-split --merge`"));
        }
        let text = |key| metadata.text(key).map_err(|message| self.failed(message));
        if let Some(kind) = text("general.type")?.filter(|kind| *kind != "model") {
            let message = format!("`general.type` is `{kind}`, which is no model");
            return Err(self.refused(message, "name the file of the model itself"));
        }
        let name = text(ARCHITECTURE)?.ok_or_else(|| self.failed(format!("`{ARCHITECTURE}` is missing")))?;
        Architecture::from_name(name).ok_or_else(|| {
            let known = Architecture::ALL.map(Architecture::name).join(", ");
            self.refused(format!("`{ARCHITECTURE}` is `{name}`"), format!("kiln reads {known}"))
        })
    }

    /// The `config.json` that the model has with transformers.
    ///
    /// # Errors
    /// [`Error::Checkpoint`](kiln_base::Error::Checkpoint) for a key that is missing or wrong, and for a
    /// model that computes something that Kiln does not.
    pub fn config(&self) -> Result<Value> {
        let architecture = self.architecture()?;
        let mut config = config::config(self, architecture)?;
        for (key, name) in &TOKENS[..3] {
            config[format!("{name}_id")] = self.token(key)?.into();
        }
        Ok(config)
    }

    /// The `generation_config.json`, which names the tokens that end a text.
    pub fn generation_config(&self) -> Result<Value> {
        let mut ends = Vec::new();
        for key in END_TOKENS {
            ends.extend(self.token(key)?.filter(|token| !ends.contains(token)));
        }
        let ends = match &ends[..] {
            [] => Value::Null,
            [one] => (*one).into(),
            several => several.into(),
        };
        Ok(json!({
            "bos_token_id": self.token(TOKENS[0].0)?,
            "eos_token_id": ends,
            "pad_token_id": self.token(TOKENS[2].0)?,
        }))
    }

    /// The `tokenizer_config.json` with which transformers loads the [`tokenizer`](Self::tokenizer).
    pub fn tokenizer_config(&self) -> Result<Value> {
        let failed = |message| self.failed(message);
        let architecture = self.architecture()?;
        let context = self.metadata.unsigned(&format!("{}.context_length", architecture.name()));
        let texts = self.metadata.texts("tokenizer.ggml.tokens").map_err(failed)?.unwrap_or_default();
        let mut config = Map::new();
        config.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
        config.insert("model_max_length".into(), context.map_err(failed)?.into());
        config.insert("clean_up_tokenization_spaces".into(), false.into());
        for (key, name) in TOKENS {
            let text = self.token(key)?.and_then(|token| texts.get(token as usize));
            config.extend(text.map(|text| (name.to_owned(), Value::from(&**text))));
        }
        Ok(Value::Object(config))
    }

    /// The chat template, in Jinja; `None` if the model has none.
    pub fn chat_template(&self) -> Result<Option<&str>> {
        self.metadata.text(CHAT_TEMPLATE).map_err(|message| self.failed(message))
    }

    /// Whether the file has a tokenizer.
    pub fn has_tokenizer(&self) -> bool {
        let kind = self.metadata.text(tokenizer::MODEL).ok().flatten();
        kind.is_some_and(|kind| !matches!(kind, "none" | "no_vocab"))
    }

    /// The `tokenizer.json`, with which Hugging Face's tokenizers gives the tokens that the model was trained
    /// on.
    ///
    /// # Errors
    /// [`Error::Tokenizer`](kiln_base::Error::Tokenizer) for a vocabulary that is missing, damaged or of a
    /// kind that cannot be expressed.
    pub fn tokenizer(&self) -> Result<Value> {
        tokenizer::tokenizer(&self.metadata).map_err(|message| kiln_base::Error::Tokenizer {
            origin: format!("`{}`", self.origin.display()),
            message,
            hint: Some("take the model with its `tokenizer.json` from where it was made".into()),
        })
    }

    /// Tensors of the model, by Hugging Face's names and in its form. A tensor that the architecture does not
    /// have keeps its name.
    pub fn model_tensors(&self) -> Result<Vec<ModelTensor<'a>>> {
        let architecture = self.architecture()?;
        let heads = config::heads(self, architecture).map_err(|message| self.failed(message))?;
        let tensors = self.tensors.iter().filter(|tensor| tensor.name != rope::FACTORS);
        let converted = tensors.map(|tensor| ModelTensor::new(tensor.clone(), architecture, heads));
        converted.collect::<Result<_, String>>().map_err(|message| self.failed(message))
    }

    /// Tensors by their names in the file, in the form that they have there, for a model of any architecture.
    pub fn plain_tensors(&self) -> Vec<ModelTensor<'a>> {
        self.tensors.iter().cloned().map(ModelTensor::plain).collect()
    }

    /// A token of the metadata.
    fn token(&self, key: &str) -> Result<Option<u32>> {
        let token = self.metadata.unsigned(key).map_err(|message| self.failed(message))?;
        let too_large = |_| self.failed(format!("`{key}` is larger than any token"));
        token.map(|token| u32::try_from(token).map_err(too_large)).transpose()
    }
}
