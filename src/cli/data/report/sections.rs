//! The sections of the report that show counts. A section with nothing to show is left out.

use super::html::{self, Bar, legend, table};
use crate::{
    cli::{
        data::figures::{self, by_size, megabytes, percent, share},
        report::escape,
        table::{Align, bytes, duration, grouped},
    },
    prepare::{Count, Manifest, StageSummary},
};
use std::{collections::BTreeMap, fmt::Write};

/// Number of digits that are shown of a digest; the dataset card has all.
const DIGEST: usize = 12;

/// Maximum languages in the table.
const LANGUAGES: usize = 40;

/// Adds the documents and bytes that are left after each stage.
pub(super) fn funnel(html: &mut String, manifest: &Manifest) {
    let rows = figures::funnel(manifest);
    // Where documents are cut into several, more come out than were read.
    let most = |of: fn(&figures::FunnelRow) -> f64| rows.iter().map(of).fold(1.0, f64::max);
    let (most_documents, most_bytes) = (most(|row| row.documents_share), most(|row| row.bytes_share));
    if rows.is_empty() {
        return;
    }
    html.push_str(
        "<h2>What is left after each stage</h2>\n<div class=\"pair\">\n<div>\n<h3>Documents</h3>\n",
    );
    let bars: Vec<Bar> = rows
        .iter()
        .map(|row| Bar {
            name: row.stage.clone(),
            value: format!("{} ({})", grouped(row.documents), percent(row.documents_share)),
            share: row.documents_share / most_documents,
            behind: None,
        })
        .collect();
    html::bars(html, &bars);
    html.push_str("</div>\n<div>\n<h3>Text</h3>\n");
    let bars: Vec<Bar> = rows
        .iter()
        .map(|row| Bar {
            name: row.stage.clone(),
            value: format!("{} ({})", megabytes(row.bytes), percent(row.bytes_share)),
            share: row.bytes_share / most_bytes,
            behind: None,
        })
        .collect();
    html::bars(html, &bars);
    html.push_str("</div>\n</div>\n");
}

/// Adds a table of all stages, then each stage's reasons for dropping documents.
pub(super) fn stages(html: &mut String, manifest: &Manifest) {
    if manifest.stages.is_empty() {
        return;
    }
    html.push_str("<h2>Stages</h2>\n");
    let columns = [
        ("stage", Align::Left),
        ("documents in", Align::Right),
        ("kept", Align::Right),
        ("share", Align::Right),
        ("lines kept", Align::Right),
        ("dropped", Align::Right),
        ("failed", Align::Right),
        ("time", Align::Right),
        ("MB/s", Align::Right),
        ("MB/s of a task", Align::Right),
    ];
    let all: Vec<&StageSummary> = manifest.stages.iter().collect();
    let labels = figures::labels(&all);
    let rows: Vec<Vec<String>> = labels
        .iter()
        .zip(&all)
        .map(|(label, stage)| {
            let failures = figures::failures(stage);
            vec![
                label.clone(),
                grouped(stage.read.documents),
                grouped(stage.counts.kept.documents),
                percent(share(stage.counts.kept.documents, stage.read.documents)),
                grouped(stage.counts.kept.lines),
                grouped(figures::dropped(stage).saturating_sub(failures)),
                grouped(failures),
                duration(stage.seconds),
                figures::speed(stage),
                figures::task_speed(stage),
            ]
        })
        .collect();
    table(html, &columns, &rows);
    for (label, stage) in labels.iter().zip(&all) {
        reasons(html, label, stage);
    }
}

