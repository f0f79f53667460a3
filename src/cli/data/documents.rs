//! Reads documents from the parts of a run's stages: first it searches few columns for the rows that are
//! wanted, then it reads these rows in full.

use super::files::Files;
use crate::{error::Error, prepare::StageSummary};
use anyhow::Result;
use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, RecordBatch},
        compute::cast,
        datatypes::{DataType, UInt64Type},
    },
    parquet::arrow::{
        ProjectionMask,
        arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection},
    },
};
use serde::Serialize;
use std::{fmt::Display, fs::File, ops::ControlFlow, path::Path};

/// Rows of a batch if texts are not read.
const NARROW: usize = 4096;
/// Rows of a batch if texts are read: a text may have many MB.
const WHOLE: usize = 16;

/// A document as a stage left it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Document {
    pub id: String,
    /// Row number of the document in the part that it was extracted into.
    pub row: u64,
    pub source: String,
    pub file: String,
    pub url: String,
    pub language: String,
    pub text: String,
    pub metadata: String,
    /// Reason for dropping it; empty if it was kept.
    pub reason: String,
    pub detail: String,
}

/// Some columns of some rows: numbers for `row`, texts for all others.
pub(super) struct Columns {
    columns: Vec<(&'static str, ArrayRef)>,
}

impl Columns {
    fn new(path: &Path, batch: &RecordBatch, names: &[&'static str]) -> Result<Self> {
        let mut columns = Vec::new();
        for &name in names {
            let kind = if name == "row" { DataType::UInt64 } else { DataType::Utf8 };
            let missing = || unreadable(path, format!("it has no column `{name}`"));
            let column = batch.column_by_name(name).ok_or_else(missing)?;
            columns.push((name, cast(column, &kind).map_err(|error| unreadable(path, error))?));
        }
        Ok(Self { columns })
    }

    /// Returns a text; `None` if it is null or its column was not read.
    pub fn text(&self, name: &str, row: usize) -> Option<&str> {
        let (_, column) = self.columns.iter().find(|(own, _)| *own == name)?;
        let column = column.as_string_opt::<i32>()?;
        (!column.is_null(row)).then(|| column.value(row))
    }

    /// Returns the value of the column `row`, a document's row number in its part.
    pub fn row(&self, row: usize) -> Option<u64> {
        let (_, column) = self.columns.iter().find(|(own, _)| *own == "row")?;
        let column = column.as_primitive_opt::<UInt64Type>()?;
        (!column.is_null(row)).then(|| column.value(row))
    }
}

fn unreadable(path: &Path, error: impl Display) -> anyhow::Error {
    Error::preparation("reading documents", format!("`{}`: {error}", path.display())).into()
}

/// Opens a part to read some columns of the wanted rows, or of all.
fn open(
    path: &Path,
    names: &[&'static str],
    rows: usize,
    wanted: Option<&[usize]>,
) -> Result<ParquetRecordBatchReader> {
    let file = File::open(path).map_err(|error| Error::io("read", path, error))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| unreadable(path, error))?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), names.iter().copied());
    let all = builder.metadata().file_metadata().num_rows() as usize;
    let mut builder = builder.with_projection(mask).with_batch_size(rows);
    if let Some(wanted) = wanted {
        let ranges = wanted.iter().map(|&position| position..position + 1);
        builder = builder.with_row_selection(RowSelection::from_consecutive_ranges(ranges, all));
    }
    builder.build().map_err(|error| unreadable(path, error))
}

