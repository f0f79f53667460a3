//! Statistics of dialogue data: what is trained, what is cut off, and what is left out and why.

use crate::{loss::Row, refusal::Reason};
use std::collections::BTreeMap;

/// Counts over the rows of a split.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Statistics {
    pub rows: usize,
    pub tokens: usize,
    /// Number of tokens that are targets.
    pub targets: usize,
    /// Number of tokens of the longest row, before truncation.
    pub longest: usize,
    /// Number of rows that were truncated, and of the tokens that were cut off.
    pub truncated: usize,
    pub cut: usize,
}

impl Statistics {
    pub fn add(&mut self, row: &Row) {
        self.rows += 1;
        self.tokens += row.tokens.len();
        self.targets += row.targets();
        self.longest = self.longest.max(row.tokens.len() + row.cut);
        self.truncated += usize::from(row.cut > 0);
        self.cut += row.cut;
    }

    /// Share of the tokens that are no target.
    pub fn masked_share(&self) -> f64 {
        1.0 - self.targets as f64 / self.tokens.max(1) as f64
    }

    /// Describes the rows in one sentence. `limit` is the number of tokens that a row holds.
    pub fn describe(&self, limit: usize) -> String {
        let Self { rows, tokens, longest, truncated, cut, .. } = self;
        let mean = *tokens as f64 / (*rows).max(1) as f64;
        let masked = 100.0 * self.masked_share();
        let cut = match truncated {
            0 => format!("none is truncated at {limit}"),
            _ => format!("{truncated} are truncated at {limit}, by {cut} tokens in all"),
        };
        format!(
            "{rows} rows, {tokens} tokens, {masked:.1} % of them masked, {mean:.0} a row, {longest} in the longest; {cut}"
        )
    }
}

/// Examples that are left out, by reason, with the place of the first of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skipped {
    counts: BTreeMap<Reason, (usize, String)>,
}

impl Skipped {
    /// Counts an example. `place` describes it, for example by file, line and message.
    pub fn add(&mut self, reason: Reason, place: impl FnOnce() -> String) {
        self.counts.entry(reason).or_insert_with(|| (0, place())).0 += 1;
    }

    /// Number of examples.
    pub fn count(&self) -> usize {
        self.counts.values().map(|(count, _)| count).sum()
    }

    /// Number of examples of each reason, in words.
    pub fn counts(&self) -> String {
        let reason =
            |(reason, (count, _)): (&Reason, &(usize, String))| format!("{count} {}", reason.described());
        self.counts.iter().map(reason).collect::<Vec<_>>().join(", ")
    }

    /// Describes the examples by reason, with the first of each; `None` if there are none.
    pub fn describe(&self, all: usize) -> Option<String> {
        let reason = |(reason, (count, first)): (&Reason, &(usize, String))| {
            format!("{count} {} (first: {first})", reason.described())
        };
        let reasons: Vec<String> = self.counts.iter().map(reason).collect();
        (!reasons.is_empty())
            .then(|| format!("{} of {all} examples are left out: {}", self.count(), reasons.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_before_and_after_truncation() {
        let mut statistics = Statistics::default();
        statistics.add(&Row { tokens: vec![1, 2, 3, 4], weights: vec![0.0, 0.0, 1.0, 0.5], cut: 0 });
        statistics.add(&Row { tokens: vec![1; 4], weights: vec![0.0, 1.0, 1.0, 1.0], cut: 3 });
        assert_eq!(
            statistics.describe(4),
            "2 rows, 8 tokens, 37.5 % of them masked, 4 a row, 7 in the longest; 1 are truncated at 4, by 3 tokens in all"
        );
        assert!(Statistics::default().describe(4).ends_with("none is truncated at 4"));
    }

    #[test]
    fn skips_are_counted_by_name_with_their_first_place() {
        let mut skipped = Skipped::default();
        assert_eq!(skipped.describe(9), None);
        for (reason, line) in [(Reason::CutAway, 4), (Reason::NoTarget, 7), (Reason::CutAway, 8)] {
            skipped.add(reason, || format!("`x.jsonl` line {line}"));
        }
        assert_eq!(
            skipped.describe(9).unwrap(),
            "3 of 9 examples are left out: 1 without an answer to train on (first: `x.jsonl` line 7); \
             2 whose answer is cut away whole (first: `x.jsonl` line 4)"
        );
    }
}
