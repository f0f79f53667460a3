//! `kiln data train-filter`: trains a quality classifier on two sets of samples, or a model of characters on
//! one.

use super::super::table::grouped;
use crate::{
    error::{Error, hint},
    platform::storage,
    prepare::{
        filters::{
            classifier::{Classifier, ClassifierConfig, Samples},
            ngram::{NgramConfig, NgramCounts},
        },
        read_documents, split_words,
    },
};
use std::path::PathBuf;

/// One sample in this many is held out for measuring.
const HELD_OUT: usize = 10;

#[derive(Debug, clap::Args)]
pub(super) struct FilterArguments {
    /// Files with texts to keep
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    good: Vec<PathBuf>,
    /// Files with texts to drop
    #[arg(long, value_name = "FILE", num_args = 1.., required_unless_present = "ngrams")]
    bad: Vec<PathBuf>,
    /// Where to write the model
    #[arg(long, value_name = "FILE", default_value = "quality.model")]
    out: PathBuf,
    /// A model of characters' n-grams, for `perplexity` and `gibberish`, of the good texts alone
    #[arg(long, conflicts_with = "bad")]
    ngrams: bool,
    /// Longest n-gram of the classifier, in words
    #[arg(long, value_name = "N", default_value_t = ClassifierConfig::default().ngram)]
    ngram: usize,
    /// Passes over the samples
    #[arg(long, value_name = "N", default_value_t = ClassifierConfig::default().epochs)]
    epochs: usize,
    /// Seed of the order of samples
    #[arg(long, value_name = "N", default_value_t = ClassifierConfig::default().seed)]
    seed: u64,
}

pub(super) fn run(arguments: &FilterArguments) -> anyhow::Result<()> {
    let good = texts(&arguments.good)?;
    if arguments.ngrams {
        let mut counts = NgramCounts::new(&NgramConfig::default())?;
        good.iter().for_each(|text| counts.add(text));
        storage::write_atomic(&arguments.out, &counts.build()?.to_bytes()?)?;
        println!("{}: characters of {} texts", arguments.out.display(), grouped(good.len() as u64));
        return Ok(());
    }
    let bad = texts(&arguments.bad)?;
    let config = ClassifierConfig {
        ngram: arguments.ngram,
        epochs: arguments.epochs,
        seed: arguments.seed,
        ..ClassifierConfig::default()
    };
    let mut training = Samples::new(&config)?;
    let is_held_out = |index: usize| index % HELD_OUT == HELD_OUT - 1;
    let all = || {
        good.iter()
            .map(|text| (text, true))
            .enumerate()
            .chain(bad.iter().map(|text| (text, false)).enumerate())
    };
    for (_, (text, is_good)) in all().filter(|(index, _)| !is_held_out(*index)) {
        training.add(text, is_good, &mut |text| split_words("", text));
    }
    let (model, losses) = training.train()?;
    let held_out = all().filter(|(index, _)| is_held_out(*index)).map(|(_, sample)| sample);
    let scores = score(&model, held_out);
    storage::write_atomic(&arguments.out, &model.to_bytes()?)?;
    let loss = losses.last().copied().unwrap_or_default();
    println!(
        "{}: {} good, {} bad samples",
        arguments.out.display(),
        grouped(good.len() as u64),
        grouped(bad.len() as u64)
    );
    println!("loss {loss:.4} on what it learned from; held out: {scores}");
    Ok(())
}

/// Measures a classifier that accepts scores of one half and above.
fn score<'a>(model: &Classifier, samples: impl Iterator<Item = (&'a String, bool)>) -> String {
    let (mut hits, mut found, mut good, mut count, mut right) = (0, 0, 0, 0, 0);
    for (text, is_good) in samples {
        let is_found = model.score(text, &mut |text| split_words("", text)) >= 0.5;
        hits += usize::from(is_found && is_good);
        found += usize::from(is_found);
        good += usize::from(is_good);
        right += usize::from(is_found == is_good);
        count += 1;
    }
    if count == 0 {
        return "too few to measure".into();
    }
    let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
    let (precision, recall) = (share(hits, found), share(hits, good));
    let f1 = 2.0 * precision * recall / (precision + recall).max(f64::MIN_POSITIVE);
    let accuracy = share(right, count);
    format!(
        "{count} samples, accuracy {accuracy:.4}, precision {precision:.4}, recall {recall:.4}, F1 {f1:.4}"
    )
}

/// Reads the texts of files. A file that cannot be read is an error, since half the samples make another
/// model.
fn texts(files: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    let mut texts = Vec::new();
    for file in files {
        if !file.is_file() {
            let hint = hint![
                hint::command("--good"),
                " and ",
                hint::command("--bad"),
                " take files of any format that a pipeline reads"
            ];
            return Err(Error::NotFound { path: file.clone(), hint }.into());
        }
        texts.extend(read_documents(file)?.into_iter().map(|document| document.text));
    }
    Ok(texts)
}
