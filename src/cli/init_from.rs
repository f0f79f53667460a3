//! `kiln train --init-from`: makes the configuration and tokenizer of a run that starts from a pretrained
//! model.

use super::config::ConfigSource;
use crate::{
    checkpoint::Checkpoint,
    config::{
        AdapterConfig, AttentionConfig, Config, Head, ModelConfig, ObjectiveKind, TokenizerConfig,
        TokenizerKind,
    },
    error::{Error, Result, hint},
    tokenizer::Tokenizer,
};
use serde_json::Value;
use std::path::Path;

/// Keys that may differ from the pretrained model's: keys that decide no weights, fewer positions, and
/// another head.
const FREE: [&str; 8] = [
    "model.block_size",
    "model.dropout",
    "model.head",
    "model.labels",
    "model.pooling",
    "model.moe.capacity",
    "model.moe.aux_loss",
    "model.moe.z_loss",
];

/// Resolves the configuration that the arguments name, with the checkpoint's model, and with the checkpoint's
/// tokenizer unless the user set one. A reference policy is the checkpoint at `path`, unless the user set another
/// one.
///
/// # Errors
/// Errors of the arguments, [`Error::InvalidValue`] for a model key that contradicts the checkpoint, and
/// errors of the checkpoint's tokenizer.
pub(super) fn configure(
    source: &ConfigSource,
    default_preset: &str,
    path: &Path,
    checkpoint: &Checkpoint,
) -> Result<(Config, Option<Tokenizer>)> {
    let (mut config, keys) = source.read_with_keys(default_preset)?;
    config.model = model(&config.model, &keys, checkpoint)?;
    if config.objective.kind == Some(ObjectiveKind::Reward) && !keys.iter().any(|key| key == "model.head") {
        config.model.head = Head::Regression;
        config.model.labels.clear();
    }
    config.adapter = adapter(config.adapter, &keys, checkpoint)?;
    // A run may go on from its latest checkpoint; the reference stays this one. That of a new adapter is the model
    // without it, which needs no second copy.
    let is_new_adapter = config.adapter.is_on() && !checkpoint.is_adapter();
    if config.needs_reference() && config.objective.reference.is_none() && !is_new_adapter {
        let path = if path.is_file() { path } else { checkpoint.path() };
        config.objective.reference = Some(path.into());
    }
    let tokenizer = if keys.iter().any(|key| key.starts_with("tokenizer.")) {
        None
    } else {
        let path = checkpoint.tokenizer_path();
        if !checkpoint.has_tokenizer() {
            return Err(Error::NotFound {
                path,
                hint: hint![
                    "put the model's tokenizer there, or set one, for example with ",
                    hint::set("tokenizer.kind", "file").and_choose("tokenizer.path", "FILE")
                ],
            });
        }
        config.tokenizer =
            TokenizerConfig { kind: TokenizerKind::File, path: Some(path), ..Default::default() };
        Some(checkpoint.tokenizer()?)
    };
    // Validation would advise another vocabulary, which the model cannot have.
    if config.tokenizer.kind == TokenizerKind::Byte && config.model.vocab_size < 256 {
        return Err(too_many_tokens(TokenizerKind::Byte, 256, checkpoint));
    }
    config.validate()?;
    Ok((config, tokenizer))
}

/// Completes the adapter that the user asks for with the path of the model. If the checkpoint is an adapter, that one is
/// trained further, with another dropout if the user set one.
fn adapter(said: AdapterConfig, keys: &[String], checkpoint: &Checkpoint) -> Result<AdapterConfig> {
    let absolute = |path: &Path| std::path::absolute(path).map_err(|e| Error::io("find", path, e));
    let Some(own) = checkpoint.adapter_config()? else {
        let base = said.is_on().then(|| absolute(&checkpoint.location())).transpose()?;
        return Ok(AdapterConfig { base, ..said });
    };
    let sets = |key: &str| keys.iter().any(|set| set == key);
    let dropout = if sets("adapter.dropout") { said.dropout } else { own.dropout };
    let (said_tree, own_tree) = (serde_json::to_value(&said), serde_json::to_value(&own));
    let (said_tree, own_tree) = (said_tree.unwrap_or_default(), own_tree.unwrap_or_default());
    for key in keys.iter().filter(|key| !["adapter.dropout", "adapter.base"].contains(&key.as_str())) {
        let Some(field) = key.strip_prefix("adapter.") else { continue };
        if said_tree.get(field) != own_tree.get(field) {
            return Err(Error::InvalidValue {
                key: key.clone(),
                value: shown(said_tree.get(field)),
                message: format!(
                    "the adapter in `{}` has `{}`",
                    checkpoint.path().display(),
                    shown(own_tree.get(field))
                ),
                hint: Some(hint![
                    "leave it out: the adapter is trained further as it is; for another one, merge it first: ",
                    hint::command("kiln merge DIR --out MODEL")
                ]),
            });
        }
    }
    let base = own.base.as_deref().map(absolute).transpose()?;
    Ok(AdapterConfig { dropout, base, ..own })
}