/// Finds the rows for which `is_wanted` is true, in ascending order. `is_wanted` sees the columns in `names`
/// and may end the search.
pub(super) fn positions(
    path: &Path,
    names: &[&'static str],
    mut is_wanted: impl FnMut(&Columns, usize) -> ControlFlow<(), bool>,
) -> Result<Vec<usize>> {
    let mut found = Vec::new();
    let mut before = 0;
    for batch in open(path, names, NARROW, None)? {
        let batch = batch.map_err(|error| unreadable(path, error))?;
        let columns = Columns::new(path, &batch, names)?;
        for row in 0..batch.num_rows() {
            match is_wanted(&columns, row) {
                ControlFlow::Continue(true) => found.push(before + row),
                ControlFlow::Continue(false) => {}
                ControlFlow::Break(()) => return Ok(found),
            }
        }
        before += batch.num_rows();
    }
    Ok(found)
}

/// Passes the documents at these positions, which ascend, to `each`.
pub(super) fn read(path: &Path, positions: &[usize], mut each: impl FnMut(Document)) -> Result<()> {
    const NAMES: [&str; 10] =
        ["id", "row", "source", "file", "url", "language", "text", "metadata", "reason", "detail"];
    if positions.is_empty() {
        return Ok(());
    }
    for batch in open(path, &NAMES, WHOLE, Some(positions))? {
        let batch = batch.map_err(|error| unreadable(path, error))?;
        let columns = Columns::new(path, &batch, &NAMES)?;
        for row in 0..batch.num_rows() {
            let text = |name: &str| columns.text(name, row).unwrap_or_default().to_owned();
            each(Document {
                id: text("id"),
                row: columns.row(row).unwrap_or_default(),
                source: text("source"),
                file: text("file"),
                url: text("url"),
                language: text("language"),
                text: text("text"),
                metadata: text("metadata"),
                reason: text("reason"),
                detail: text("detail"),
            });
        }
    }
    Ok(())
}

/// Finds a document by its number, which counts the rows through all parts of a stage.
pub(super) fn numbered(files: &Files, stage: &StageSummary, number: u64) -> Result<Option<Document>> {
    let mut first = 0;
    for part in &stage.parts {
        if number < first + part.span {
            let path = files.part(stage, part)?;
            let mut is_found = false;
            let found = positions(&path, &["row"], |columns, row| {
                if is_found {
                    return ControlFlow::Break(());
                }
                is_found = columns.row(row) == Some(number - first);
                ControlFlow::Continue(is_found)
            })?;
            let mut document = None;
            read(&path, &found, |found| document = Some(found))?;
            return Ok(document);
        }
        first += part.span;
    }
    Ok(None)
}

/// Reads the number of the document that was kept in place of a duplicate from the duplicate's detail: `17`,
/// or `ID (document 17)`.
pub(super) fn representative(reason: &str, detail: &str) -> Option<u64> {
    if !matches!(reason, "exact_duplicate" | "fuzzy_duplicate" | "semantic_duplicate") {
        return None;
    }
    let named = detail.strip_suffix(')').and_then(|detail| detail.rsplit_once("(document "));
    named.map_or(detail, |(_, number)| number).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::Part;
    use datafusion::{
        arrow::{
            array::{StringArray, UInt32Array},
            datatypes::{Field, Schema},
        },
        parquet::arrow::ArrowWriter,
    };
    use std::sync::Arc;

    /// Makes a stage of two parts with the documents `0`, `1`, …, of which every third is dropped.
    fn stage(out: &Path) -> StageSummary {
        let mut stage = StageSummary { folder: "work".into(), ..StageSummary::default() };
        std::fs::create_dir_all(out.join("work")).unwrap();
        for (number, rows) in [(0u32, 5u32), (1, 7)] {
            let part = Part { file: format!("{number}.parquet"), span: rows.into(), ..Part::default() };
            let text = |text: &dyn Fn(u32) -> Option<String>| {
                Arc::new(StringArray::from_iter((0..rows).map(text))) as ArrayRef
            };
            let names = ["id", "source", "file", "url", "language", "text", "metadata", "reason", "detail"];
            let mut fields: Vec<Field> =
                names.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect();
            let mut columns: Vec<ArrayRef> = names
                .iter()
                .map(|name| match *name {
                    "id" => text(&|row: u32| Some(format!("{}", 5 * number + row))),
                    "text" => text(&|row: u32| Some(format!("text {row} of {number}"))),
                    "reason" => text(&|row: u32| row.is_multiple_of(3).then(|| "short".to_owned())),
                    _ => text(&|_: u32| None),
                })
                .collect();
            fields.push(Field::new("row", DataType::UInt32, true));
            columns.push(Arc::new(UInt32Array::from_iter_values(0..rows)));
            let schema = Arc::new(Schema::new(fields));
            let file = File::create(out.join("work").join(&part.file)).unwrap();
            let mut writer = ArrowWriter::try_new(file, Arc::clone(&schema), None).unwrap();
            writer.write(&RecordBatch::try_new(schema, columns).unwrap()).unwrap();
            writer.close().unwrap();
            stage.parts.push(part);
        }
        stage
    }

    #[test]
    fn rows_are_found_and_read_and_numbers_count_through_parts() {
        let out = std::env::temp_dir().join(format!("kiln-documents-{}", std::process::id()));
        let stage = stage(&out);
        let files = Files::of_folder(&out);
        let path = files.part(&stage, &stage.parts[1]).unwrap();
        let mut left = 2;
        let found = positions(&path, &["reason"], |columns, row| {
            if left == 0 {
                return ControlFlow::Break(());
            }
            let is_dropped = columns.text("reason", row).is_some();
            left -= usize::from(is_dropped);
            ControlFlow::Continue(is_dropped)
        });
        assert_eq!(found.unwrap(), [0, 3]);
        let mut texts = Vec::new();
        read(&path, &[1, 2, 6], |document| texts.push((document.text, document.row, document.reason)))
            .unwrap();
        let expected = [("text 1 of 1", 1, ""), ("text 2 of 1", 2, ""), ("text 6 of 1", 6, "short")];
        let expected = expected.map(|(text, row, reason)| (text.to_owned(), row, reason.to_owned()));
        assert_eq!(texts, expected);
        for number in [0, 4, 5, 11] {
            assert_eq!(numbered(&files, &stage, number).unwrap().unwrap().id, number.to_string());
        }
        assert_eq!(numbered(&files, &stage, 12).unwrap(), None);
        std::fs::remove_dir_all(&out).unwrap();
    }

    #[test]
    fn representatives_are_told_from_details() {
        assert_eq!(representative("fuzzy_duplicate", "17"), Some(17));
        assert_eq!(representative("exact_duplicate", "a (document 3) (document 17)"), Some(17));
        assert_eq!(representative("exact_duplicate", ""), None);
        assert_eq!(representative("perplexity_high", "17"), None);
    }
}
