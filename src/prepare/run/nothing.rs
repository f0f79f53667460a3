//! Makes the error of a run that kept no document: it states the first bad record, or the reasons for
//! dropping the documents.

use super::{Run, StageSummary};
use crate::{
    error::{Error, Result, hint},
    {engine::failed, functions::FAILED, keys::each_batch},
};
use datafusion::{
    arrow::array::AsArray,
    logical_expr::{col, lit},
};

/// Bad records that have the same reason.
struct BadRecords {
    file: String,
    /// Offset and reason of the first of them.
    detail: String,
    /// Number of bad records with this reason.
    count: u64,
}

impl Run<'_> {
    /// Makes the error of a run whose stages kept no document.
    pub(super) async fn nothing_to_tokenize(&self) -> Result<Error> {
        let address = self.engine.workspace.address(self.out());
        let nothing = |message: String, more: &str| Error::NothingToTokenize {
            message,
            hint: hint![hint::command(format!("kiln data inspect {address}{more}")), " shows more of them"],
        };
        let Some(extract) = self.stages.first() else {
            return Ok(nothing("there is no stage".into(), ""));
        };
        let failures = extract.counts.dropped.get(FAILED).map_or(0, |count| count.documents);
        if extract.counts.kept.documents == 0
            && let Some(BadRecords { file, detail, count }) = self.first_bad_records(extract).await?
        {
            let message = format!(
                "none of {failures} records could be read; {count} for this reason: `{file}` {detail}"
            );
            return Ok(nothing(message, &format!(" --reason {FAILED}")));
        }
        let mut dropped: Vec<String> = Vec::new();
        for stage in &self.stages {
            for (reason, count) in &stage.counts.dropped {
                dropped.push(format!("`{}` dropped {} for `{reason}`", stage.name, count.documents));
            }
        }
        Ok(match (dropped.is_empty(), extract.skipped) {
            (false, _) => nothing(format!("no document is left: {}", dropped.join(", ")), ""),
            (true, 0) => nothing("the sources have no record".into(), ""),
            (true, skipped) => nothing(format!("the {skipped} records are of kinds without text"), ""),
        })
    }

    /// Finds the first bad record of a stage, and counts those with the same reason.
    async fn first_bad_records(&self, stage: &StageSummary) -> Result<Option<BadRecords>> {
        let mut bad_records: Option<BadRecords> = None;
        let parts = self.parts(stage);
        for (path, _) in parts.iter().filter(|(_, part)| part.counts.dropped.contains_key(FAILED)) {
            self.engine.workspace.have(std::slice::from_ref(path)).await?;
            let rows = self.engine.read_here(path).await?;
            let rows = rows
                .filter(col("reason").eq(lit(FAILED)))
                .and_then(|rows| rows.select(vec![col("file"), col("detail")]))
                .map_err(failed("planning"))?;
            each_batch(rows, |batch| {
                let (files, details) =
                    (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
                for (file, detail) in files.iter().zip(details) {
                    let (file, detail) = (file.unwrap_or_default(), detail.unwrap_or_default());
                    match &mut bad_records {
                        None => {
                            bad_records =
                                Some(BadRecords { file: file.into(), detail: detail.into(), count: 1 })
                        }
                        Some(first) => {
                            first.count += u64::from(reason(&first.detail) == reason(detail));
                        }
                    }
                }
                Ok(())
            })
            .await?;
        }
        Ok(bad_records)
    }
}

/// Reason without its place: neither the place before it nor the numbers of rows and columns in it.
fn reason(detail: &str) -> String {
    let reason = detail.split_once(": ").map_or(detail, |(_, reason)| reason);
    reason.chars().filter(|c| !c.is_ascii_digit()).collect()
}
