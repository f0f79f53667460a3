//! Parts are the Parquet files that hold documents between stages; [`Part`] says what one contains.
//!
//! A part has the documents that a stage kept and those that it dropped, with the reason; the next stage
//! reads the documents that have no `reason`. Columns: `id`, `row` (the row number in the part that the
//! document was extracted into), `source` (its name in the pipeline), `file`, `url`, `language`, `text`,
//! `metadata` (JSON), `reason`, `detail`.

use super::{engine::failed, work::unfinished};
use crate::error::{Error, Result};
use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, RecordBatch, UInt64Array},
        compute::cast,
        datatypes::{DataType, Field, Schema, SchemaRef},
    },
    parquet::{
        arrow::{ArrowWriter, ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder},
        file::properties::WriterProperties,
    },
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs::File, ops::AddAssign, path::Path, sync::Arc};

/// Names of a part's columns, in their order in the file.
pub const COLUMNS: [&str; 10] =
    ["id", "row", "source", "file", "url", "language", "text", "metadata", "reason", "detail"];

/// Columns with few distinct values, which are written with a dictionary; a dictionary of texts would hold
/// copies.
pub(super) const REPEATED: [&str; 4] = ["source", "file", "language", "reason"];

pub(super) fn schema() -> SchemaRef {
    let field = |&name: &&str| match name {
        "row" => Field::new(name, DataType::UInt32, true),
        _ => Field::new(name, DataType::Utf8, true),
    };
    Arc::new(Schema::new(COLUMNS.iter().map(field).collect::<Vec<_>>()))
}

/// Number of documents, and the bytes and lines of their texts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    pub documents: u64,
    pub bytes: u64,
    #[serde(default)]
    pub lines: u64,
}

impl Count {
    fn of(text: &str) -> Self {
        let ends = memchr::memchr_iter(b'\n', text.as_bytes()).count();
        let has_open_line = !text.is_empty() && !text.ends_with('\n');
        Self { documents: 1, bytes: text.len() as u64, lines: (ends + usize::from(has_open_line)) as u64 }
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.documents += other.documents;
        self.bytes += other.bytes;
        self.lines += other.lines;
    }
}

/// Counts of the documents that a stage kept and dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub kept: Count,
    /// Dropped documents, by reason.
    pub dropped: BTreeMap<String, Count>,
    /// Kept documents, by the name of their source.
    pub sources: BTreeMap<String, Count>,
    /// Kept documents, by language.
    pub languages: BTreeMap<String, Count>,
    /// Number of kept documents by the binary logarithm of their length in bytes, rounded down.
    pub lengths: BTreeMap<u32, u64>,
}

impl Counts {
    /// Counts all documents that the stage read, kept and dropped.
    pub fn read(&self) -> Count {
        let mut all = self.kept;
        self.dropped.values().for_each(|&count| all += count);
        all
    }

    /// Adds a document to the counts; it was dropped if there is a `reason`.
    pub fn observe(&mut self, reason: Option<&str>, source: &str, language: &str, text: &str) {
        let one = Count::of(text);
        let add = |map: &mut BTreeMap<String, Count>, key: &str| match map.get_mut(key) {
            Some(count) => *count += one,
            None => drop(map.insert(key.into(), one)),
        };
        match reason {
            Some(reason) => add(&mut self.dropped, reason),
            None => {
                self.kept += one;
                add(&mut self.sources, source);
                add(&mut self.languages, language);
                *self.lengths.entry(one.bytes.max(1).ilog2()).or_default() += 1;
            }
        }
    }

    pub fn add(&mut self, other: &Self) {
        fn merge<K: Ord + Clone>(own: &mut BTreeMap<K, Count>, other: &BTreeMap<K, Count>) {
            other.iter().for_each(|(key, &count)| *own.entry(key.clone()).or_default() += count);
        }
        self.kept += other.kept;
        merge(&mut self.dropped, &other.dropped);
        merge(&mut self.sources, &other.sources);
        merge(&mut self.languages, &other.languages);
        other.lengths.iter().for_each(|(&length, count)| *self.lengths.entry(length).or_default() += count);
    }
}

/// A part file that is finished, and its counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Name of the file in the stage's folder.
    pub file: String,
    /// Upper bound (exclusive) of the column `row` in this part.
    pub span: u64,
    #[serde(rename = "tally")]
    pub counts: Counts,
}

impl Part {
    /// Counts the documents of a finished part file.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be opened, [`Error::Preparation`] if it is no part.
    pub(super) fn of_file(path: &Path, span: u64) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::io("read", path, error))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(failed("counting"))?;
        let columns = ["source", "language", "text", "reason"];
        let mask = ProjectionMask::columns(reader.parquet_schema(), columns);
        let reader = reader.with_projection(mask).with_batch_size(256).build().map_err(failed("counting"))?;
        let mut counts = Counts::default();
        for batch in reader {
            let batch = batch.map_err(failed("counting"))?;
            let missing = || Error::preparation("counting", format!("`{}` is no part", path.display()));
            let column = |name: &str| -> Result<ArrayRef> {
                let column = batch.column_by_name(name).ok_or_else(missing)?;
                cast(column, &DataType::Utf8).map_err(failed("counting"))
            };
            let [sources, languages, texts, reasons] =
                [column("source")?, column("language")?, column("text")?, column("reason")?];
            let text = |column: &ArrayRef, row: usize| {
                let column = column.as_string::<i32>();
                (!column.is_null(row)).then(|| column.value(row).to_owned())
            };
            let texts = texts.as_string::<i32>();
            for row in 0..batch.num_rows() {
                let (source, language) = (text(&sources, row), text(&languages, row));
                counts.observe(
                    text(&reasons, row).as_deref(),
                    source.as_deref().unwrap_or_default(),
                    language.as_deref().unwrap_or_default(),
                    if texts.is_null(row) { "" } else { texts.value(row) },
                );
            }
        }
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { file, span, counts })
    }
}

/// Writes columns of numbers to a Parquet file; the file appears only when it is complete.
pub(super) fn write_numbers<const N: usize>(
    path: &Path,
    names: [&str; N],
    columns: [Vec<u64>; N],
) -> Result<()> {
    let fields = names.map(|name| Field::new(name, DataType::UInt64, true)).to_vec();
    let schema = Arc::new(Schema::new(fields));
    let arrays = columns.map(|column| Arc::new(UInt64Array::from(column)) as ArrayRef).to_vec();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).map_err(failed("writing"))?;
    let beside = unfinished(path);
    let file = File::create(&beside).map_err(|error| Error::io("create", &beside, error))?;
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(8192)).build();
    let mut writer = ArrowWriter::try_new(file, schema, Some(properties)).map_err(failed("writing"))?;
    writer.write(&batch).map_err(failed("writing"))?;
    writer.close().map_err(failed("writing"))?;
    crate::platform::storage::rename(&beside, path)
}
