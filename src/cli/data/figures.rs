//! Figures that the report, the dataset card and `kiln data inspect` share.

use super::super::table::grouped;
use crate::prepare::{Count, Manifest, Split, StageSummary};
use serde::Serialize;
use std::{cmp::Reverse, collections::BTreeMap};

/// Reason of a document that could not be read, or on which a step failed.
pub(super) const FAILED: &str = "failed";

/// Stages that hold documents; the stages of tokens and shards come after them.
pub(super) fn document_stages(manifest: &Manifest) -> Vec<&StageSummary> {
    manifest.stages.iter().filter(|stage| !matches!(stage.name.as_str(), "tokenize" | "shards")).collect()
}

/// Labels of stages: their names, with a number if a name occurs again: `clean`, `c4`, `clean-2`.
pub(super) fn labels(stages: &[&StageSummary]) -> Vec<String> {
    let mut labels = Vec::new();
    for (index, stage) in stages.iter().enumerate() {
        let earlier = stages[..index].iter().filter(|earlier| earlier.name == stage.name).count();
        labels.push(if earlier == 0 {
            stage.name.clone()
        } else {
            format!("{}-{}", stage.name, earlier + 1)
        });
    }
    labels
}

/// Documents and bytes that are left after a stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct FunnelRow {
    pub stage: String,
    pub documents: u64,
    pub bytes: u64,
    pub lines: u64,
    /// Share of the documents that were read: 0 to 1, or more if documents are split into several.
    pub documents_share: f64,
    pub bytes_share: f64,
}

/// Lists the documents that were read and those that are left after each stage.
pub(super) fn funnel(manifest: &Manifest) -> Vec<FunnelRow> {
    let stages = document_stages(manifest);
    let Some(first) = stages.first() else { return Vec::new() };
    let read = first.read;
    let row = |stage: String, count: Count| FunnelRow {
        stage,
        documents: count.documents,
        bytes: count.bytes,
        lines: count.lines,
        documents_share: share(count.documents, read.documents),
        bytes_share: share(count.bytes, read.bytes),
    };
    let kept = labels(&stages).into_iter().zip(&stages).map(|(label, stage)| row(label, stage.counts.kept));
    std::iter::once(row("read".into(), read)).chain(kept).collect()
}

/// Computes `part / whole`, or 0 if `whole` is 0.
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Formats a share for readers: `12.3%`, and `0.04%` if it is small.
pub(super) fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent != 0.0 && percent.abs() < 1.0 { format!("{percent:.2}%") } else { format!("{percent:.1}%") }
}

/// Formats bytes as megabytes: `0.042 MB`, `12.3 MB`, `1,234 MB`.
pub(super) fn megabytes(bytes: u64) -> String {
    let megabytes = bytes as f64 / 1e6;
    match bytes {
        0 => "0 MB".into(),
        1..1_000_000 => format!("{megabytes:.3} MB"),
        1_000_000..1_000_000_000 => format!("{megabytes:.1} MB"),
        _ => format!("{} MB", grouped(megabytes.round() as u64)),
    }
}

/// Formats the speed of a stage from its beginning to its end, in MB of input a second.
pub(super) fn speed(stage: &StageSummary) -> String {
    rate(stage.bytes_in, stage.seconds)
}

/// Formats the speed of a single task of a stage, in MB of input a second.
pub(super) fn task_speed(stage: &StageSummary) -> String {
    rate(stage.bytes_in, stage.task_seconds)
}

fn rate(bytes: u64, seconds: f64) -> String {
    if seconds > 0.0 { format!("{:.1}", bytes as f64 / 1e6 / seconds) } else { "-".into() }
}

/// Sorts counts by size, the largest first.
pub(super) fn by_size(counts: &BTreeMap<String, Count>) -> Vec<(&str, Count)> {
    let mut sorted: Vec<(&str, Count)> = counts.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    sorted.sort_by_key(|(_, count)| Reverse(count.documents));
    sorted
}

/// Number of documents that a stage dropped, failures included.
pub(super) fn dropped(stage: &StageSummary) -> u64 {
    stage.counts.dropped.values().map(|count| count.documents).sum()
}

/// Number of documents on which a stage failed.
pub(super) fn failures(stage: &StageSummary) -> u64 {
    stage.counts.dropped.get(FAILED).map_or(0, |count| count.documents)
}

/// Formats a language's code for readers.
pub(super) fn language(code: &str) -> &str {
    if code.is_empty() { "unknown" } else { code }
}

/// Formats a bound of a histogram of lengths, `2^exponent` bytes.
pub(super) fn length(exponent: u32) -> String {
    match exponent {
        0..10 => format!("{}", 1u64 << exponent),
        10..20 => format!("{}K", 1u64 << (exponent - 10)),
        20..30 => format!("{}M", 1u64 << (exponent - 20)),
        _ => format!("{}G", 1u64 << (exponent - 30).min(63)),
    }
}

