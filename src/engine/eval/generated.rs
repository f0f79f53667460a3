//! Compares the texts that an encoder-decoder generates with their targets.

use crate::{
    config::SampleConfig,
    data::{Labels, TokenSplit},
    error::Result,
    generate::{Generator, StopReason},
};
use kiln_base::edit_distance::edit_distance;
use serde::Serialize;

/// Scores of greedily generated texts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GeneratedScores {
    /// Share of the texts that are equal to their targets.
    pub exact_match: f64,
    /// Number of words to replace, insert or delete, divided by the number of words in the targets. If words
    /// are phonemes, this is the phoneme error rate.
    pub word_error_rate: f64,
    pub texts: usize,
}

/// Number of texts that are generated together.
const AT_ONCE: usize = 64;

/// Generates a text for each document of a split with [`Labels::TargetTexts`] and compares it with the
/// target. Returns `None` for any other split.
///
/// # Errors
/// Those of [`Generator::generate_each`].
pub async fn evaluate_generated(
    generator: &Generator<'_>,
    split: &TokenSplit,
    interrupted: &dyn Fn() -> bool,
) -> Result<Option<GeneratedScores>> {
    let Labels::TargetTexts(begins) = split.labels() else { return Ok(None) };
    let tokens = |document: usize| -> Vec<u32> {
        split.read(split.document(document)).into_iter().map(|token| token as u32).collect()
    };
    let (mut right, mut errors, mut words, mut texts) = (0usize, 0usize, 0usize, 0usize);
    let documents: Vec<usize> = (0..split.document_count()).collect();
    for documents in documents.chunks(AT_ONCE) {
        let (mut sources, mut targets, mut longest) = (Vec::new(), Vec::new(), 0);
        for &document in documents {
            let tokens = tokens(document);
            let (source, target) = tokens.split_at(begins[document].min(tokens.len()));
            longest = longest.max(target.len());
            sources.push(generator.tokenizer.decode(source)?);
            targets.push(generator.tokenizer.decode(target)?);
        }
        // Twice as long as anything that is right is wrong however it goes on.
        let sample = SampleConfig {
            temperature: 0.0,
            max_new_tokens: 2 * longest + 1,
            stop: Vec::new(),
            ..SampleConfig::default()
        };
        let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
        let found = generator.generate_each(&sources, 0, &sample, interrupted).await?;
        // Texts that an interrupt has cut off tell nothing.
        let whole = found.iter().zip(&targets).filter(|(found, _)| found.reason != StopReason::Interrupted);
        for (found, target) in whole {
            right += usize::from(&found.text == target);
            let target: Vec<&str> = target.split_whitespace().collect();
            errors += edit_distance(&found.text.split_whitespace().collect::<Vec<_>>(), &target);
            words += target.len();
            texts += 1;
        }
        if interrupted() {
            break;
        }
    }
    Ok(Some(GeneratedScores {
        exact_match: right as f64 / texts.max(1) as f64,
        word_error_rate: errors as f64 / words.max(1) as f64,
        texts,
    }))
}
