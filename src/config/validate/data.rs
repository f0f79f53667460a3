//! The checks of the `data`, `tokenizer` and `objective` sections, and of what goes with which model.

use super::{Range, refused, size, within};
use crate::{
    config::{Architecture, Config, Head, Layout, Task, TokenizerKind},
    error::{Error, Result, hint},
};

pub(super) fn check(config: &Config) -> Result<()> {
    let Config { data, tokenizer, model, .. } = config;
    within("data.val_fraction", data.val_fraction, Range::Share)?;
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
    if !data.answer_after.is_empty() && data.layout != Layout::Documents {
        let message = "it applies to rows that are documents";
        let hint = hint!["add ", hint::set("data.layout", "documents")];
        return Err(refused("data.answer_after", &data.answer_after, message, hint));
    }
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

/// What of the data goes with which model.
pub(super) fn check_objective(config: &Config) -> Result<()> {
    let Config { data, model, objective, .. } = config;
    if !(objective.mask_fraction > 0.0 && objective.mask_fraction < 1.0) {
        let message = "expected a number above 0 and below 1";
        return Err(Error::invalid_value("objective.mask_fraction", objective.mask_fraction, message));
    }
    if !(objective.mean_span_length >= 1.0 && objective.mean_span_length.is_finite()) {
        let message = "expected a number from 1 on";
        return Err(Error::invalid_value("objective.mean_span_length", objective.mean_span_length, message));
    }
    if !(0.0..1.0).contains(&objective.label_smoothing) {
        let message = "expected a number from 0 on and below 1";
        return Err(Error::invalid_value("objective.label_smoothing", objective.label_smoothing, message));
    }
    if !(objective.z_loss >= 0.0 && objective.z_loss.is_finite()) {
        return Err(Error::invalid_value(
            "objective.z_loss",
            objective.z_loss,
            "expected a number from 0 on",
        ));
    }
    let classifies = model.head != Head::LanguageModel;
    if !data.label_field.is_empty() && !classifies {
        let message = "the model gives no classes";
        let hint = hint![
            "add ",
            hint::set("model.architecture", "encoder").and("model.head", "sequence-classification")
        ];
        return Err(refused("data.label_field", &data.label_field, message, hint));
    }
    if !data.target_field.is_empty() && model.architecture != Architecture::EncoderDecoder {
        let message = "only an encoder with a decoder writes another text";
        let hint = hint!["add ", hint::set("model.architecture", "encoder-decoder")];
        return Err(refused("data.target_field", &data.target_field, message, hint));
    }
    Ok(())
}
