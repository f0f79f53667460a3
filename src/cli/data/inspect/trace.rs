//! Traces one document through the stages.

use super::{EXCERPT, InspectArguments, KEPT, indented, printable};
use crate::{
    cli::{
        data::{
            documents::{self, Document},
            figures,
            files::Files,
            samples::excerpt,
        },
        table::{Align, Table, grouped},
    },
    error::{Error, hint},
    prepare::{Manifest, StageSummary},
};
use anyhow::Result;
use serde::Serialize;
use std::{collections::BTreeSet, ops::ControlFlow};

/// Outcome of a stage for one document.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Event {
    stage: String,
    /// `kept`, or the reason why it was dropped.
    outcome: String,
    detail: String,
    language: String,
    bytes: u64,
    /// True if the text or the language differs from the stage before.
    is_changed: bool,
    /// Identifier of the document that was kept in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    representative: Option<String>,
}

/// Outcomes of all stages for one document, and the document as the last of them left it.
#[derive(Debug, Serialize)]
struct Trace {
    events: Vec<Event>,
    /// The document; several if it was split or if documents share an identifier.
    documents: Vec<Document>,
}

pub(super) fn run(arguments: &InspectArguments, files: &Files, manifest: &Manifest, id: &str) -> Result<()> {
    let mut trace = trace(files, manifest, id)?;
    if trace.events.is_empty() {
        let hint = hint![
            hint::command("--reason kept"),
            " and ",
            hint::command("--stage extract"),
            " show documents with their ids"
        ];
        return Err(Error::UnknownName { what: "document", name: id.into(), hint }.into());
    }
    let bytes: Vec<u64> = trace.documents.iter().map(|document| document.text.len() as u64).collect();
    if !arguments.full {
        trace.documents.iter_mut().for_each(|document| document.text = excerpt(&document.text, EXCERPT));
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&trace)?);
        return Ok(());
    }
    print!("{}", table(&trace.events));
    for (document, bytes) in trace.documents.iter().zip(bytes) {
        println!("\n{}: {} bytes of {}", printable(id), grouped(bytes), printable(&document.source));
        for place in [&document.file, &document.url, &document.metadata] {
            if !place.is_empty() {
                println!("  {}", printable(place));
            }
        }
        print!("{}", indented(&document.text));
    }
    Ok(())
}

/// Follows all documents with an identifier through the stages, as long as one of them is kept.
fn trace(files: &Files, manifest: &Manifest, id: &str) -> Result<Trace> {
    let stages = figures::document_stages(manifest);
    let labels = figures::labels(&stages);
    let mut trace = Trace { events: Vec::new(), documents: Vec::new() };
    // A part has the same name in all stages: after the first one, few are left to look into.
    let mut open: Option<BTreeSet<String>> = None;
    for (index, (stage, label)) in stages.iter().zip(&labels).enumerate() {
        let (found, own) = of_id(files, stage, id, open.as_ref())?;
        if found.is_empty() {
            break;
        }
        open = Some(own);
        for document in &found {
            let before = index.checked_sub(1).map(|before| stages[before]);
            let is_known = trace
                .documents
                .iter()
                .any(|earlier| earlier.text == document.text && earlier.language == document.language);
            trace.events.push(Event {
                stage: label.clone(),
                outcome: if document.reason.is_empty() { KEPT.into() } else { document.reason.clone() },
                detail: document.detail.clone(),
                language: document.language.clone(),
                bytes: document.text.len() as u64,
                is_changed: index > 0 && !is_known,
                representative: representative(files, before, document)?,
            });
        }
        trace.documents = found;
    }
    Ok(trace)
}

/// Finds the documents with an identifier in a stage, and the parts that contain them.
fn of_id(
    files: &Files,
    stage: &StageSummary,
    id: &str,
    open: Option<&BTreeSet<String>>,
) -> Result<(Vec<Document>, BTreeSet<String>)> {
    let (mut found, mut own) = (Vec::new(), BTreeSet::new());
    let is_open = |file: &String| open.is_none_or(|open| open.contains(file));
    for part in stage.parts.iter().filter(|part| is_open(&part.file)) {
        let path = files.part(stage, part)?;
        let positions = documents::positions(&path, &["id"], |columns, row| {
            ControlFlow::Continue(columns.text("id", row) == Some(id))
        })?;
        if !positions.is_empty() {
            own.insert(part.file.clone());
        }
        documents::read(&path, &positions, |document| found.push(document))?;
    }
    Ok((found, own))
}

/// Finds the identifier of the document that was kept in place of a duplicate.
fn representative(
    files: &Files,
    before: Option<&StageSummary>,
    document: &Document,
) -> Result<Option<String>> {
    let number = documents::representative(&document.reason, &document.detail);
    let (Some(before), Some(number)) = (before, number) else { return Ok(None) };
    Ok(documents::numbered(files, before, number)?.map(|document| document.id))
}

fn table(events: &[Event]) -> Table {
    let mut table = Table::new([
        ("stage", Align::Left),
        ("outcome", Align::Left),
        ("bytes", Align::Right),
        ("language", Align::Left),
        ("", Align::Left),
    ]);
    for event in events {
        let mut notes = Vec::new();
        if event.is_changed {
            notes.push("changed".to_owned());
        }
        match &event.representative {
            Some(id) => notes.push(format!("duplicate of `{}`", printable(id))),
            None if !event.detail.is_empty() => notes.push(printable(&event.detail)),
            None => {}
        }
        table.row([
            event.stage.clone(),
            printable(&event.outcome),
            grouped(event.bytes),
            printable(&event.language),
            notes.join(", "),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_shows_changes_and_what_was_kept_instead() {
        let event = |stage: &str, outcome: &str, bytes, is_changed, representative: Option<&str>| Event {
            stage: stage.into(),
            outcome: outcome.into(),
            detail: "17".into(),
            language: "en".into(),
            bytes,
            is_changed,
            representative: representative.map(str::to_owned),
        };
        let events =
            [event("clean", "kept", 1234, true, None), event("exact", "gone", 99, false, Some("a\n"))];
        let expected = "stage  outcome  bytes  language\n\
                        clean  kept     1,234  en        changed, 17\n\
                        exact  gone        99  en        duplicate of `a\u{fffd}`\n";
        assert_eq!(table(&events).to_string(), expected);
    }
}
