//! Collects examples of the documents of a run: dropped documents with the reason, duplicates beside the
//! documents kept in their place, bad records, and documents that passed all stages. They are the first of
//! their kind, so that a run always gives the same examples.

use super::{
    documents::{self, Document},
    figures::{self, FAILED},
    files::Files,
};
use crate::prepare::{Manifest, StageSummary};
use anyhow::Result;
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    ops::ControlFlow,
};

/// Characters of an excerpt.
const EXCERPT: usize = 300;

/// Maximum duplicates that are shown of a stage.
const DUPLICATES: usize = 5;
/// Maximum bad records that are shown of all stages.
const BAD_RECORDS: usize = 100;

/// Number of words in a shingle.
const SHINGLE: usize = 5;

/// A document with an excerpt of its text.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Sample {
    /// Label of the stage that the document is taken from.
    pub stage: String,
    pub id: String,
    pub source: String,
    pub file: String,
    pub url: String,
    pub language: String,
    /// Reason for dropping it; empty if it was kept.
    pub reason: String,
    pub detail: String,
    pub bytes: u64,
    pub excerpt: String,
}

/// A dropped duplicate, and the document that was kept in its place.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct DuplicateSample {
    pub duplicate: Sample,
    pub representative: Sample,
    /// Jaccard similarity of their shingles of five words.
    pub jaccard: f64,
}

/// Examples of a run that the report shows.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Samples {
    pub rejects: Vec<Sample>,
    pub duplicates: Vec<DuplicateSample>,
    pub bad_records: Vec<Sample>,
    /// Documents that all stages kept.
    pub documents: Vec<Sample>,
}

impl Sample {
    pub fn of(stage: &str, document: Document) -> Self {
        Self {
            stage: stage.into(),
            bytes: document.text.len() as u64,
            excerpt: excerpt(&document.text, EXCERPT),
            id: document.id,
            source: document.source,
            file: document.file,
            url: document.url,
            language: document.language,
            reason: document.reason,
            detail: document.detail,
        }
    }
}

/// Collects the samples of a run: up to `per_reason` documents of each stage and reason, and as many that
/// were kept.
///
/// # Errors
/// Errors of reading parts.
pub(super) fn collect(files: &Files, manifest: &Manifest, per_reason: usize) -> Result<Samples> {
    let stages = figures::document_stages(manifest);
    let labels = figures::labels(&stages);
    let mut samples = Samples::default();
    for (index, (stage, label)) in stages.iter().zip(&labels).enumerate() {
        let mut wanted: BTreeMap<&str, usize> = BTreeMap::new();
        for reason in stage.counts.dropped.keys() {
            let is_bad_record = reason == FAILED;
            wanted.insert(
                reason,
                if is_bad_record {
                    BAD_RECORDS.saturating_sub(samples.bad_records.len())
                } else {
                    per_reason
                },
            );
        }
        each_dropped(files, stage, wanted, |document| {
            let sample = Sample::of(label, document);
            if sample.reason == FAILED {
                samples.bad_records.push(sample)
            } else {
                samples.rejects.push(sample)
            }
        })?;
        if let Some(before) = index.checked_sub(1) {
            duplicates(files, label, stage, stages[before], &mut samples.duplicates)?;
        }
    }
    if let (Some(stage), Some(label)) = (stages.last(), labels.last()) {
        each_kept(files, stage, per_reason, |document| samples.documents.push(Sample::of(label, document)))?;
    }
    Ok(samples)
}

/// Passes the first documents of each reason to `each`, part by part; `wanted` has their number by reason.
pub(super) fn each_dropped(
    files: &Files,
    stage: &StageSummary,
    mut wanted: BTreeMap<&str, usize>,
    mut each: impl FnMut(Document),
) -> Result<()> {
    for part in &stage.parts {
        // What of it this part has: without any, it is not even opened.
        let mut here: BTreeMap<&str, usize> = BTreeMap::new();
        for (reason, count) in &part.counts.dropped {
            let most = wanted.get(reason.as_str()).copied().unwrap_or_default();
            here.insert(reason, most.min(usize::try_from(count.documents).unwrap_or(usize::MAX)));
        }
        let mut left: usize = here.values().sum();
        if left == 0 {
            continue;
        }
        let path = files.part(stage, part)?;
        let found = documents::positions(&path, &["reason"], |columns, row| {
            if left == 0 {
                return ControlFlow::Break(());
            }
            let Some(reason) = columns.text("reason", row) else { return ControlFlow::Continue(false) };
            match here.get_mut(reason) {
                Some(count) if *count > 0 => {
                    *count -= 1;
                    left -= 1;
                    ControlFlow::Continue(true)
                }
                _ => ControlFlow::Continue(false),
            }
        })?;
        documents::read(&path, &found, |document| {
            if let Some(count) = wanted.get_mut(document.reason.as_str()) {
                *count = count.saturating_sub(1);
            }
            each(document);
        })?;
    }
    Ok(())
}