/// Estimates the lengths in bytes below which a quarter, half and three quarters of the documents are. The
/// histogram has powers of two only; within each, lengths are assumed to spread evenly on a logarithmic
/// scale.
pub(super) fn quartiles(lengths: &BTreeMap<u32, u64>) -> Option<[u64; 3]> {
    let all: u64 = lengths.values().sum();
    if all == 0 {
        return None;
    }
    let at = |quarter: u32| {
        let wanted = all as f64 * f64::from(quarter) / 4.0;
        let mut before = 0.0;
        let mut last = 0.0;
        for (&exponent, &count) in lengths.iter().filter(|(_, count)| **count > 0) {
            let count = count as f64;
            last = f64::from(exponent) + ((wanted - before) / count).min(1.0);
            before += count;
            if before >= wanted {
                break;
            }
        }
        last.exp2().round() as u64
    };
    Some([at(1), at(2), at(3)])
}

/// Groups the sizes of groups of duplicates: 2, 3, 4, then doubling. Each entry has the minimum and maximum
/// size and the number of groups.
pub(super) fn group_sizes(sizes: &BTreeMap<u32, u64>) -> Vec<(u32, u32, u64)> {
    let mut bins: BTreeMap<u32, (u32, u64)> = BTreeMap::new();
    for (&size, &count) in sizes.iter().filter(|(_, count)| **count > 0) {
        let (least, greatest) = match size {
            0..=4 => (size, size),
            // 5 to 8, 9 to 16, and so on.
            _ => {
                let exponent = (size - 1).ilog2();
                ((1 << exponent) + 1, 1u32.checked_shl(exponent + 1).unwrap_or(u32::MAX))
            }
        };
        bins.entry(least).or_insert((greatest, 0)).1 += count;
    }
    bins.into_iter().map(|(least, (greatest, count))| (least, greatest, count)).collect()
}

/// Name of a split.
pub(super) fn split_name(split: Split) -> &'static str {
    match split {
        Split::Train => "train",
        Split::Val => "val",
    }
}

/// Number of tokens in all shards of a split, or of both splits if it is `None`.
pub(super) fn tokens(manifest: &Manifest, split: Option<Split>) -> u64 {
    let shards = manifest.shards.iter().filter(|shard| split.is_none_or(|split| shard.split == split));
    shards.map(|shard| shard.tokens).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::Counts;

    fn stage(name: &str, read: u64, kept: u64) -> StageSummary {
        let count = |documents| Count { documents, bytes: 100 * documents, lines: documents };
        StageSummary {
            name: name.into(),
            read: count(read),
            counts: Counts { kept: count(kept), ..Counts::default() },
            ..StageSummary::default()
        }
    }

    #[test]
    fn the_funnel_starts_with_what_was_read_and_ends_before_tokens() {
        let stages = vec![
            stage("extract", 10, 8),
            stage("clean", 8, 8),
            stage("clean", 8, 2),
            stage("tokenize", 2, 2),
        ];
        let manifest = Manifest { stages, ..Manifest::default() };
        let rows = funnel(&manifest);
        let shown: Vec<_> =
            rows.iter().map(|row| (row.stage.as_str(), row.documents, row.documents_share)).collect();
        assert_eq!(shown, [("read", 10, 1.0), ("extract", 8, 0.8), ("clean", 8, 0.8), ("clean-2", 2, 0.2)]);
        assert!(funnel(&Manifest::default()).is_empty());
    }

    #[test]
    fn quartiles_lie_within_their_bins() {
        assert_eq!(quartiles(&BTreeMap::new()), None);
        // All between 16 and 32 bytes.
        assert_eq!(quartiles(&BTreeMap::from([(4, 8)])), Some([19, 23, 27]));
        let [low, middle, high] = quartiles(&BTreeMap::from([(3, 1), (4, 0), (10, 2), (12, 1)])).unwrap();
        assert_eq!((low, middle, high), (16, 1448, 2048));
    }

    #[test]
    fn sizes_of_groups_are_gathered_by_doubling() {
        let sizes = BTreeMap::from([(2, 7), (3, 0), (4, 1), (5, 2), (8, 3), (9, 4), (u32::MAX, 1)]);
        let most = (1u32 << 31) + 1;
        assert_eq!(group_sizes(&sizes), [(2, 2, 7), (4, 4, 1), (5, 8, 5), (9, 16, 4), (most, u32::MAX, 1)]);
    }

    #[test]
    fn numbers_for_readers() {
        assert_eq!([0.0, 0.0004, 0.5, 1.0].map(percent), ["0.0%", "0.04%", "50.0%", "100.0%"]);
        assert_eq!(
            [0, 42_000, 12_300_000, 1_234_000_000].map(megabytes),
            ["0 MB", "0.042 MB", "12.3 MB", "1,234 MB"]
        );
        assert_eq!([0, 9, 10, 21, 30].map(length), ["1", "512", "1K", "2M", "1G"]);
    }
}
