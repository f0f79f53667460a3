//! Measures what a decoder has learned by heart, for `kiln eval --memorization` and, with `train.memorization`, at
//! the end of `kiln train`: extractable continuations, verbatim overlaps with the training text, canaries.

use super::{
    logfile::{self, read_events},
    table::grouped,
};
use crate::{
    checkpoint::Checkpoint,
    config::{Architecture, Config, SampleConfig},
    data::{Canary, Dataset, TokenSplit},
    error::{Error, hint},
    eval::{
        exposure::{Exposure, exposures},
        memorization::{
            Continuations, Extraction, Lengths, Memorization, OverlapReport, Prompts, continuations,
        },
    },
    generate::Generator,
    platform::Instant,
    train::event::{Event, OverfittingReport},
};
use kiln_overlap::{CHUNK, Overlap, longest_overlaps};
use std::path::Path;

/// Number of prompts from each split.
const PROMPTS: usize = 256;
/// Number of the newest samples of a run that are compared.
const MOST_SAMPLES: usize = 100;

/// Texts of one kind, as tokens.
struct Texts {
    kind: &'static str,
    texts: Vec<Vec<u32>>,
}

/// Checks that what a model has learned by heart can be measured.
///
/// # Errors
/// [`Error::InvalidValue`] for a model that is not a decoder, and for one whose training text is not known.
pub(super) fn check(checkpoint: &Checkpoint) -> crate::Result<()> {
    let refused = |message: &str, hint| {
        Err(Error::InvalidValue {
            key: "--memorization".into(),
            value: checkpoint.path().display().to_string(),
            message: message.into(),
            hint: Some(hint),
        })
    };
    if checkpoint.config.is_none() {
        let message = "the model was not trained by Kiln, so its training text is not known";
        return refused(message, hint!["name a run of ", hint::command("kiln train")]);
    }
    if checkpoint.model.architecture != Architecture::Decoder {
        let message = "only a decoder without an encoder continues a text";
        return refused(message, "leave the option out to measure the loss".into());
    }
    Ok(())
}

/// Measures a model against the data that it was trained on. `samples` are texts that it generated in training,
/// `rows` the number of prompts that are continued together. Returns `None` if it is interrupted.
///
/// # Errors
/// Those of the model's device, and [`kiln_overlap::Error`] if memory runs out.
pub(super) fn measure(
    generator: &Generator,
    config: &Config,
    dataset: &Dataset,
    samples: &[String],
    rows: usize,
    interrupted: &dyn Fn() -> bool,
) -> anyhow::Result<Option<Memorization>> {
    let start = Instant::now();
    let seed = config.train.seed;
    let lengths = Lengths::of_context(generator.config.block_size);
    let prompts = Prompts { count: PROMPTS, lengths, layout: config.layout(), seed, rows };
    let of_split =
        |split: &TokenSplit| pollster::block_on(continuations(generator, split, prompts, interrupted));
    let (train, validation) = (of_split(&dataset.train)?, of_split(&dataset.val)?);
    let greedy = SampleConfig { temperature: 0.0, num_beams: 1, ..config.sample.clone() };
    let greedy = pollster::block_on(generator.generate(&greedy, &mut |_| {}, interrupted))?;
    let [train_extraction, validation_extraction] =
        [&train, &validation].map(|found| found.extraction(lengths));
    let texts = texts(generator, samples, &greedy.text, train, validation)?;
    let Some(overlaps) = overlaps(generator, &dataset.train, &texts, interrupted)? else { return Ok(None) };
    let canaries = Canary::all(config);
    let exposures = pollster::block_on(exposures(generator, &canaries, seed, interrupted))?;
    if interrupted() {
        return Ok(None);
    }
    Ok(Some(Memorization {
        train: train_extraction,
        validation: validation_extraction,
        overlaps,
        canaries: exposures,
        seconds: start.elapsed().as_secs_f64(),
    }))
}

/// The newest samples in the log of a run; none if it has no log.
pub(super) fn samples_of(run: &Path) -> Vec<String> {
    let events = read_events(&run.join(logfile::FILE_NAME)).unwrap_or_default();
    let samples = events.into_iter().filter_map(|logged| match logged.event {
        Event::Sample(report) => Some(report.text),
        _ => None,
    });
    let mut samples: Vec<String> = samples.collect();
    samples.drain(..samples.len().saturating_sub(MOST_SAMPLES));
    samples
}

/// Collects the texts that are compared with the training text. Samples are tokenized anew.
fn texts(
    generator: &Generator,
    samples: &[String],
    greedy: &str,
    train: Continuations,
    validation: Continuations,
) -> crate::Result<Vec<Texts>> {
    // A sample may have characters that are in no token of the tokenizer: an incomplete one is U+FFFD.
    let encode = |text: &String| generator.tokenizer.encode(text).ok();
    let kinds = [
        ("samples of the run", samples.iter().filter_map(encode).collect()),
        ("greedy text", generator.tokenizer.encode(greedy).into_iter().collect()),
        ("continuations of training text", train.generated),
        ("continuations of validation text", validation.generated),
        ("validation text itself", validation.expected),
    ];
    let texts = kinds.into_iter().map(|(kind, texts)| Texts { kind, texts });
    Ok(texts.filter(|texts| !texts.texts.is_empty()).collect())
}

