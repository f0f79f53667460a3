//! Checks which documents have a target within a row, and reports those that do not.

use super::{Collator, Labels, TokenSplit};
use crate::{
    config::{Config, Layout},
    error::{Error, Result, hint},
};

/// Checks a split whose rows are documents. Returns notes for the user on the number of documents that are
/// left out because they have no target, and of those that are truncated.
///
/// # Errors
/// [`Error::InvalidValue`] if no document has a target.
pub(super) fn check(split: &TokenSplit, config: &Config, collator: &Collator) -> Result<Vec<String>> {
    let block_size = config.model.block_size;
    if config.layout() != Layout::Documents {
        return Ok(Vec::new());
    }
    let all = || {
        (0..split.document_count()).filter(|&index| split.document(index).len() >= collator.least_tokens())
    };
    let (with, without): (Vec<usize>, Vec<usize>) =
        all().partition(|&index| collator.has_target(split, index, block_size));
    let name = split.name();
    let mut notes = Vec::new();
    if !without.is_empty() {
        let (reasons, key, value) = match split.labels() {
            Labels::Completions(delimiters) => {
                let delimiter = config.data.answer_after.clone().unwrap_or_default();
                let count = |of: &dyn Fn(usize, usize) -> bool| {
                    let is = |index: &&usize| {
                        delimiters[**index]
                            .is_some_and(|delimiter| of(delimiter, split.document(**index).len()))
                    };
                    without.iter().filter(is).count()
                };
                let reasons = [
                    (
                        without.iter().filter(|&&index| delimiters[index].is_none()).count(),
                        format!("without `{delimiter}`"),
                    ),
                    (
                        count(&|delimiter, length| delimiter + 1 == length),
                        format!("with nothing behind `{delimiter}`"),
                    ),
                    (
                        count(&|delimiter, length| delimiter + 1 < length),
                        format!("with the targets beyond `model.block_size` ({block_size} tokens)"),
                    ),
                ];
                let reasons = reasons.iter().filter(|(count, _)| *count > 0);
                let reasons: Vec<_> = reasons.map(|(count, reason)| format!("{count} {reason}")).collect();
                (reasons.join(", "), "data.answer_after", delimiter.clone())
            }
            _ => {
                let reason = format!("none of their first {block_size} tokens (`model.block_size`) has one");
                (reason, "model.block_size", block_size.to_string())
            }
        };
        if with.is_empty() {
            return Err(Error::InvalidValue {
                key: key.into(),
                value,
                message: format!("no document of the {name} split has a target: {reasons}"),
                hint: Some(hint![
                    "shorten what precedes the targets, raise ",
                    hint::key("model.block_size"),
                    ", or give other data"
                ]),
            });
        }
        let (count, of) = (without.len(), with.len() + without.len());
        notes.push(format!(
            "{count} of {of} documents of the {name} split are left out, since they have no target: {reasons}"
        ));
    }
    let cut = with.iter().filter(|&&index| collator.is_cut(split, index, block_size)).count();
    if cut > 0 {
        notes.push(format!(
            "{cut} of {} documents of the {name} split are longer than `model.block_size` ({block_size} tokens) \
             allows: their end is cut off",
            with.len()
        ));
    }
    Ok(notes)
}
