//! Validation of the `data`, `tokenizer` and `objective` sections, and of their combination with the model.

use super::{refused, size};
use crate::{
    config::{Architecture, CanaryConfig, Config, Format, Head, Layout, ObjectiveKind, Task, TokenizerKind},
    error::{Error, Result, hint},
};

pub(super) fn check(config: &Config) -> Result<()> {
    let Config { data, tokenizer, model, .. } = config;
    if data.text_field.is_empty() {
        return Err(Error::invalid_value("data.text_field", "", "expected the name of a field"));
    }
    if data.task != Task::None && !data.paths.is_empty() {
        let message = "a task makes its own text, but `data.paths` names files too";
        let name = serde_json::to_value(data.task).unwrap_or_default();
        let name = name.as_str().unwrap_or_default().to_owned();
        return Err(refused(
            "data.task",
            name,
            message,
            hint!["add ", hint::set("data.task", "none"), " to train on the files"],
        ));
    }
    if let Some(mark) = data.answer_after.as_ref().filter(|_| config.layout() != Layout::Documents) {
        let message = "it applies to rows that are documents";
        let hint = hint!["add ", hint::set("data.layout", "documents")];
        return Err(refused("data.answer_after", mark, message, hint));
    }
    config.chat.check()?;
    check_format(config)?;
    if tokenizer.kind == TokenizerKind::Bpe {
        size("tokenizer.vocab_size", tokenizer.vocab_size)?;
        if tokenizer.vocab_size < 256 {
            let message = "a byte-level BPE has at least 256 tokens, one per byte";
            return Err(Error::invalid_value("tokenizer.vocab_size", tokenizer.vocab_size, message));
        }
    }
    if let Some(path) = tokenizer.path.as_ref().filter(|_| tokenizer.kind != TokenizerKind::File) {
        let message = "a path is only used with `tokenizer.kind` = `file`";
        let hint = hint!["add ", hint::set("tokenizer.kind", "file")];
        return Err(refused("tokenizer.path", path.display(), message, hint));
    }
    if tokenizer.kind == TokenizerKind::Byte && (1..256).contains(&model.vocab_size) {
        let message = "the byte tokenizer has 256 tokens";
        return Err(refused(
            "model.vocab_size",
            model.vocab_size,
            message,
            "set it to 256, or to 0 to follow",
        ));
    }
    Ok(())
}

/// Checks that the objective learns from the format that the user names.
fn check_format(config: &Config) -> Result<()> {
    let Some(format) = config.data.format.filter(|format| *format != Format::Text) else { return Ok(()) };
    let kind = config.objective_kind().name();
    let (message, hint) = match config.sample_kind() {
        Some(samples) if samples.formats().contains(&format) => return Ok(()),
        Some(samples) => {
            let formats: Vec<_> = samples.formats().iter().map(|f| format!("`{}`", f.name())).collect();
            (format!("`{kind}` learns from {}", formats.join(", ")), "name one of them, or leave it out")
        }
        None => (format!("`{kind}` learns from no dialogues"), "leave it out"),
    };
    Err(refused("data.format", format.name(), message, hint))
}

/// Checks that the data suits the model.
pub(super) fn check_objective(config: &Config) -> Result<()> {
    let Config { data, model, .. } = config;
    check_memorization(config)?;
    check_packing(config)?;
    let alpha = config.objective.neftune_alpha;
    if alpha > 0.0 && model.architecture != Architecture::Decoder {
        let message = "only a decoder has noise on its embeddings";
        let hint = hint!["add ", hint::set("objective.neftune_alpha", 0)];
        return Err(refused("objective.neftune_alpha", alpha, message, hint));
    }
    let (kind, objective) = (config.objective_kind(), &config.objective);
    let predicts_targets = kind.head().is_none() || kind == ObjectiveKind::Sft;
    for (key, value) in [
        ("objective.neftune_alpha", alpha),
        ("objective.label_smoothing", objective.label_smoothing),
        ("objective.z_loss", objective.z_loss),
    ] {
        if value > 0.0 && !predicts_targets {
            let message = format!("the objective `{}` does not take it into account", kind.name());
            return Err(refused(key, value, message, hint!["add ", hint::set(key, 0)]));
        }
    }
    let classifies = model.head != Head::LanguageModel;
    if let Some(field) = data.label_field.as_ref().filter(|_| !classifies) {
        let message = "the model gives no classes";
        let hint = hint![
            "add ",
            hint::set("model.architecture", "encoder").and("model.head", "sequence-classification")
        ];
        return Err(refused("data.label_field", field, message, hint));
    }
    if let Some(field) =
        data.target_field.as_ref().filter(|_| model.architecture != Architecture::EncoderDecoder)
    {
        let message = "only an encoder-decoder generates another text";
        let hint = hint!["add ", hint::set("model.architecture", "encoder-decoder")];
        return Err(refused("data.target_field", field, message, hint));
    }
    Ok(())
}

/// Checks that documents can be packed into rows and kept apart there.
fn check_packing(config: &Config) -> Result<()> {
    let Config { data, model, .. } = config;
    if !data.packing {
        return Ok(());
    }
    let (message, hint) = if !matches!(config.objective_kind(), ObjectiveKind::CausalLm | ObjectiveKind::Sft)
    {
        (
            "only the rows of a decoder that predicts tokens hold several documents",
            hint::set("data.packing", false),
        )
    } else if config.layout() != Layout::Documents {
        ("it packs documents", hint::set("data.layout", "documents"))
    } else if model.attention.prefix {
        ("a row has one prefix", hint::set("model.attention.prefix", false))
    } else if model.attention.sparse_block.is_some() {
        ("sparse blocks are counted from the beginning of a row", hint::set("data.packing", false))
    } else {
        return Ok(());
    };
    Err(refused("data.packing", true, message, hint!["add ", hint]))
}

/// Checks the canaries, and that the model learns a text that it can repeat.
fn check_memorization(config: &Config) -> Result<()> {
    let Config { data, model, train, .. } = config;
    data.canaries.iter().try_for_each(CanaryConfig::check)?;
    let key = match (&data.canaries[..], train.memorization) {
        ([], false) => return Ok(()),
        ([], true) => ("train.memorization", "true".to_owned()),
        (canaries, _) => ("data.canaries", format!("{} canaries", canaries.len())),
    };
    if model.architecture != Architecture::Decoder {
        let message = "only a decoder continues a text, by which its memory is measured";
        let hint = hint!["leave it out, or add ", hint::set("model.architecture", "decoder")];
        return Err(refused(key.0, key.1, message, hint));
    }
    if let Some(mark) = data.answer_after.as_ref().filter(|_| !data.canaries.is_empty()) {
        let message = format!("a canary has nothing after `{mark}`, so it would be left out of training");
        let hint = hint!["take away ", hint::key("data.answer_after"), " or the canaries"];
        return Err(refused(key.0, key.1, message, hint));
    }
    Ok(())
}
