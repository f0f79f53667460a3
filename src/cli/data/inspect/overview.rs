//! Shows the counts of a run in tables.

use super::{InspectArguments, printable};
use crate::{
    cli::{
        data::figures::{self, by_size, megabytes, percent, share},
        table::{Align, Table, bytes, duration, grouped},
    },
    prepare::{Manifest, Split, StageSummary},
};
use anyhow::Result;
use serde_json::{Value, json};

pub(super) fn run(arguments: &InspectArguments, manifest: &Manifest) -> Result<()> {
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&values(manifest))?);
        return Ok(());
    }
    for (title, table) in tables(manifest) {
        print!("{title}\n{table}");
    }
    Ok(())
}

/// Returns the overview as JSON.
fn values(manifest: &Manifest) -> Value {
    let stages = figures::document_stages(manifest);
    let all: Vec<&StageSummary> = manifest.stages.iter().collect();
    let stage = |(label, stage): (String, &&StageSummary)| {
        json!({
            "stage": label,
            "read": stage.read,
            "kept": stage.counts.kept,
            "dropped": stage.counts.dropped,
            "skipped": stage.skipped,
            "seconds": stage.seconds,
            "task_seconds": stage.task_seconds,
            "groups": stage.groups,
        })
    };
    let last = stages.last().map(|stage| &stage.counts);
    json!({
        "kiln": manifest.kiln,
        "seed": manifest.seed,
        "funnel": figures::funnel(manifest),
        "stages": figures::labels(&all).into_iter().zip(&all).map(stage).collect::<Vec<_>>(),
        "sources": manifest.sources,
        "kept_by_source": last.map(|counts| &counts.sources),
        "kept_by_language": last.map(|counts| &counts.languages),
        "quartiles_of_bytes_read": stages.first().and_then(|stage| figures::quartiles(&stage.counts.lengths)),
        "quartiles_of_bytes_kept": last.and_then(|counts| figures::quartiles(&counts.lengths)),
        "blend": manifest.blend,
        "shards": manifest.shards,
    })
}

/// Builds titled tables; tables with nothing to show are left out.
fn tables(manifest: &Manifest) -> Vec<(String, Table)> {
    let mut tables = vec![("documents".to_owned(), funnel(manifest))];
    let stages = figures::document_stages(manifest);
    for (label, stage) in figures::labels(&stages).iter().zip(&stages) {
        if figures::dropped(stage) > 0 {
            tables.push((format!("\ndropped by {label}"), reasons(stage)));
        }
    }
    if let (Some(first), Some(last)) = (stages.first(), stages.last()) {
        if !last.counts.languages.is_empty() {
            tables.push(("\nlanguages".into(), languages(last)));
        }
        tables.push(("\nsources".into(), sources(manifest, first, last)));
        tables.push(("\nlengths, about".into(), lengths(first, last)));
    }
    for (label, stage) in figures::labels(&stages).iter().zip(&stages) {
        let sizes = stage.groups.as_ref().map(|groups| figures::group_sizes(&groups.sizes));
        if let Some(sizes) = sizes.filter(|sizes| !sizes.is_empty()) {
            tables.push((format!("\ngroups of {label}"), groups(&sizes)));
        }
    }
    if !manifest.blend.is_empty() {
        tables.push(("\nblend".into(), blend(manifest)));
    }
    if !manifest.shards.is_empty() {
        tables.push(("\nshards".into(), shards(manifest)));
    }
    tables
}

fn funnel(manifest: &Manifest) -> Table {
    let mut table = Table::new([
        ("after", Align::Left),
        ("documents", Align::Right),
        ("share", Align::Right),
        ("text", Align::Right),
        ("share", Align::Right),
        ("lines", Align::Right),
        ("time", Align::Right),
        ("MB/s", Align::Right),
    ]);
    let stages = figures::document_stages(manifest);
    // Of what was read there is no time.
    let times = stages.iter().map(|stage| [duration(stage.seconds), figures::speed(stage)]);
    let times = std::iter::once([String::new(), String::new()]).chain(times);
    for (row, [time, speed]) in figures::funnel(manifest).into_iter().zip(times) {
        table.row([
            row.stage,
            grouped(row.documents),
            percent(row.documents_share),
            megabytes(row.bytes),
            percent(row.bytes_share),
            grouped(row.lines),
            time,
            speed,
        ]);
    }
    table
}

fn reasons(stage: &StageSummary) -> Table {
    let mut table = Table::new([
        ("reason", Align::Left),
        ("documents", Align::Right),
        ("share", Align::Right),
        ("text", Align::Right),
        ("lines", Align::Right),
    ]);
    for (reason, count) in by_size(&stage.counts.dropped) {
        table.row([
            printable(reason),
            grouped(count.documents),
            percent(share(count.documents, stage.read.documents)),
            megabytes(count.bytes),
            grouped(count.lines),
        ]);
    }
    table
}

