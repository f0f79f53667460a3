//! Writes a model as one GGUF file, with its tokenizer and chat template.

use super::super::{
    Checkpoint, Exported, Weights,
    export::{check_free, check_range},
    tensors::FloatType,
};
use crate::{
    error::{Error, Result, hint},
    model::{families::Family, parameters::NamedData},
    platform::storage,
    tokenizer::Tokenizer,
};
use kiln_gguf::{
    Contents, Form, Layout, TensorType, Value,
    hugging_face::{Architecture, SpecialTokens, extra_tensors, model_metadata, tokenizer_metadata},
};
use serde_json::Value as Json;
use std::path::Path;

/// Format of a model that is written as GGUF.
#[derive(Debug, Clone, Copy, Default)]
pub struct GgufExport {
    /// Type of the matrices: F32, F16, BF16 or Q8_0. Vectors and trained positions are F32. `None` keeps the
    /// type that the weights have, or F32 if they have several.
    pub kind: Option<TensorType>,
}

impl GgufExport {
    /// Writes the latest weights of a checkpoint, its configuration, tokenizer and chat template into a new
    /// file.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] if something exists at `destination` already or its name does not end with
    /// `.gguf`, [`Error::Checkpoint`] for a model that cannot be read or that GGUF cannot express,
    /// [`Error::Tokenizer`] for a tokenizer that it cannot express, and [`Error::Io`]. On an error nothing is
    /// left at `destination`.
    pub fn write(&self, checkpoint: &Checkpoint, destination: &Path) -> Result<Exported> {
        check_destination(destination)?;
        let stored = checkpoint.weight_files(Weights::Latest)?.float_type();
        let family = family(checkpoint)?;
        let failed = |message| Error::Checkpoint { path: checkpoint.path().into(), message, hint: None };
        let config = family.to_json(&checkpoint.model, None);
        let kind = self.kind.unwrap_or_else(|| tensor_type(stored));
        let mut metadata: Vec<(String, Value<'_>)> = model_metadata(&config, kind).map_err(failed)?;
        let document = document(checkpoint)?;
        let tokenizer = document.is_some().then(|| checkpoint.tokenizer()).transpose()?;
        metadata.extend(tokenizer_entries(checkpoint, document.as_ref().zip(tokenizer.as_ref()))?);

        let ours = checkpoint.weights(Weights::Latest)?;
        let mut tensors = family.store(&checkpoint.model, ours).map_err(failed)?;
        check_range(checkpoint, &tensors, float_type(kind))?;
        let parameters = tensors.values().map(|tensor| tensor.values.len() as u64).sum();
        let (names, mut layouts) = layouts(&config, &tensors, kind).map_err(failed)?;
        let extra = extra_tensors(&config).map_err(failed)?;
        layouts.extend(
            extra
                .iter()
                .map(|(name, values)| Layout::new((*name).into(), vec![values.len()], TensorType::F32)),
        );
        let contents = Contents { metadata, tensors: layouts };
        let bytes = contents.tensors.iter().map(|layout| layout.bytes() as u64).sum();
        storage::write_whole(destination, |out| {
            contents.write(out, |number| match names.get(number) {
                Some((name, form)) => {
                    let tensor = tensors.remove(name);
                    tensor.map(|tensor| form.store(&tensor.shape, tensor.values)).unwrap_or_default()
                }
                None => extra[number - names.len()].1.clone(),
            })
        })?;
        Ok(Exported { family, number_type: name(kind), shards: 1, parameters, bytes })
    }
}

fn check_destination(destination: &Path) -> Result<()> {
    let file_name = destination.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if super::names::is_gguf(file_name) && !storage::is_folder(destination) {
        return check_free(destination);
    }
    Err(Error::InvalidValue {
        key: "DST".into(),
        value: destination.display().to_string(),
        message: "it is not the name of a GGUF file".into(),
        hint: Some("name a new file that ends with `.gguf`".into()),
    })
}

/// Finds the family whose names and layout GGUF has.
fn family(checkpoint: &Checkpoint) -> Result<Family> {
    let is_known = |family: &Family| Architecture::from_name(family.name()).is_some();
    let own = Some(checkpoint.family).filter(is_known);
    own.or_else(|| Some(Family::of(&checkpoint.model)).filter(is_known)).ok_or_else(|| {
        let known = Architecture::ALL.map(Architecture::name).join(", ");
        Error::Checkpoint {
            path: checkpoint.path().into(),
            message: format!("its family is {}, but kiln writes {known} as GGUF", checkpoint.family.name()),
            hint: Some(hint!["write a folder for transformers with ", hint::command("--layout huggingface")]),
        }
    })
}

/// Reads the `tokenizer.json`, if the checkpoint has one.
fn document(checkpoint: &Checkpoint) -> Result<Option<Json>> {
    if !checkpoint.has_tokenizer() {
        return Ok(None);
    }
    let document = serde_json::from_slice(&checkpoint.files.tokenizer_json()?);
    document.map(Some).map_err(|e| unwritable(checkpoint, format!("is not JSON: {e}")))
}

fn unwritable(checkpoint: &Checkpoint, message: String) -> Error {
    Error::Tokenizer {
        origin: format!("`{}`", checkpoint.tokenizer_path().display()),
        message,
        hint: Some(hint![
            "GGUF has byte-level BPEs as those of GPT-2, SmolLM, Llama 3 and Qwen, and Llama's of SentencePiece; train with ",
            hint::set("tokenizer.kind", "bpe"),
            " or `byte`"
        ]),
    }
}

/// Describes a tokenizer, given as its `tokenizer.json` and as it was read, and the chat template.
fn tokenizer_entries<'a>(
    checkpoint: &Checkpoint,
    tokenizer: Option<(&'a Json, &'a Tokenizer)>,
) -> Result<Vec<(String, Value<'a>)>> {
    let Some((document, tokenizer)) = tokenizer else {
        // What llama.cpp calls a model without a vocabulary.
        return Ok(vec![("tokenizer.ggml.model".into(), "no_vocab".into())]);
    };
    let ends = checkpoint.end_tokens(tokenizer)?.tokens;
    let config: Json = serde_json::from_slice(checkpoint.config_json()?).unwrap_or_default();
    let token = |key: &str| config[key].as_u64().and_then(|token| u32::try_from(token).ok());
    let special = SpecialTokens { bos: token("bos_token_id"), ends, padding: token("pad_token_id") };
    tokenizer_metadata(document, checkpoint.model.vocab_size, &special, tokenizer.chat_template())
        .map_err(|message| unwritable(checkpoint, message))
}

