//! Reads the rows of Parquet files.

use super::{
    Opened,
    pages::{Pages, Shared},
    thrift,
};
use datafusion::{
    arrow::{
        array::RecordBatch,
        datatypes::{DataType, Field, Schema},
    },
    parquet::{
        arrow::{
            FieldLevels, ProjectionMask,
            arrow_reader::{ParquetRecordBatchReader, RowGroups},
            parquet_to_arrow_field_levels, parquet_to_arrow_schema,
        },
        basic::Type,
        column::page::{PageIterator, PageReader},
        errors::{ParquetError, Result},
        file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData},
    },
};
use std::{fs::File, sync::Arc};

/// Bytes after the metadata: its length and the magic number.
const TAIL: u64 = 8;

/// Maximum rows that are read at a time. There are fewer if their values of fixed length would exceed
/// `ROW_BYTES` bytes, or their lists `ROW_VALUES` values.
const ROWS: usize = 256;
const ROW_BYTES: usize = 64 << 20;
const ROW_VALUES: i64 = 1 << 22;

/// Opens a file of `length` bytes.
///
/// # Errors
/// The reason why it cannot be read.
pub(super) fn open(file: File, length: u64) -> std::result::Result<Opened, String> {
    let file = Shared::new(file);
    let metadata = footer(&file, length)?;
    let failed = |error: ParquetError| error.to_string();
    let descriptor = metadata.file_metadata().schema_descr();
    let plain = parquet_to_arrow_schema(descriptor, None).map_err(failed)?;
    let hinted =
        parquet_to_arrow_schema(descriptor, metadata.file_metadata().key_value_metadata()).map_err(failed)?;
    let schema = Schema::new(as_views(&plain, &hinted));
    let levels = parquet_to_arrow_field_levels(descriptor, ProjectionMask::all(), Some(schema.fields()));
    let levels = levels.map_err(failed)?;
    let batches = Groups { file, length, metadata: Arc::new(metadata), levels, next: 0, reader: None };
    Ok(Opened { schema: Arc::new(schema), batches: Box::new(batches) })
}

fn footer(file: &Shared, length: u64) -> std::result::Result<ParquetMetaData, String> {
    let short = || "the file is truncated".to_string();
    let start = length.checked_sub(TAIL).ok_or_else(short)?;
    let tail = file.read(start, TAIL as usize).map_err(|error| error.to_string())?;
    let footer = match tail[4..] {
        [b'P', b'A', b'R', b'1'] => u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]),
        [b'P', b'A', b'R', b'E'] => return Err("the file is encrypted".into()),
        _ => return Err("the file does not end as a Parquet file: it may be truncated".into()),
    };
    let start = start.checked_sub(footer.into()).ok_or_else(|| {
        format!("the metadata of {footer} bytes is longer than the file: it may be truncated")
    })?;
    let bytes = file.read(start, footer as usize).map_err(|error| error.to_string())?;
    thrift::check_footer(&bytes)?;
    ParquetMetaDataReader::decode_metadata(&bytes).map_err(|error| error.to_string())
}

/// Fields of the columns as they are read: texts become views of the pages that contain them, so that a text
/// that many rows share is in memory once.
fn as_views(plain: &Schema, hinted: &Schema) -> Vec<Field> {
    let pairs = plain.fields().iter().zip(hinted.fields());
    pairs
        .map(|(plain, hinted)| match plain.data_type() {
            DataType::Utf8 => Field::new(hinted.name(), DataType::Utf8View, hinted.is_nullable()),
            DataType::Binary => Field::new(hinted.name(), DataType::BinaryView, hinted.is_nullable()),
            _ => hinted.as_ref().clone(),
        })
        .collect()
}

/// Iterator that reads one row group after the other.
struct Groups {
    file: Shared,
    length: u64,
    metadata: Arc<ParquetMetaData>,
    levels: FieldLevels,
    next: usize,
    reader: Option<ParquetRecordBatchReader>,
}

impl Groups {
    fn begin(&self, index: usize) -> Result<ParquetRecordBatchReader> {
        let group = self.metadata.row_group(index);
        let rows = group.columns().iter().map(|column| rows_at_a_time(column, group)).min().unwrap_or(ROWS);
        let group = Group { groups: self, index, rows };
        ParquetRecordBatchReader::try_new_with_row_groups(&self.levels, &group, rows, None)
    }
}

/// Number of rows of a column that can be read at a time.
fn rows_at_a_time(column: &ColumnChunkMetaData, group: &RowGroupMetaData) -> usize {
    let descriptor = column.column_descr();
    let mut rows = ROWS;
    if descriptor.physical_type() == Type::FIXED_LEN_BYTE_ARRAY {
        let width = usize::try_from(descriptor.type_length()).unwrap_or_default();
        rows = rows.min(ROW_BYTES / width.max(1));
    }
    if descriptor.max_rep_level() > 0 {
        let values = (column.num_values() / group.num_rows().max(1)).max(1);
        rows = rows.min(usize::try_from(ROW_VALUES / values).unwrap_or(ROWS));
    }
    rows.max(1)
}

impl Iterator for Groups {
    type Item = std::result::Result<RecordBatch, String>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(batch) = self.reader.as_mut().and_then(Iterator::next) {
                return Some(batch.map_err(|error| error.to_string()));
            }
            if self.next == self.metadata.num_row_groups() {
                return None;
            }
            match self.begin(self.next) {
                Ok(reader) => self.reader = Some(reader),
                Err(error) => return Some(Err(error.to_string())),
            }
            self.next += 1;
        }
    }
}

/// A row group, through the interface that the library asks for.
struct Group<'a> {
    groups: &'a Groups,
    index: usize,
    rows: usize,
}

impl Group<'_> {
    /// Start and end of a column in the file, in bytes.
    fn range(&self, column: &ColumnChunkMetaData) -> Result<(u64, u64)> {
        let path = column.column_path().string();
        if column.file_path().is_some_and(|file| !file.is_empty()) {
            return Err(ParquetError::General(format!("column `{path}` is in another file")));
        }
        // Some writers give 0 where there is no dictionary.
        let dictionary = column.dictionary_page_offset().filter(|&offset| offset > 0);
        let start = u64::try_from(dictionary.unwrap_or(column.data_page_offset())).ok();
        let length = u64::try_from(column.compressed_size()).ok();
        let range = start.and_then(|start| Some((start, start.checked_add(length?)?)));
        range.filter(|&(_, end)| end <= self.groups.length).ok_or_else(|| {
            ParquetError::General(format!("column `{path}` goes on behind the end of the file"))
        })
    }
}

impl RowGroups for Group<'_> {
    fn num_rows(&self) -> usize {
        let rows = self.groups.metadata.row_group(self.index).num_rows();
        usize::try_from(rows).unwrap_or_default()
    }

    fn column_chunks(&self, index: usize) -> Result<Box<dyn PageIterator>> {
        let column = self.groups.metadata.row_group(self.index).column(index);
        let pages = Pages::new(&self.groups.file, self.range(column)?, column, self.rows);
        Ok(Box::new(Column(Some(pages))))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(std::iter::once(self.groups.metadata.row_group(self.index)))
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.groups.metadata
    }
}

/// Iterator that returns the pages of a column in one row group, once.
struct Column(Option<Pages>);

impl Iterator for Column {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        let pages: Box<dyn PageReader> = Box::new(self.0.take()?);
        Some(Ok(pages))
    }
}

impl PageIterator for Column {}