/// Passes the first `count` documents that a stage kept to `each`.
pub(super) fn each_kept(
    files: &Files,
    stage: &StageSummary,
    count: usize,
    mut each: impl FnMut(Document),
) -> Result<()> {
    let mut left = count;
    for part in stage.parts.iter().filter(|part| part.counts.kept.documents > 0) {
        if left == 0 {
            break;
        }
        let path = files.part(stage, part)?;
        let found = documents::positions(&path, &["reason"], |columns, row| {
            if left == 0 {
                return ControlFlow::Break(());
            }
            let is_kept = columns.text("reason", row).is_none();
            left -= usize::from(is_kept);
            ControlFlow::Continue(is_kept)
        })?;
        documents::read(&path, &found, &mut each)?;
    }
    Ok(())
}

/// Adds duplicates that a stage found, at most one for each kept document, with the text of that document,
/// which is in the stage `before`.
fn duplicates(
    files: &Files,
    label: &str,
    stage: &StageSummary,
    before: &StageSummary,
    samples: &mut Vec<DuplicateSample>,
) -> Result<()> {
    if !stage.name.ends_with("-duplicates") || stage.groups.is_none() {
        return Ok(());
    }
    let mut seen = BTreeSet::new();
    for part in stage.parts.iter().filter(|part| !part.counts.dropped.is_empty()) {
        if seen.len() >= DUPLICATES {
            break;
        }
        let path = files.part(stage, part)?;
        let found = documents::positions(&path, &["reason", "detail"], |columns, row| {
            if seen.len() >= DUPLICATES {
                return ControlFlow::Break(());
            }
            let (reason, detail) = (columns.text("reason", row), columns.text("detail", row));
            let number = documents::representative(reason.unwrap_or_default(), detail.unwrap_or_default());
            ControlFlow::Continue(number.is_some_and(|number| seen.insert(number)))
        })?;
        let mut duplicates = Vec::new();
        documents::read(&path, &found, |document| duplicates.push(document))?;
        for duplicate in duplicates {
            let number = documents::representative(&duplicate.reason, &duplicate.detail);
            let Some(number) = number else { continue };
            let Some(representative) = documents::numbered(files, before, number)? else { continue };
            samples.push(DuplicateSample {
                jaccard: jaccard(&duplicate.text, &representative.text),
                duplicate: Sample::of(label, duplicate),
                representative: Sample::of(label, representative),
            });
        }
    }
    Ok(())
}

/// Returns the first characters of a text, with an ellipsis if there are more.
pub(super) fn excerpt(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

/// Computes the Jaccard similarity of two texts: the share of their shingles of five words that both have.
///
/// Words are runs of letters and digits in lower case; a text with fewer than five is one shingle.
pub(super) fn jaccard(a: &str, b: &str) -> f64 {
    let (a, b) = (shingles(a), shingles(b));
    let common = a.intersection(&b).count();
    let all = a.len() + b.len() - common;
    if all == 0 { 1.0 } else { common as f64 / all as f64 }
}

fn shingles(text: &str) -> HashSet<u64> {
    let text = text.to_lowercase();
    let words: Vec<&str> =
        text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    match words.len() {
        0 => HashSet::new(),
        1..SHINGLE => HashSet::from([digest(&words)]),
        _ => words.windows(SHINGLE).map(digest).collect(),
    }
}

fn digest(words: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    words.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jaccard_is_of_shingles_of_five_words() {
        assert_eq!(jaccard("", " .,"), 1.0);
        assert_eq!(jaccard("", "one"), 0.0);
        assert_eq!(jaccard("One, two", "one  two!"), 1.0);
        assert_eq!(jaccard("one two", "one three"), 0.0);
        // Two shingles each, one of them in common.
        assert_eq!(jaccard("a b c d e f", "x b c d e f"), 1.0 / 3.0);
    }

    #[test]
    fn excerpts_are_cut_between_characters() {
        assert_eq!(excerpt("größe", 5), "größe");
        assert_eq!(excerpt("größe", 3), "grö…");
        assert_eq!(excerpt("", 3), "");
    }
}
