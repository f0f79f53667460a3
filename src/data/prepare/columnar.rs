//! Documents of Parquet and Arrow files, whose rows are records.

use super::{
    engine::failed,
    extract::{Document, ExtractConfig, Fault, Metadata},
};
use crate::error::{Error, Result};
use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, RecordBatch},
        compute::cast,
        datatypes::DataType,
        error::ArrowError,
        ipc::reader::{FileReader, StreamReader},
    },
    parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder,
};
use std::{
    fs::File,
    io::{BufReader, Read},
    path::Path,
};

/// Rows read at a time.
const ROWS: usize = 256;

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>>>;

/// Whether a file is read here, by its name.
pub(super) fn is_columnar(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    matches!(extension.as_str(), "parquet" | "arrow" | "feather" | "ipc")
}

/// Gives every record of a file to `each`.
///
/// # Errors
/// Those of `each`. A file that is broken or has no column of text is a fault.
pub(super) fn read(
    path: &Path,
    name: &str,
    config: &ExtractConfig,
    mut each: impl FnMut(Result<Document, Fault>) -> Result<()>,
) -> Result<()> {
    let fault = |row: usize, reason: String| Fault {
        file: name.to_owned(),
        offset: row as u64,
        reason: format!("row {row}: {reason}"),
    };
    let batches = match open(path) {
        Ok(batches) => batches,
        Err(error) => return each(Err(fault(0, error.to_string()))),
    };
    let mut first = 0;
    for batch in batches {
        let batch = match batch {
            Ok(batch) => batch,
            // Nothing is known of where the next one begins.
            Err(error) => return each(Err(fault(first, error.to_string()))),
        };
        let text = |name: &str| batch.column_by_name(name).and_then(as_text);
        let Some(texts) = text(&config.text_field) else {
            let columns: Vec<String> =
                batch.schema().fields().iter().map(|field| field.name().clone()).collect();
            let reason =
                format!("no column `{}` of text; there are {}", config.text_field, columns.join(", "));
            return each(Err(fault(first, reason)));
        };
        let (ids, urls) = (text(&config.id_field), text(&config.url_field));
        let known = [&config.text_field, &config.id_field, &config.url_field];
        let schema = batch.schema();
        let others: Vec<(&str, ArrayRef)> = schema
            .fields()
            .iter()
            .filter(|field| !known.contains(&field.name()))
            .filter_map(|field| Some((field.name().as_str(), text(field.name())?)))
            .collect();
        for row in 0..batch.num_rows() {
            let Some(text) = value(&texts, row) else {
                each(Err(fault(first + row, "the text is null".into())))?;
                continue;
            };
            if text.len() > config.record_limit {
                let reason = format!("longer than {} bytes", config.record_limit);
                each(Err(fault(first + row, reason)))?;
                continue;
            }
            let metadata: Metadata = others
                .iter()
                .filter_map(|(name, column)| Some(((*name).into(), value(column, row)?.into())))
                .collect();
            let own = |column: &Option<ArrayRef>| {
                column.as_ref().and_then(|ids| value(ids, row).map(str::to_owned))
            };
            each(Ok(Document {
                id: own(&ids).unwrap_or_else(|| format!("{name}#{}", first + row)),
                text: text.into(),
                url: own(&urls),
                source: name.to_owned(),
                metadata,
            }))?;
        }
        first += batch.num_rows();
    }
    Ok(())
}

fn open(path: &Path) -> Result<Batches> {
    let open = || File::open(path).map_err(|error| Error::io("read", path, error));
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet")) {
        let builder = ParquetRecordBatchReaderBuilder::try_new(open()?).map_err(failed("opening"))?;
        return Ok(Box::new(builder.with_batch_size(ROWS).build().map_err(failed("opening"))?));
    }
    let mut magic = [0; 6];
    let is_file = open()?.read_exact(&mut magic).is_ok() && &magic == b"ARROW1";
    Ok(match is_file {
        true => Box::new(FileReader::try_new(BufReader::new(open()?), None).map_err(failed("opening"))?),
        false => Box::new(StreamReader::try_new(BufReader::new(open()?), None).map_err(failed("opening"))?),
    })
}

/// A column as text, if it can be.
fn as_text(column: &ArrayRef) -> Option<ArrayRef> {
    cast(column, &DataType::Utf8).ok()
}

fn value(column: &ArrayRef, row: usize) -> Option<&str> {
    (!column.is_null(row)).then(|| column.as_string::<i32>().value(row))
}
