//! Writes `OUT/report.html`: one page about a run of `kiln data`, without external resources, for light and
//! dark screens and phones. Everything comes from the manifest and from sampled documents.

mod html;
mod examples;
mod sections;

use super::{figures, files::Files, samples::Samples};
use crate::{
    cli::{
        report::{STYLE, escape},
        table::{duration, grouped, short},
    },
    prepare::Manifest,
};
use anyhow::Result;
use std::fmt::Write;

/// Name of the report in a run's folder.
pub(super) const FILE_NAME: &str = "report.html";

/// Writes the report into the run's folder.
///
/// # Errors
/// Errors of writing.
pub(super) fn write(files: &Files, manifest: &Manifest, samples: &Samples) -> Result<()> {
    files.write(FILE_NAME, &page(&files.name(), manifest, samples)?)
}

/// Builds the whole page.
fn page(name: &str, manifest: &Manifest, samples: &Samples) -> Result<String> {
    let name = escape(name);
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{name} - kiln data</title>\n\
         <style>\n{STYLE}{}</style>\n</head>\n<body>\n<main>\n<h1>{name}</h1>\n\
         <p>Made by <code>kiln data run</code> {}, seed {}.</p>\n<dl class=\"figures\">\n",
        include_str!("report/style.css"),
        escape(&manifest.kiln),
        manifest.seed
    );
    for (label, value) in totals(manifest) {
        let _ = writeln!(html, "<div><dt>{label}</dt><dd>{}</dd></div>", escape(&value));
    }
    html.push_str("</dl>\n");
    sections::funnel(&mut html, manifest);
    sections::stages(&mut html, manifest);
    sections::lengths(&mut html, manifest);
    sections::languages(&mut html, manifest);
    sections::sources(&mut html, manifest);
    sections::groups(&mut html, manifest);
    examples::duplicates(&mut html, &samples.duplicates);
    sections::blend(&mut html, manifest);
    sections::shards(&mut html, manifest);
    examples::rejects(&mut html, manifest, &samples.rejects);
    examples::documents(&mut html, &samples.documents);
    examples::bad_records(&mut html, manifest, &samples.bad_records);
    let _ = write!(
        html,
        "<h2>Pipeline</h2>\n<details>\n<summary>All settings</summary>\n<pre>{}</pre>\n</details>\n\
         </main>\n</body>\n</html>\n",
        escape(&serde_json::to_string_pretty(&manifest.pipeline)?)
    );
    Ok(html)
}

/// Figures at the top of the page.
fn totals(manifest: &Manifest) -> Vec<(&'static str, String)> {
    let stages = figures::document_stages(manifest);
    let mut totals = Vec::new();
    if let (Some(first), Some(last)) = (stages.first(), stages.last()) {
        let (read, kept) = (first.read, last.counts.kept);
        totals.push(("documents read", grouped(read.documents)));
        let share = figures::percent(figures::share(kept.documents, read.documents));
        totals.push(("documents kept", format!("{} ({share})", grouped(kept.documents))));
        totals.push((
            "text kept",
            format!("{} of {}", figures::megabytes(kept.bytes), figures::megabytes(read.bytes)),
        ));
        let failures: u64 = stages.iter().map(|stage| figures::failures(stage)).sum();
        totals.push(("bad records", grouped(failures)));
    }
    if !manifest.shards.is_empty() {
        totals.push(("tokens", short(figures::tokens(manifest, None) as f64)));
        totals.push(("shards", grouped(manifest.shards.len() as u64)));
    }
    totals.push(("time", duration(manifest.stages.iter().map(|stage| stage.seconds).sum())));
    totals
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::data::samples::{DuplicateSample, Sample},
        prepare::{BlendedSource, Count, Counts, Groups, ShardSummary, Split, StageSummary},
    };
    use std::collections::BTreeMap;

    fn manifest() -> Manifest {
        let count = |documents| Count { documents, bytes: 1000 * documents, lines: 20 * documents };
        let counts = |kept, dropped: &[(&str, u64)]| Counts {
            kept: count(kept),
            dropped: dropped
                .iter()
                .map(|(reason, documents)| ((*reason).into(), count(*documents)))
                .collect(),
            sources: BTreeMap::from([("web<1>".into(), count(kept))]),
            languages: BTreeMap::from([(String::new(), count(kept))]),
            lengths: BTreeMap::from([(9, kept)]),
        };
        let stage = |name: &str, read, counts| StageSummary {
            name: name.into(),
            read: count(read),
            counts,
            bytes_in: 1000 * read,
            seconds: 1.5,
            ..StageSummary::default()
        };
        let mut duplicates = stage("fuzzy-duplicates", 9, counts(7, &[("fuzzy_duplicate", 2)]));
        duplicates.groups = Some(Groups { documents: 9, sizes: BTreeMap::from([(3, 1)]) });
        let shard = ShardSummary {
            file: "train.bin".into(),
            split: Split::Train,
            tokens: 1_500_000,
            documents: 7,
            sha256: "0123456789abcdef".repeat(4),
            sources: BTreeMap::new(),
        };
        Manifest {
            kiln: "0.0.0".into(),
            seed: 7,
            pipeline: serde_json::json!({ "step": [{ "kind": "<kind>" }] }),
            stages: vec![stage("extract", 10, counts(9, &[("failed", 1)])), duplicates],
            blend: vec![BlendedSource {
                name: "web<1>".into(),
                asked: 1.0,
                reached: 1.0,
                ..Default::default()
            }],
            shards: vec![shard],
            ..Manifest::default()
        }
    }

    #[test]
    fn the_page_holds_everything_escaped_and_nothing_from_elsewhere() {
        let sample = |stage: &str, reason: &str, detail: &str| Sample {
            stage: stage.into(),
            id: "<id>".into(),
            reason: reason.into(),
            detail: detail.into(),
            excerpt: "<script>alert(1)</script>\u{1b}".into(),
            ..Sample::default()
        };
        let samples = Samples {
            rejects: vec![sample("extract", "empty", "")],
            duplicates: vec![DuplicateSample {
                duplicate: sample("fuzzy-duplicates", "fuzzy_duplicate", "3"),
                representative: sample("fuzzy-duplicates", "", ""),
                jaccard: 0.875,
            }],
            bad_records: vec![sample("extract", "failed", "at byte 17: <cut>")],
            documents: vec![sample("fuzzy-duplicates", "", "")],
        };
        let html = page("run <1>", &manifest(), &samples).unwrap();
        for text in [
            "run &lt;1&gt;",
            "7 (70.0%)",
            "1.5M",
            "0.875",
            "web&lt;1&gt;",
            "0123456789ab",
            "at byte 17",
            "&lt;kind&gt;",
        ] {
            assert!(html.contains(text), "{text}");
        }
        for text in ["<script", "<id>", "<1>", "<cut>", "<kind>", "http", "\u{1b}", "NaN"] {
            assert!(!html.contains(text), "{text}");
        }
    }

    #[test]
    fn a_run_without_anything_has_a_page() {
        let html = page("empty", &Manifest::default(), &Samples::default()).unwrap();
        assert!(html.ends_with("</html>\n") && !html.contains("NaN"));
    }
}
