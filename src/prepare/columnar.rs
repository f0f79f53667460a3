//! Reads documents from Parquet and Arrow files, whose rows are records.
//!
//! These formats state the size of everything they contain, and the libraries that read them allocate what a
//! file states. A failed allocation ends the process, so each stated size is first compared with the bytes
//! that are there. If a library panics, the rest of its file is lost, not the run.

mod codecs;
mod ipc;
mod levels;
mod pages;
mod parquet;
pub(super) mod rows;
mod thrift;
mod values;

use self::values::{Unreadable, Values};
use super::{
    clean::panics,
    extract::{BadRecord, Document, ExtractConfig, Metadata},
};
use crate::error::Result;
use datafusion::arrow::{
    array::RecordBatch,
    datatypes::{DataType, Schema, SchemaRef},
};
use std::{fs::File, io::Read, path::Path};

/// A file whose schema was read, with its batches of rows.
struct Opened {
    schema: SchemaRef,
    batches: Box<dyn Iterator<Item = std::result::Result<RecordBatch, String>>>,
}

/// Returns whether the name of a file is that of a Parquet or Arrow file.
pub(super) fn is_columnar(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    matches!(extension.as_str(), "parquet" | "arrow" | "feather" | "ipc")
}

/// Returns whether a file begins as a Parquet or Arrow file. An Arrow stream begins with four bytes that
/// begin no text.
pub(super) fn begins_columnar(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(8).read_to_end(&mut start));
    read.is_ok()
        && [&b"PAR1"[..], b"ARROW1\0\0", b"FEA1", &[0xff; 4]].iter().any(|magic| start.starts_with(magic))
}

/// Passes every record of a file to `each`.
///
/// # Errors
/// Errors of `each`. A file that is broken or has no text column is one bad record.
pub(super) fn read(
    path: &Path,
    name: &str,
    config: &ExtractConfig,
    mut each: impl FnMut(std::result::Result<Document, BadRecord>) -> Result<()>,
) -> Result<()> {
    let bad_record = |row: usize, reason: String| BadRecord {
        file: name.to_owned(),
        offset: row as u64,
        reason: format!("row {row}: {}", reason.split_whitespace().collect::<Vec<_>>().join(" ")),
    };
    let opened = panics::catch(|| {
        let opened = open(path)?;
        check_text(&opened.schema, &config.text_field)?;
        Ok(opened)
    });
    let mut batches = match opened {
        Ok(Ok(opened)) => opened.batches,
        Ok(Err(reason)) | Err(reason) => return each(Err(bad_record(0, reason))),
    };
    let mut first = 0;
    loop {
        let batch = match panics::catch(|| batches.next()) {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(batch))) => batch,
            // Nothing is known of where the next one begins.
            Ok(Some(Err(reason))) | Err(reason) => return each(Err(bad_record(first, reason))),
        };
        let columns = match panics::catch(|| Columns::of(&batch, config)) {
            Ok(Some(columns)) => columns,
            Ok(None) => return each(Err(bad_record(first, format!("no column `{}`", config.text_field)))),
            Err(reason) => return each(Err(bad_record(first, reason))),
        };
        for row in 0..batch.num_rows() {
            let number = first + row;
            let document = panics::catch(|| columns.document(row, name, number));
            each(document.and_then(|document| document).map_err(|reason| bad_record(number, reason)))?;
        }
        drop(columns);
        first += batch.num_rows();
    }
}

fn open(path: &Path) -> std::result::Result<Opened, String> {
    let open = || File::open(path).map_err(|error| error.to_string());
    let length = open()?.metadata().map_err(|error| error.to_string())?.len();
    let mut start = Vec::new();
    open()?.take(6).read_to_end(&mut start).map_err(|error| error.to_string())?;
    let is_parquet = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"));
    match &start[..] {
        b"ARROW1" => ipc::open_file(open()?, length),
        [b'F', b'E', b'A', b'1', ..] => {
            Err("Feather of version 1 is not supported: write the file again as version 2".into())
        }
        [b'P', b'A', b'R', b'1' | b'E', ..] => parquet::open(open()?, length),
        _ if is_parquet => parquet::open(open()?, length),
        _ => ipc::open_stream(open()?, length),
    }
}