/// Adds the reasons for which a stage dropped documents.
fn reasons(html: &mut String, label: &str, stage: &StageSummary) {
    let dropped = by_size(&stage.counts.dropped);
    let most = dropped.iter().map(|(_, count)| count.documents).max().unwrap_or_default();
    if most == 0 && stage.skipped == 0 {
        return;
    }
    let _ = writeln!(
        html,
        "<details open>\n<summary>{}: {} of {} documents dropped</summary>",
        escape(label),
        grouped(figures::dropped(stage)),
        grouped(stage.read.documents)
    );
    let bar = |(reason, count): &(&str, Count)| {
        let of_read = percent(share(count.documents, stage.read.documents));
        Bar {
            name: (*reason).to_owned(),
            value: format!("{} ({of_read}), {}", grouped(count.documents), megabytes(count.bytes)),
            share: share(count.documents, most),
            behind: None,
        }
    };
    if most > 0 {
        html::bars(html, &dropped.iter().map(bar).collect::<Vec<_>>());
    }
    if stage.skipped > 0 {
        let _ = writeln!(
            html,
            "<p class=\"note\">{} records without text were passed over.</p>",
            grouped(stage.skipped)
        );
    }
    html.push_str("</details>\n");
}

/// Adds the lengths of documents as they were read and as they are at the end.
pub(super) fn lengths(html: &mut String, manifest: &Manifest) {
    let stages = figures::document_stages(manifest);
    let (Some(first), Some(last)) = (stages.first(), stages.last()) else { return };
    if first.counts.lengths.is_empty() {
        return;
    }
    html.push_str("<h2>Lengths</h2>\n<p>Documents by bytes of text, in powers of two.</p>\n");
    legend(html, "read", "kept by all stages");
    html::lengths(html, &first.counts.lengths, &last.counts.lengths);
    let row = |name: &str, lengths: &BTreeMap<u32, u64>| {
        let quartiles = figures::quartiles(lengths)?;
        Some(std::iter::once(name.to_owned()).chain(quartiles.map(bytes)).collect::<Vec<_>>())
    };
    let rows: Vec<_> = [row("read", &first.counts.lengths), row("kept", &last.counts.lengths)]
        .into_iter()
        .flatten()
        .collect();
    let columns = [
        ("about", Align::Left),
        ("a quarter is shorter than", Align::Right),
        ("half", Align::Right),
        ("three quarters", Align::Right),
    ];
    table(html, &columns, &rows);
}

/// Adds the documents of each language, read and kept.
pub(super) fn languages(html: &mut String, manifest: &Manifest) {
    let stages = figures::document_stages(manifest);
    let Some(last) = stages.last() else { return };
    let languages = by_size(&last.counts.languages);
    if languages.is_empty() {
        return;
    }
    html.push_str("<h2>Languages</h2>\n");
    let columns = [
        ("language", Align::Left),
        ("documents kept", Align::Right),
        ("share", Align::Right),
        ("text kept", Align::Right),
    ];
    let rows: Vec<Vec<String>> = languages
        .iter()
        .take(LANGUAGES)
        .map(|(code, count)| {
            vec![
                figures::language(code).to_owned(),
                grouped(count.documents),
                percent(share(count.documents, last.counts.kept.documents)),
                megabytes(count.bytes),
            ]
        })
        .collect();
    table(html, &columns, &rows);
    if languages.len() > LANGUAGES {
        let _ = writeln!(html, "<p>{} more.</p>", languages.len() - LANGUAGES);
    }
}

/// Adds the sources of the documents.
pub(super) fn sources(html: &mut String, manifest: &Manifest) {
    let stages = figures::document_stages(manifest);
    let (Some(first), Some(last)) = (stages.first(), stages.last()) else { return };
    if manifest.sources.is_empty() {
        return;
    }
    html.push_str("<h2>Sources</h2>\n");
    let columns = [
        ("source", Align::Left),
        ("licence", Align::Left),
        ("version", Align::Left),
        ("files", Align::Right),
        ("size", Align::Right),
        ("documents", Align::Right),
        ("kept", Align::Right),
        ("share", Align::Right),
        ("text kept", Align::Right),
    ];
    let of = |stage: &StageSummary, name: &str| stage.counts.sources.get(name).copied().unwrap_or_default();
    let rows: Vec<Vec<String>> = manifest
        .sources
        .iter()
        .map(|source| {
            let (read, kept) = (of(first, &source.name), of(last, &source.name));
            vec![
                source.name.clone(),
                source.license.clone(),
                source.version.clone(),
                grouped(source.files as u64),
                bytes(source.bytes),
                grouped(read.documents),
                grouped(kept.documents),
                percent(share(kept.documents, read.documents)),
                megabytes(kept.bytes),
            ]
        })
        .collect();
    table(html, &columns, &rows);
}

