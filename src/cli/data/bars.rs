//! Shows the progress of a pipeline: a line for each finished stage, and a bar for the current one.

use super::super::table::{bytes, duration, grouped};
use crate::prepare::{Progress, StageSummary};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;

/// Display of a pipeline's progress.
pub(super) struct Bars {
    bar: ProgressBar,
    is_quiet: bool,
    documents: u64,
}

impl Bars {
    pub fn new(is_quiet: bool) -> Self {
        Self { bar: ProgressBar::hidden(), is_quiet, documents: 0 }
    }

    pub fn show(&mut self, event: Progress) {
        if self.is_quiet {
            return;
        }
        match event {
            Progress::Begun { name, bytes, .. } => {
                self.documents = 0;
                if std::io::stderr().is_terminal() {
                    let template =
                        "{msg:<20} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {prefix} ETA {eta}";
                    let style = ProgressStyle::with_template(template);
                    self.bar = ProgressBar::new(bytes);
                    self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                    self.bar.set_message(name.to_owned());
                    self.bar.enable_steady_tick(std::time::Duration::from_millis(200));
                }
            }
            Progress::Task { documents, bytes } => {
                self.documents += documents;
                self.bar.inc(bytes);
                let seconds = self.bar.elapsed().as_secs_f64().max(1e-3);
                self.bar.set_prefix(format!("{}/s", grouped((self.documents as f64 / seconds) as u64)));
            }
            Progress::Ended { stage, is_old } => {
                self.bar.finish_and_clear();
                eprintln!("{}", line(stage, is_old));
            }
        }
    }
}

/// Summarizes a stage on one line.
fn line(stage: &StageSummary, is_old: bool) -> String {
    let kept = grouped(stage.counts.kept.documents);
    let read = grouped(stage.read.documents);
    let rest = match is_old {
        true => "finished before".to_owned(),
        false => {
            let speed = stage.bytes_in as f64 / 1e6 / stage.seconds.max(1e-3);
            format!("{} at {speed:.1} MB/s", duration(stage.seconds))
        }
    };
    let mut line =
        format!("{:<20} {kept} of {read} documents, {}, {rest}", stage.name, bytes(stage.counts.kept.bytes));
    let mut dropped: Vec<_> = stage.counts.dropped.iter().collect();
    dropped.sort_by_key(|(reason, count)| (std::cmp::Reverse(count.documents), (*reason).clone()));
    for (reason, count) in dropped.iter().take(4) {
        line.push_str(&format!("\n{:<20}   - {} {reason}", "", grouped(count.documents)));
    }
    if dropped.len() > 4 {
        let others: u64 = dropped[4..].iter().map(|(_, count)| count.documents).sum();
        line.push_str(&format!(
            "\n{:<20}   - {} for {} other reasons",
            "",
            grouped(others),
            dropped.len() - 4
        ));
    }
    line
}