/// Takes the checkpoint's model and applies what the user set; `said` holds the values of `keys`.
fn model(said: &ModelConfig, keys: &[String], checkpoint: &Checkpoint) -> Result<ModelConfig> {
    let own = &checkpoint.model;
    let refused = |key: &str, value: &Value, message: String| Error::InvalidValue {
        key: key.into(),
        value: shown(Some(value)),
        message,
        hint: Some(hint![
            "leave it out: ",
            hint::command("--init-from"),
            " takes the model as it is, but for a shorter ",
            hint::key("model.block_size"),
            ", another ",
            hint::key("model.dropout"),
            ", the capacity and losses of experts, and the head"
        ]),
    };
    let folder = checkpoint.path().display();
    let (said_tree, mut tree) = (tree(said, own), tree(own, own));
    for key in keys {
        let Some(field) = key.strip_prefix("model.") else { continue };
        let pointer = format!("/{}", field.replace('.', "/"));
        let (Some(said), Some(has)) = (said_tree.pointer(&pointer), tree.pointer_mut(&pointer)) else {
            continue;
        };
        if FREE.contains(&key.as_str()) {
            *has = said.clone();
        } else if said != has {
            return Err(refused(key, said, format!("the model in `{folder}` has `{}`", shown(Some(has)))));
        }
    }
    let mut model: ModelConfig = serde_json::from_value(tree).map_err(|e| Error::Checkpoint {
        path: checkpoint.path().into(),
        message: e.to_string(),
        hint: None,
    })?;
    if model.block_size > own.block_size {
        let message = format!("the model in `{folder}` has positions for {} tokens", own.block_size);
        return Err(refused("model.block_size", &model.block_size.into(), message));
    }
    if model.head != own.head && model.labels == own.labels {
        // Those of the data.
        model.labels.clear();
    }
    Ok(ModelConfig {
        n_kv_head: own.n_kv_head,
        head_dim: own.head_dim,
        attention: AttentionConfig { scale: own.attention.scale, ..model.attention },
        n_inner: own.n_inner,
        ..model
    })
}

/// Turns a model's configuration into JSON, with derived values in place of absent ones.
fn tree(model: &ModelConfig, own: &ModelConfig) -> Value {
    let resolved = ModelConfig {
        n_kv_head: Some(model.kv_heads()),
        head_dim: Some(model.head_size()),
        attention: AttentionConfig { scale: Some(model.score_scale()), ..model.attention },
        n_inner: Some(model.inner_size()),
        vocab_size: if model.vocab_size == 0 { own.vocab_size } else { model.vocab_size },
        ..model.clone()
    };
    serde_json::to_value(resolved).unwrap_or_default()
}

fn shown(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        value => value.unwrap_or(&Value::Null).to_string(),
    }
}

/// Refuses a tokenizer with more tokens than the model has embeddings.
///
/// # Errors
/// [`Error::InvalidValue`] if the tokenizer has too many tokens.
pub(super) fn check_vocabulary(tokenizer: &Tokenizer, checkpoint: &Checkpoint) -> Result<()> {
    match tokenizer.vocab_size() {
        tokens if tokens > checkpoint.model.vocab_size => {
            Err(too_many_tokens(tokenizer.kind(), tokens, checkpoint))
        }
        _ => Ok(()),
    }
}

fn too_many_tokens(kind: TokenizerKind, tokens: usize, checkpoint: &Checkpoint) -> Error {
    let (has, folder) = (checkpoint.model.vocab_size, checkpoint.path().display());
    Error::InvalidValue {
        key: "tokenizer.kind".into(),
        value: shown(serde_json::to_value(kind).ok().as_ref()),
        message: format!("it has {tokens} tokens, but the model in `{folder}` has {has}"),
        hint: Some("leave the tokenizer out to take the one of the model".into()),
    }
}
