//! Reads the rows of a Parquet or Arrow file with all their values.

use super::{open, panics};
use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Float64Type, Int64Type},
    util::display::{ArrayFormatter, FormatOptions},
};
use serde_json::{Map, Value};
use std::path::Path;

/// Names and values of a row, in the order of the columns.
pub type Row = Vec<(String, Value)>;

/// Reads all rows of a file. Numbers, truth values, texts, lists and records stay what they are; everything else,
/// such as dates, becomes text.
///
/// # Errors
/// The reason why the file cannot be read.
pub fn read_rows(path: &Path) -> Result<Vec<Row>, String> {
    panics::catch(|| {
        let mut rows = Vec::new();
        for batch in open(path)?.batches {
            let batch = batch?;
            for row in 0..batch.num_rows() {
                rows.push(row_of(&batch, row)?);
            }
        }
        Ok(rows)
    })
    .and_then(|rows| rows)
}

fn row_of(batch: &RecordBatch, row: usize) -> Result<Row, String> {
    let fields = batch.schema_ref().fields().iter().zip(batch.columns());
    fields.map(|(field, column)| Ok((field.name().clone(), value(column, row)?))).collect()
}

/// Value of a column in a row.
fn value(column: &ArrayRef, row: usize) -> Result<Value, String> {
    if column.is_null(row) {
        return Ok(Value::Null);
    }
    let failed = |error: datafusion::arrow::error::ArrowError| error.to_string();
    let list = |values: ArrayRef| (0..values.len()).map(|at| value(&values, at)).collect::<Result<_, _>>();
    Ok(match column.data_type() {
        DataType::Boolean => column.as_boolean().value(row).into(),
        data_type if data_type.is_integer() => {
            let one = cast(&column.slice(row, 1), &DataType::Int64).map_err(failed)?;
            one.as_primitive::<Int64Type>().value(0).into()
        }
        data_type if data_type.is_floating() => {
            let one = cast(&column.slice(row, 1), &DataType::Float64).map_err(failed)?;
            one.as_primitive::<Float64Type>().value(0).into()
        }
        DataType::List(_) => Value::Array(list(column.as_list::<i32>().value(row))?),
        DataType::LargeList(_) => Value::Array(list(column.as_list::<i64>().value(row))?),
        DataType::FixedSizeList(..) => Value::Array(list(column.as_fixed_size_list().value(row))?),
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(column.as_struct().columns());
            let entries = columns.map(|(field, column)| Ok((field.name().clone(), value(column, row)?)));
            Value::Object(entries.collect::<Result<Map<_, _>, String>>()?)
        }
        DataType::Dictionary(_, values) => value(&cast(&column.slice(row, 1), values).map_err(failed)?, 0)?,
        DataType::Null => Value::Null,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            let one = cast(&column.slice(row, 1), &DataType::Utf8).map_err(failed)?;
            one.as_string::<i32>().value(0).into()
        }
        _ => {
            let formatter = ArrayFormatter::try_new(column, &FormatOptions::new()).map_err(failed)?;
            formatter.value(row).try_to_string().map_err(failed)?.into()
        }
    })
}
