//! Prompts from rows of a split: where a row has targets, the prompt is what precedes them, and the targets
//! are the reference answer.

use super::excerpt;
use crate::{
    config::Config,
    data::{HostBatch, TokenSplit},
    error::{Error, Result, hint},
    tokenizer::Tokenizer,
};
use serde_json::Value;

/// A prompt, and what its answers are compared with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prompt {
    pub tokens: Vec<u32>,
    pub text: String,
    /// The reference answer; `None` if the data has none.
    pub reference: Option<String>,
    /// The record that the prompt is from; null for a text.
    pub record: Value,
}

/// Reads the prompts of a batch, one a row. Rows without a token are left out.
///
/// # Errors
/// [`Error::InvalidValue`] for a record without the field that `rollout.answer_field` names, and
/// [`Error::Tokenizer`].
pub fn prompts(
    batch: &HostBatch,
    split: &TokenSplit,
    tokenizer: &Tokenizer,
    config: &Config,
) -> Result<Vec<Prompt>> {
    let field = config.rollout.answer_field.as_deref();
    let mut prompts = Vec::new();
    for row in 0..batch.rows {
        let (prompt, completion) = batch.prompt_and_completion(row);
        // Between the turns of a dialogue there are positions without a target.
        let to_tokens =
            |tokens: &[i32]| tokens.iter().filter_map(|&token| u32::try_from(token).ok()).collect::<Vec<_>>();
        let tokens = to_tokens(prompt);
        if tokens.is_empty() {
            continue;
        }
        let mut reference = to_tokens(completion);
        reference.retain(|token| !tokenizer.end_tokens().contains(token));
        let record = batch.records.get(row).map_or(&Value::Null, |&index| split.record(index));
        let reference = match field {
            Some(field) => Some(text_of(record, field)?),
            None if reference.is_empty() => None,
            None => Some(tokenizer.decode(&reference)?.trim().to_owned()),
        };
        let text = tokenizer.decode(&tokens)?;
        prompts.push(Prompt { tokens, text, reference, record: record.clone() });
    }
    Ok(prompts)
}

/// Text of a record's field; a number or a condition as JSON writes it.
fn text_of(record: &Value, field: &str) -> Result<String> {
    match &record[field] {
        Value::String(text) => Ok(text.trim().to_owned()),
        value @ (Value::Number(_) | Value::Bool(_)) => Ok(value.to_string()),
        _ => Err(Error::InvalidValue {
            key: "rollout.answer_field".into(),
            value: field.into(),
            message: format!("a record has no text or number there: `{}`", excerpt(&record.to_string())),
            hint: Some(hint!["leave records without an answer out, or name another field"]),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::presets::Preset, data::Dataset, data::Loader, data::RowLayout};

    /// Procedural tasks are prompts with answers that can be verified.
    #[test]
    fn a_task_gives_prompts_with_reference_answers() {
        let mut config = Preset::find("addition").unwrap().config().unwrap();
        config.apply(&["objective.kind=grpo".into(), "rollout.max_new_tokens=8".into()]).unwrap();
        let dataset = Dataset::prepare(&config, None).unwrap();
        let layout = RowLayout::of(&config, &dataset.tokenizer).unwrap();
        let loader = Loader::new(dataset.train.clone(), layout, config.data.order, 8, 1).unwrap();
        let found = prompts(&loader.rows(0, 0..8), &dataset.train, &dataset.tokenizer, &config).unwrap();
        assert_eq!(found.len(), 8);
        for prompt in found {
            let numbers: Vec<u32> =
                prompt.text.strip_suffix('=').unwrap().split('+').map(|n| n.parse().unwrap()).collect();
            let sum: String = format!("{:03}", numbers[0] + numbers[1]).chars().rev().collect();
            assert_eq!(prompt.reference.unwrap(), sum);
            assert_eq!(dataset.tokenizer.decode(&prompt.tokens).unwrap(), prompt.text);
        }
    }

    #[test]
    fn answers_of_records_are_texts_or_numbers() {
        let record = serde_json::json!({ "answer": 42, "text": " yes\n", "list": [1] });
        assert_eq!(text_of(&record, "answer").unwrap(), "42");
        assert_eq!(text_of(&record, "text").unwrap(), "yes");
        for field in ["list", "none"] {
            assert!(
                text_of(&record, field).unwrap_err().to_string().contains("no text or number"),
                "{field}"
            );
        }
    }
}
