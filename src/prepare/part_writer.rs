//! Writes documents and bad records into parts of about equal size.

use super::{
    engine::failed,
    extract::{BadRecord, Document},
    functions::FAILED,
    parts::{Count, Part, REPEATED, schema},
    work::unfinished,
};
use crate::{error::Result, platform::storage};
use datafusion::{
    arrow::array::{ArrayRef, RecordBatch, StringBuilder, UInt32Builder},
    parquet::{
        arrow::ArrowWriter,
        basic::{Compression, ZstdLevel},
        file::properties::WriterProperties,
    },
};
use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Bytes of text that are collected before they are written as a row group.
const BATCH_BYTES: usize = 4 << 20;
const BATCH_ROWS: usize = 4096;

/// Writer of the parts `part-TASK-000.parquet`, `part-TASK-001.parquet`, … of one task.
pub(super) struct PartWriter {
    folder: PathBuf,
    task: usize,
    part_bytes: usize,
    parts: Vec<Part>,
    open: Option<Open>,
}

/// The part that is being written.
struct Open {
    writer: ArrowWriter<File>,
    beside: PathBuf,
    part: Part,
    bytes: usize,
    row: u32,
    batch: Batch,
}

/// Rows that are not written yet, as one builder a column; the column `row` has its own type.
#[derive(Default)]
struct Batch {
    texts: [StringBuilder; 9],
    rows: UInt32Builder,
    bytes: usize,
    count: usize,
}

impl Batch {
    fn push(&mut self, row: u32, columns: [Option<&str>; 9]) {
        for (builder, value) in self.texts.iter_mut().zip(columns) {
            builder.append_option(value);
            self.bytes += value.map_or(0, str::len);
        }
        self.rows.append_value(row);
        self.count += 1;
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        let mut arrays: Vec<ArrayRef> =
            self.texts.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef).collect();
        arrays.insert(1, Arc::new(self.rows.finish()));
        (self.bytes, self.count) = (0, 0);
        RecordBatch::try_new(schema(), arrays).map_err(failed("gathering documents"))
    }
}

impl PartWriter {
    pub fn new(folder: &Path, task: usize, part_bytes: usize) -> Self {
        Self { folder: folder.into(), task, part_bytes, parts: Vec::new(), open: None }
    }

    /// Adds a document of a source.
    pub fn document(&mut self, source: &str, language: &str, document: &Document) -> Result<()> {
        let metadata = match document.metadata.is_empty() {
            true => None,
            false => serde_json::to_string(&document.metadata).ok(),
        };
        let language = (!language.is_empty()).then_some(language);
        let reason = document.text.trim().is_empty().then_some("empty");
        let columns = [
            Some(document.id.as_str()),
            Some(source),
            Some(document.source.as_str()),
            document.url.as_deref(),
            language,
            Some(document.text.as_str()),
            metadata.as_deref(),
            reason,
            None,
        ];
        self.push(columns, document.text.len())?;
        let Some(open) = &mut self.open else { return Ok(()) };
        open.part.counts.observe(reason, source, language.unwrap_or_default(), &document.text);
        self.roll(false)
    }

    /// Adds a record that could not be read.
    pub fn bad_record(&mut self, source: &str, bad_record: &BadRecord) -> Result<()> {
        let id = format!("{}@{}", bad_record.file, bad_record.offset);
        let detail = format!("at byte {}: {}", bad_record.offset, bad_record.reason);
        let (file, detail) = (bad_record.file.as_str(), detail.as_str());
        let columns = [
            Some(id.as_str()),
            Some(source),
            Some(file),
            None,
            None,
            Some(""),
            None,
            Some(FAILED),
            Some(detail),
        ];
        self.push(columns, 0)?;
        let Some(open) = &mut self.open else { return Ok(()) };
        *open.part.counts.dropped.entry(FAILED.into()).or_default() +=
            Count { documents: 1, ..Count::default() };
        Ok(())
    }

    /// Finishes the last part. A task without records gets an empty part, so that every task has one.
    pub fn finish(mut self) -> Result<Vec<Part>> {
        if self.parts.is_empty() {
            self.opened()?;
        }
        self.roll(true)?;
        Ok(self.parts)
    }

    fn push(&mut self, columns: [Option<&str>; 9], bytes: usize) -> Result<()> {
        let open = self.opened()?;
        open.batch.push(open.row, columns);
        open.row += 1;
        open.bytes += bytes;
        if open.batch.bytes >= BATCH_BYTES || open.batch.count >= BATCH_ROWS {
            open.flush()?;
        }
        Ok(())
    }

    fn opened(&mut self) -> Result<&mut Open> {
        if self.open.is_none() {
            let name = format!("part-{:05}-{:03}.parquet", self.task, self.parts.len());
            let beside = unfinished(&self.folder.join(&name));
            let file = File::create(&beside);
            let file = file.map_err(|error| crate::error::Error::io("create", &beside, error))?;
            let level = ZstdLevel::try_new(1).map_err(failed("writing"))?;
            let mut properties = WriterProperties::builder()
                .set_compression(Compression::ZSTD(level))
                .set_created_by(concat!("kiln ", env!("CARGO_PKG_VERSION")).into())
                .set_dictionary_enabled(false);
            for column in REPEATED {
                properties = properties.set_column_dictionary_enabled(column.into(), true);
            }
            let writer = ArrowWriter::try_new(file, schema(), Some(properties.build()));
            let writer = writer.map_err(failed("writing"))?;
            let part = Part { file: name, ..Part::default() };
            self.open = Some(Open { writer, beside, part, bytes: 0, row: 0, batch: Batch::default() });
        }
        self.open
            .as_mut()
            .ok_or_else(|| crate::error::Error::preparation("writing", "no part is open".into()))
    }

    /// Closes the open part if it has reached the size of a part or is the last one.
    fn roll(&mut self, is_last: bool) -> Result<()> {
        if let Some(mut open) = self.open.take_if(|open| is_last || open.bytes >= self.part_bytes) {
            open.flush()?;
            open.writer.close().map_err(failed("writing"))?;
            storage::rename(&open.beside, &self.folder.join(&open.part.file))?;
            open.part.span = open.row.into();
            self.parts.push(open.part);
        }
        Ok(())
    }
}

impl Open {
    fn flush(&mut self) -> Result<()> {
        if self.batch.count > 0 {
            self.writer.write(&self.batch.finish()?).map_err(failed("writing"))?;
            self.writer.flush().map_err(failed("writing"))?;
        }
        Ok(())
    }
}