fn languages(last: &StageSummary) -> Table {
    let mut table = Table::new([
        ("language", Align::Left),
        ("documents", Align::Right),
        ("share", Align::Right),
        ("text", Align::Right),
    ]);
    for (code, count) in by_size(&last.counts.languages) {
        table.row([
            printable(figures::language(code)),
            grouped(count.documents),
            percent(share(count.documents, last.counts.kept.documents)),
            megabytes(count.bytes),
        ]);
    }
    table
}

fn sources(manifest: &Manifest, first: &StageSummary, last: &StageSummary) -> Table {
    let mut table = Table::new([
        ("source", Align::Left),
        ("licence", Align::Left),
        ("files", Align::Right),
        ("size", Align::Right),
        ("documents", Align::Right),
        ("kept", Align::Right),
        ("text kept", Align::Right),
    ]);
    for source in &manifest.sources {
        let read = first.counts.sources.get(&source.name).copied().unwrap_or_default();
        let kept = last.counts.sources.get(&source.name).copied().unwrap_or_default();
        table.row([
            printable(&source.name),
            printable(&source.license),
            grouped(source.files as u64),
            bytes(source.bytes),
            grouped(read.documents),
            grouped(kept.documents),
            megabytes(kept.bytes),
        ]);
    }
    table
}

fn lengths(first: &StageSummary, last: &StageSummary) -> Table {
    let mut table = Table::new([
        ("", Align::Left),
        ("a quarter below", Align::Right),
        ("half", Align::Right),
        ("three quarters", Align::Right),
    ]);
    for (name, stage) in [("read", first), ("kept", last)] {
        if let Some(quartiles) = figures::quartiles(&stage.counts.lengths) {
            table.row(std::iter::once(name.to_owned()).chain(quartiles.map(bytes)));
        }
    }
    table
}

fn groups(sizes: &[(u32, u32, u64)]) -> Table {
    let mut table = Table::new([("documents in a group", Align::Left), ("groups", Align::Right)]);
    for &(least, greatest, count) in sizes {
        let size = match least == greatest {
            true => grouped(least.into()),
            false => format!("{} to {}", grouped(least.into()), grouped(greatest.into())),
        };
        table.row([size, grouped(count)]);
    }
    table
}

fn blend(manifest: &Manifest) -> Table {
    let mut table = Table::new([
        ("source", Align::Left),
        ("asked", Align::Right),
        ("reached", Align::Right),
        ("epochs", Align::Right),
        ("tokens there are", Align::Right),
        ("tokens", Align::Right),
    ]);
    for source in &manifest.blend {
        table.row([
            printable(&source.name),
            percent(source.asked),
            percent(source.reached),
            format!("{:.2}", source.epochs),
            grouped(source.available),
            grouped(source.tokens),
        ]);
    }
    table
}

fn shards(manifest: &Manifest) -> Table {
    let mut table = Table::new([
        ("split", Align::Left),
        ("files", Align::Right),
        ("documents", Align::Right),
        ("tokens", Align::Right),
    ]);
    for split in [Split::Train, Split::Val] {
        let own = || manifest.shards.iter().filter(|shard| shard.split == split);
        table.row([
            figures::split_name(split).to_owned(),
            grouped(own().count() as u64),
            grouped(own().map(|shard| shard.documents).sum()),
            grouped(figures::tokens(manifest, Some(split))),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::{Count, Counts};
    use std::collections::BTreeMap;

    #[test]
    fn the_overview_has_times_and_reasons() {
        let count = |documents| Count { documents, bytes: 1_000_000 * documents, lines: 9 * documents };
        let stage = |name: &str, read, kept, reason: &str| StageSummary {
            name: name.into(),
            read: count(read),
            counts: Counts {
                kept: count(kept),
                dropped: BTreeMap::from([(reason.to_owned(), count(read - kept))]),
                ..Counts::default()
            },
            bytes_in: 1_000_000 * read,
            seconds: 2.0,
            ..StageSummary::default()
        };
        let stages = vec![stage("extract", 10, 8, "failed"), stage("c4", 8, 6, "c4_curly")];
        let manifest = Manifest { stages, ..Manifest::default() };
        let text: String =
            tables(&manifest).iter().map(|(title, table)| format!("{title}\n{table}")).collect();
        assert!(text.starts_with("documents\nafter "), "{text}");
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("extract 8 80.0% 8.0 MB 80.0% 72 2.0s 5.0 c4 6"), "{text}");
        assert!(text.contains("dropped by c4\n"), "{text}");
        assert!(words.contains("c4_curly 2 25.0% 2.0 MB 18"), "{text}");
        assert_eq!(values(&manifest)["funnel"][2]["documents"], 6);
    }
}
