//! `kiln data inspect`: shows counts of a run, examples of its documents, and the trace of one document.

mod overview;
mod trace;

use super::{
    documents::Document,
    figures,
    files::Files,
    samples::{self, excerpt},
};
use crate::{
    cli::table::grouped,
    error::Error,
    prepare::{Manifest, StageSummary, Workspace},
};
use anyhow::Result;
use serde::Serialize;
use std::{collections::BTreeSet, path::PathBuf};

/// Value of `--reason` that selects documents that a stage kept.
const KEPT: &str = "kept";

/// Characters that are shown of a text without `--full`.
const EXCERPT: usize = 600;

#[derive(Debug, clap::Args)]
pub(super) struct InspectArguments {
    /// Output of `kiln data run`: a folder, or the address of one in an object store
    #[arg(value_name = "DIR|URL")]
    folder: String,
    /// Folder for what is read of an object store; default: one for temporary files
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Show documents that this stage dropped
    #[arg(long, value_name = "NAME")]
    stage: Option<String>,
    /// Show documents that were dropped for this reason; `kept`: those that a stage kept, by default the last one
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Trace one document through all stages
    #[arg(long, value_name = "ID", conflicts_with_all = ["stage", "reason"])]
    id: Option<String>,
    /// Documents of each reason
    #[arg(long, value_name = "N", default_value_t = 5)]
    count: usize,
    /// Show texts in full
    #[arg(long)]
    full: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &InspectArguments) -> Result<()> {
    let files = Files::new(Workspace::open(&arguments.folder, arguments.cache.as_deref(), 0)?)?;
    let manifest = files.manifest()?;
    if let Some(id) = &arguments.id {
        return trace::run(arguments, &files, &manifest, id);
    }
    if arguments.stage.is_none() && arguments.reason.is_none() {
        return overview::run(arguments, &manifest);
    }
    let shown = select(arguments, &files, &manifest)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&shown)?);
        return Ok(());
    }
    if shown.is_empty() {
        println!("nothing was dropped here; `--reason kept` shows what was kept");
    }
    for shown in &shown {
        println!("{}", describe(shown));
    }
    Ok(())
}

/// A document as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    stage: String,
    /// Length of the full text.
    bytes: usize,
    #[serde(flatten)]
    document: Document,
}

/// Selects the documents that the arguments ask for.
fn select(arguments: &InspectArguments, files: &Files, manifest: &Manifest) -> Result<Vec<Shown>> {
    let stages = figures::document_stages(manifest);
    let labels = figures::labels(&stages);
    let mut chosen: Vec<(&String, &StageSummary)> = labels.iter().zip(stages.iter().copied()).collect();
    if let Some(name) = &arguments.stage {
        known("stage", name, labels.iter().map(String::as_str))?;
        chosen.retain(|(label, _)| *label == name);
    }
    if arguments.reason.as_deref() == Some(KEPT) && arguments.stage.is_none() {
        chosen.drain(..chosen.len().saturating_sub(1));
    }
    let reasons: BTreeSet<&str> =
        chosen.iter().flat_map(|(_, stage)| stage.counts.dropped.keys()).map(String::as_str).collect();
    if let Some(reason) = &arguments.reason {
        known("reason", reason, reasons.iter().copied().chain([KEPT]))?;
    }
    let mut shown = Vec::new();
    for (label, stage) in chosen {
        let mut push = |mut document: Document| {
            let bytes = document.text.len();
            if !arguments.full {
                document.text = excerpt(&document.text, EXCERPT);
            }
            shown.push(Shown { stage: label.clone(), bytes, document });
        };
        match arguments.reason.as_deref() {
            Some(KEPT) => samples::each_kept(files, stage, arguments.count, &mut push)?,
            reason => {
                let is_wanted = |own: &&String| reason.is_none_or(|reason| *own == reason);
                let wanted = stage.counts.dropped.keys().filter(is_wanted);
                let wanted = wanted.map(|reason| (reason.as_str(), arguments.count)).collect();
                samples::each_dropped(files, stage, wanted, &mut push)?;
            }
        }
    }
    Ok(shown)
}

/// Refuses a name that is not among `names`.
fn known<'a>(what: &'static str, name: &str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let names: Vec<&str> = names.collect();
    if names.contains(&name) {
        return Ok(());
    }
    let hint = format!("there are {}", names.join(", ")).into();
    Err(Error::UnknownName { what, name: name.into(), hint }.into())
}

/// Formats a document with all its fields.
fn describe(Shown { stage, bytes, document }: &Shown) -> String {
    let why = if document.reason.is_empty() { KEPT } else { document.reason.as_str() };
    let mut text = format!("{stage}: {}\n", printable(why));
    let bytes = grouped(*bytes as u64);
    let fields = [
        ("detail", document.detail.as_str()),
        ("id", document.id.as_str()),
        ("source", document.source.as_str()),
        ("file", document.file.as_str()),
        ("url", document.url.as_str()),
        ("language", document.language.as_str()),
        ("metadata", document.metadata.as_str()),
        ("bytes", bytes.as_str()),
    ];
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("  {name:<9} {}\n", printable(value)));
    }
    text.push_str(&indented(&document.text));
    text
}

/// Formats a text as indented lines.
fn indented(text: &str) -> String {
    let lines = text.lines().map(|line| format!("  | {}\n", printable(line)));
    lines.collect()
}

/// Replaces control characters in foreign text, which a terminal would obey.
fn printable(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\t', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_refused_with_those_there_are() {
        assert!(known("stage", "clean", ["extract", "clean"].into_iter()).is_ok());
        let error = known("stage", "clear", ["extract", "clean"].into_iter()).unwrap_err();
        let error = error.downcast_ref::<Error>().unwrap();
        assert_eq!(error.to_string(), "unknown stage `clear`");
        assert_eq!(error.hint().unwrap().to_string(), "there are extract, clean");
    }

    #[test]
    fn documents_are_described_without_control_characters() {
        let document = Document {
            id: "a\u{1b}[2J".into(),
            reason: "short".into(),
            text: "one\n\u{7}two".into(),
            ..Document::default()
        };
        let text = describe(&Shown { stage: "c4".into(), bytes: 1234, document });
        let expected = "c4: short\n  id        a\u{fffd}[2J\n  bytes     1,234\n  | one\n  | \u{fffd}two\n";
        assert_eq!(text, expected);
    }
}