/// Checks that there is exactly one column `name` and that it holds text.
fn check_text(schema: &Schema, name: &str) -> std::result::Result<(), String> {
    let count = schema.fields().iter().filter(|field| field.name() == name).count();
    match schema.column_with_name(name) {
        Some(_) if count > 1 => Err(format!("there are {count} columns `{name}`")),
        Some((_, field)) if values::is_text(field.data_type()) => Ok(()),
        Some((_, field)) => Err(format!("column `{name}` is not text but {}", field.data_type())),
        None => {
            let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            Err(format!("no column `{name}` of text; there are {}", columns.join(", ")))
        }
    }
}

/// Returns whether values of this type can be identifiers, as JSON's strings and numbers can.
fn is_identifier(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_identifier(values),
        DataType::RunEndEncoded(_, values) => is_identifier(values.data_type()),
        _ => values::is_text(data_type) || data_type.is_primitive(),
    }
}

/// Columns of a batch that documents are made of.
struct Columns<'a> {
    config: &'a ExtractConfig,
    texts: Values<'a>,
    ids: Option<Values<'a>>,
    urls: Option<Values<'a>>,
    others: Vec<(&'a str, Values<'a>)>,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch, config: &'a ExtractConfig) -> Option<Self> {
        let column = |name: &str, is_right: fn(&DataType) -> bool| {
            let column = batch.column_by_name(name)?;
            is_right(column.data_type()).then(|| Values::of(column)).flatten()
        };
        let known = [&config.text_field, &config.id_field, &config.url_field];
        let fields = batch.schema_ref().fields().iter().zip(batch.columns());
        Some(Self {
            config,
            texts: column(&config.text_field, values::is_text)?,
            ids: column(&config.id_field, is_identifier),
            urls: column(&config.url_field, values::is_text),
            others: fields
                .filter(|(field, _)| !known.contains(&field.name()))
                .filter_map(|(field, column)| Some((field.name().as_str(), Values::of(column)?)))
                .collect(),
        })
    }

    /// Builds the document of a row; the error says why the row is a bad record.
    fn document(&self, row: usize, name: &str, number: usize) -> std::result::Result<Document, String> {
        let most = self.config.record_limit;
        let text = match self.texts.get(row, most) {
            Ok(Some(text)) => text.into_owned(),
            Ok(None) => return Err("the text is null".into()),
            Err(Unreadable::TooLong) => return Err(format!("longer than {most} bytes")),
            Err(Unreadable::NotUtf8) => return Err("the text is not valid UTF-8".into()),
        };
        let value = |name: &str, column: &Values| match column.get(row, most) {
            Ok(value) => Ok(value.map(|value| value.into_owned())),
            Err(Unreadable::NotUtf8) => Ok(None),
            Err(Unreadable::TooLong) => Err(format!("column `{name}` is longer than {most} bytes")),
        };
        let own = |name: &str, column: &Option<Values>| {
            let value = column.as_ref().map(|column| value(name, column)).transpose()?.flatten();
            Ok::<_, String>(value.filter(|value| !value.is_empty()))
        };
        let id = own(&self.config.id_field, &self.ids)?.unwrap_or_else(|| format!("{name}#{number}"));
        let url = own(&self.config.url_field, &self.urls)?;
        let mut metadata = Metadata::new();
        for (name, column) in &self.others {
            if let Some(value) = value(name, column)? {
                metadata.insert((*name).into(), value.into());
            }
        }
        Ok(Document { id, text, url, source: name.into(), metadata })
    }
}

#[cfg(test)]
mod tests;