/// Adds the sizes of the groups of duplicates.
pub(super) fn groups(html: &mut String, manifest: &Manifest) {
    let stages = figures::document_stages(manifest);
    for (label, stage) in figures::labels(&stages).iter().zip(&stages) {
        let Some(groups) = &stage.groups else { continue };
        let sizes = figures::group_sizes(&groups.sizes);
        if sizes.is_empty() {
            continue;
        }
        let most = sizes.iter().map(|(_, _, count)| *count).max().unwrap_or_default();
        let all: u64 = sizes.iter().map(|(_, _, count)| *count).sum();
        let _ = writeln!(html, "<h2>Groups of {}: {}</h2>", escape(label), grouped(all));
        let bars: Vec<Bar> = sizes
            .iter()
            .map(|&(least, greatest, count)| Bar {
                name: match least == greatest {
                    true => format!("{} documents", grouped(least.into())),
                    false => format!("{} to {} documents", grouped(least.into()), grouped(greatest.into())),
                },
                value: grouped(count),
                share: share(count, most),
                behind: None,
            })
            .collect();
        html::bars(html, &bars);
    }
}

/// Adds the sources' shares, requested and reached.
pub(super) fn blend(html: &mut String, manifest: &Manifest) {
    if manifest.blend.is_empty() {
        return;
    }
    html.push_str("<h2>Blend</h2>\n");
    let columns = [
        ("source", Align::Left),
        ("asked", Align::Right),
        ("reached", Align::Right),
        ("epochs", Align::Right),
        ("tokens there are", Align::Right),
        ("tokens in the blend", Align::Right),
    ];
    let rows: Vec<Vec<String>> = manifest
        .blend
        .iter()
        .map(|source| {
            vec![
                source.name.clone(),
                percent(source.asked),
                percent(source.reached),
                format!("{:.2}", source.epochs),
                grouped(source.available),
                grouped(source.tokens),
            ]
        })
        .collect();
    table(html, &columns, &rows);
    legend(html, "asked", "reached");
    let bars: Vec<Bar> = manifest
        .blend
        .iter()
        .map(|source| Bar {
            name: source.name.clone(),
            value: percent(source.reached),
            share: source.reached,
            behind: Some(source.asked),
        })
        .collect();
    html::bars(html, &bars);
}

/// Adds the files that training reads.
pub(super) fn shards(html: &mut String, manifest: &Manifest) {
    if manifest.shards.is_empty() {
        return;
    }
    let _ = writeln!(
        html,
        "<h2>Shards</h2>\n<details open>\n<summary>Files: {}</summary>",
        manifest.shards.len()
    );
    let columns = [
        ("file", Align::Left),
        ("split", Align::Left),
        ("tokens", Align::Right),
        ("documents", Align::Right),
        ("SHA-256", Align::Left),
    ];
    let rows: Vec<Vec<String>> = manifest
        .shards
        .iter()
        .map(|shard| {
            vec![
                shard.file.clone(),
                figures::split_name(shard.split).to_owned(),
                grouped(shard.tokens),
                grouped(shard.documents),
                format!("{}…", shard.sha256.chars().take(DIGEST).collect::<String>()),
            ]
        })
        .collect();
    table(html, &columns, &rows);
    html.push_str("</details>\n");
}
