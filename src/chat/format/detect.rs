//! Tells the format of a file by its first records.

use super::{Fields, Format};
use crate::{
    conversation::{Value, entries},
    refusal::{Refusal, Result},
};

/// Tells the format of a record by its fields; `None` if it is no dialogue. A record with a `text` and no field
/// of a dialogue is [`Format::Text`].
pub fn detect(record: &Value) -> Option<Format> {
    let fields = Fields::of(record).ok()?;
    let has = |name: &str| fields.has(name);
    let is_labelled = || fields.flag(&["label", "kto_tag"]).is_ok();
    let is_answered = || has("messages") || has("conversations") || (has("prompt") && has("completion"));
    Some(match () {
        () if has("chosen") && has("rejected") => Format::Preference,
        () if is_answered() && is_labelled() => Format::Labelled,
        () if is_answered() && fields.number("score").is_ok() => Format::Scored,
        () if has("messages") => Format::Messages,
        () if has("conversations") => Format::Sharegpt,
        () if has("instruction") && has("output") && is_labelled() => Format::Labelled,
        () if has("instruction") && has("output") => Format::Alpaca,
        () if has("prompt") && has("completion") => Format::PromptCompletion,
        () if has("prompt") || has("instruction") => Format::Prompts,
        () if has("text") => Format::Text,
        () => return None,
    })
}

/// Names the fields of a record, for messages.
///
/// # Errors
/// A refusal if it is no object.
pub fn describe_fields(record: &Value) -> Result<String> {
    Fields::of(record)?;
    let names: Vec<String> =
        entries(record).unwrap_or_default().into_iter().map(|(name, _)| format!("`{name}`")).collect();
    match names.is_empty() {
        true => Err(Refusal::malformed("has no fields")),
        false => Ok(names.join(", ")),
    }
}