/// Finds the longest overlaps with the training text, a report for each kind of texts.
fn overlaps(
    generator: &Generator,
    split: &TokenSplit,
    kinds: &[Texts],
    interrupted: &dyn Fn() -> bool,
) -> anyhow::Result<Option<Vec<OverlapReport>>> {
    let all: Vec<Vec<i32>> = kinds
        .iter()
        .flat_map(|kind| &kind.texts)
        .map(|text| text.iter().map(|&token| token as i32).collect())
        .collect();
    let mut read = |range, tokens: &mut [i32]| split.copy(range, tokens);
    let Some(found) = longest_overlaps(&all, split.len(), CHUNK, &mut read, interrupted)? else {
        return Ok(None);
    };
    let mut found = found.into_iter();
    let reports = kinds.iter().map(|kind| report(generator, split, kind, found.by_ref()));
    Ok(Some(reports.collect::<crate::Result<_>>()?))
}

/// Reports the overlaps of one kind of texts, which `found` begins with.
fn report(
    generator: &Generator,
    split: &TokenSplit,
    kind: &Texts,
    found: &mut dyn Iterator<Item = Overlap>,
) -> crate::Result<OverlapReport> {
    let own: Vec<Overlap> = found.take(kind.texts.len()).collect();
    let count = own.len();
    let mean_tokens = own.iter().map(|overlap| overlap.len).sum::<usize>() as f64 / count.max(1) as f64;
    // The first of those that are equally long.
    let longest = own.into_iter().rev().max_by_key(|overlap| overlap.len).unwrap_or_default();
    let range = longest.corpus_start..longest.corpus_start + longest.len;
    let tokens: Vec<u32> = split.read(range).into_iter().map(|token| token as u32).collect();
    let text = generator.tokenizer.decode(&tokens)?;
    let document = match split.document_count() {
        0 => 0,
        _ => split.document_at(longest.corpus_start),
    };
    let document_start = if split.document_count() > 0 { split.document(document).start } else { 0 };
    Ok(OverlapReport {
        texts: kind.kind.into(),
        count,
        mean_tokens,
        tokens: longest.len,
        characters: text.chars().count(),
        text,
        document,
        offset: longest.corpus_start - document_start,
    })
}

/// Formats a warning of overfitting, with what helps.
pub(super) fn overfitting(report: &OverfittingReport) -> String {
    let OverfittingReport {
        evaluations,
        val_loss,
        best_val_loss,
        best_step,
        train_loss,
        train_loss_at_best,
        ..
    } = report;
    format!(
        "the model overfits: its validation loss, {val_loss:.4}, is above the best, {best_val_loss:.4} at step {}, for \
         {evaluations} evaluations in a row, while the training loss fell from {train_loss_at_best:.4} to \
         {train_loss:.4}; the checkpoint `best` is from before; train on more text, raise `model.dropout`, or end \
         runs there with `train.early_stopping_patience={evaluations}`",
        grouped(*best_step)
    )
}

/// A row of a table of figures: name and value.
pub(super) type Line = (String, String);

/// Formats the share of verbatim continuations.
pub(super) fn extraction_lines(memorization: &Memorization) -> Vec<Line> {
    let splits = [("training text", &memorization.train), ("validation text", &memorization.validation)];
    let line = |(split, extraction): (&str, &Option<Extraction>)| {
        let extraction = extraction.as_ref()?;
        let value = format!(
            "{:.2} % of {} prompts of {} tokens are continued verbatim for {} tokens; {:.1} on average",
            100.0 * extraction.verbatim,
            extraction.prompts,
            extraction.prompt_tokens,
            extraction.new_tokens,
            extraction.mean_common_tokens
        );
        Some((split.to_owned(), value))
    };
    splits.into_iter().filter_map(line).collect()
}

/// Formats the longest overlaps, without their text.
pub(super) fn overlap_lines(memorization: &Memorization) -> Vec<Line> {
    let line = |overlap: &OverlapReport| {
        let place = format!(
            "document {}, token {}",
            grouped(overlap.document as u64),
            grouped(overlap.offset as u64)
        );
        let value = format!(
            "{} tokens, {} characters ({place}); {:.1} tokens on average of {}",
            overlap.tokens, overlap.characters, overlap.mean_tokens, overlap.count
        );
        (overlap.texts.clone(), value)
    };
    memorization.overlaps.iter().map(line).collect()
}

/// Formats the exposure of canaries.
pub(super) fn canary_lines(memorization: &Memorization) -> Vec<Line> {
    let line = |canary: &Exposure| {
        let scored = match canary.is_estimate() {
            true => {
                format!("a sample of {} of {} secrets", grouped(canary.scored), grouped(canary.candidates))
            }
            false => format!("{} secrets", grouped(canary.candidates)),
        };
        // A sample says no more than its size.
        let bound = if canary.is_estimate() && canary.rank == 1 { "at least " } else { "" };
        let value = format!(
            "repeated {}×, exposure {bound}{:.2} of {:.2} bits, rank {} among {scored}",
            grouped(canary.repeat as u64),
            canary.exposure,
            (canary.candidates as f64).log2(),
            grouped(canary.rank)
        );
        (format!("`{}`", canary.text), value)
    };
    memorization.canaries.iter().map(line).collect()
}

/// Formats everything for a terminal.
pub(super) fn text(memorization: &Memorization) -> String {
    let mut text = String::new();
    let sections = [
        ("greedy continuations (arXiv:2202.07646)", extraction_lines(memorization)),
        ("longest verbatim overlap with the training text", overlap_lines(memorization)),
        ("canaries (arXiv:1802.08232)", canary_lines(memorization)),
    ];
    for (title, lines) in sections.into_iter().filter(|(_, lines)| !lines.is_empty()) {
        text.push_str(&format!("{title}\n"));
        for (name, value) in lines {
            text.push_str(&format!("  {name}: {value}\n"));
        }
    }
    text.trim_end().to_owned()
}
