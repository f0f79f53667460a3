//! The sections of the report that show documents: dropped, duplicate and kept ones, and bad records.

use super::html::table;
use crate::{
    cli::{
        data::{
            documents, figures,
            samples::{DuplicateSample, Sample},
        },
        report::escape,
        table::{Align, grouped},
    },
    prepare::Manifest,
};
use std::fmt::Write;

/// Adds duplicates beside the documents kept in their place.
pub(super) fn duplicates(html: &mut String, samples: &[DuplicateSample]) {
    if samples.is_empty() {
        return;
    }
    html.push_str("<h2>Duplicates and what was kept for them</h2>\n");
    for DuplicateSample { duplicate, representative, jaccard } in samples {
        let _ = write!(
            html,
            "<details>\n<summary>{}: Jaccard {jaccard:.3}, {} and {} bytes</summary>\n<div class=\"pair\">\n",
            escape(&duplicate.stage),
            grouped(representative.bytes),
            grouped(duplicate.bytes)
        );
        for (what, sample) in [("kept", representative), ("dropped", duplicate)] {
            let _ = writeln!(
                html,
                "<div>\n<p>{what}: {}</p>\n<pre>{}</pre>\n</div>",
                origin(sample),
                escape(&sample.excerpt)
            );
        }
        html.push_str("</div>\n</details>\n");
    }
}

/// Adds dropped documents by stage and reason. Duplicates have a section of their own.
pub(super) fn rejects(html: &mut String, manifest: &Manifest, samples: &[Sample]) {
    let stages = figures::document_stages(manifest);
    let all = |label: &str, reason: &str| {
        let labels = figures::labels(&stages);
        let stage = labels.iter().zip(&stages).find(|(own, _)| own.as_str() == label);
        let count = stage.and_then(|(_, stage)| stage.counts.dropped.get(reason));
        count.map_or(0, |count| count.documents)
    };
    let is_shown = |sample: &&Sample| documents::representative(&sample.reason, &sample.detail).is_none();
    let shown: Vec<&Sample> = samples.iter().filter(is_shown).collect();
    if shown.is_empty() {
        return;
    }
    html.push_str("<h2>Dropped documents</h2>\n");
    for group in shown.chunk_by(|a, b| (&a.stage, &a.reason) == (&b.stage, &b.reason)) {
        let Some(first) = group.first() else { continue };
        let _ = writeln!(
            html,
            "<details>\n<summary>{}: {} ({} of {})</summary>",
            escape(&first.stage),
            escape(&first.reason),
            group.len(),
            grouped(all(&first.stage, &first.reason))
        );
        group.iter().for_each(|sample| push(html, sample));
        html.push_str("</details>\n");
    }
}

/// Adds documents that all stages kept.
pub(super) fn documents(html: &mut String, samples: &[Sample]) {
    if samples.is_empty() {
        return;
    }
    let count = samples.len();
    let _ = writeln!(html, "<h2>Kept documents</h2>\n<details>\n<summary>The first {count}</summary>");
    samples.iter().for_each(|sample| push(html, sample));
    html.push_str("</details>\n");
}

/// Adds records that could not be read and documents on which a step failed.
pub(super) fn bad_records(html: &mut String, manifest: &Manifest, samples: &[Sample]) {
    if samples.is_empty() {
        return;
    }
    let all: u64 = figures::document_stages(manifest).iter().map(|stage| figures::failures(stage)).sum();
    let _ = writeln!(html, "<h2>Bad records</h2>\n<p>{} of {}.</p>", samples.len(), grouped(all));
    let columns =
        [("stage", Align::Left), ("source", Align::Left), ("file", Align::Left), ("why", Align::Left)];
    let row = |sample: &Sample| {
        vec![sample.stage.clone(), sample.source.clone(), sample.file.clone(), sample.detail.clone()]
    };
    table(html, &columns, &samples.iter().map(row).collect::<Vec<_>>());
}

/// Adds a document to a section.
fn push(html: &mut String, sample: &Sample) {
    let detail = match sample.detail.as_str() {
        "" => String::new(),
        detail => format!("<strong>{}</strong> ", escape(detail)),
    };
    let _ = writeln!(
        html,
        "<div class=\"sample\">\n<p>{detail}{}</p>\n<pre>{}</pre>\n</div>",
        origin(sample),
        escape(&sample.excerpt)
    );
}

/// Formats where a document is from, escaped.
fn origin(sample: &Sample) -> String {
    let place = if sample.url.is_empty() { sample.file.as_str() } else { sample.url.as_str() };
    let language = figures::language(&sample.language);
    let parts = [sample.id.as_str(), sample.source.as_str(), place, language].map(escape);
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    format!("{}, {} bytes", parts.join(", "), grouped(sample.bytes))
}