/// Names and forms of the tensors of a checkpoint.
type Forms = Vec<(String, Form)>;

/// Describes the tensors in the file, with their names and forms in the checkpoint.
fn layouts(config: &Json, tensors: &NamedData, kind: TensorType) -> Result<(Forms, Vec<Layout>), String> {
    let mut names = Vec::new();
    let mut layouts = Vec::new();
    for (name, tensor) in tensors {
        let (stored, form) = Form::in_gguf(config, name)?;
        let shape = form.shape(&tensor.shape).map_err(|wanted| {
            format!("tensor `{name}` has shape {:?}, but should be {wanted}", tensor.shape)
        })?;
        // As llama.cpp wants them: its kernels take them in F32 alone.
        let is_plain = shape.len() == 1 || stored == "position_embd.weight";
        layouts.push(Layout::new(stored, shape, if is_plain { TensorType::F32 } else { kind }));
        names.push((name.clone(), form));
    }
    Ok((names, layouts))
}

/// The file's type that corresponds to one of Kiln's.
fn tensor_type(float: Option<FloatType>) -> TensorType {
    match float {
        Some(FloatType::F16) => TensorType::F16,
        Some(FloatType::Bf16) => TensorType::Bf16,
        Some(FloatType::F32) | None => TensorType::F32,
    }
}

/// The type whose range the numbers of a file have. The scales of blocks are 16-bit floats.
fn float_type(kind: TensorType) -> FloatType {
    match kind {
        TensorType::F32 => FloatType::F32,
        TensorType::Bf16 => FloatType::Bf16,
        _ => FloatType::F16,
    }
}

/// Name of a type in Kiln's options.
fn name(kind: TensorType) -> &'static str {
    match kind {
        TensorType::Q8_0 => "q8_0",
        other => float_type(other).name(),
    }
}
