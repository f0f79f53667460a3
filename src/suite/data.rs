//! Rows of local data files: JSON lines, JSON, CSV and TSV. Other formats, such as Parquet, come from a
//! function of the caller. Columns get the types that the `datasets` library of Hugging Face gives them.

use crate::{
    error::{Error, Result, RowOrigin},
    value::{Map, Value},
};
use kiln_base::platform::storage;
use std::path::Path;

/// One record of a data file.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub values: Map,
    pub origin: RowOrigin,
}

/// Reads the rows of a file in a format that is not known here. Returns `None` if it does not know the format
/// either.
pub type ReadTable<'a> = dyn Fn(&Path) -> Result<Option<Vec<Map>>> + 'a;

/// Reads files, one after the other, as the rows of one split.
///
/// # Errors
/// [`Error::File`] and [`Error::InvalidData`].
pub fn read(paths: &[impl AsRef<Path>], read_table: &ReadTable) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for path in paths {
        let path = path.as_ref();
        let records = read_file(path, read_table)?;
        let origin = |index| RowOrigin { path: path.into(), row: index + 1 };
        rows.extend(
            records.into_iter().enumerate().map(|(index, values)| Row { values, origin: origin(index) }),
        );
    }
    let mut records: Vec<&mut Map> = rows.iter_mut().map(|row| &mut row.values).collect();
    unify_rows(&mut records);
    Ok(rows)
}

fn read_file(path: &Path, read_table: &ReadTable) -> Result<Vec<Map>> {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    match extension.as_str() {
        "jsonl" | "ndjson" | "json" => read_json(path, &storage::read_to_string(path)?),
        "csv" => read_delimited(path, &storage::read_to_string(path)?, b','),
        "tsv" => read_delimited(path, &storage::read_to_string(path)?, b'\t'),
        _ => read_table(path)?.ok_or_else(|| Error::InvalidData {
            path: path.into(),
            row: None,
            message: "is in no format that can be read".into(),
            hint: Some("give JSON lines (`.jsonl`), JSON (`.json`), CSV or TSV".into()),
        }),
    }
}

/// Reads an array of objects, or objects one after the other, which may extend over lines.
fn read_json(path: &Path, text: &str) -> Result<Vec<Map>> {
    let invalid = |row: usize, message: String| Error::InvalidData {
        path: path.into(),
        row: Some(row),
        message,
        hint: Some("a row is a JSON object, such as {\"question\": \"…\", \"answer\": 2}".into()),
    };
    let values: Vec<Value> = if text.trim_start().starts_with('[') {
        serde_json::from_str(text).map_err(|error| Error::InvalidData {
            path: path.into(),
            row: None,
            message: format!("is not JSON: {error}"),
            hint: None,
        })?
    } else {
        let mut values = Vec::new();
        for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
            values.push(value.map_err(|error| invalid(values.len() + 1, format!("is not JSON: {error}")))?);
        }
        values
    };
    let object = |(index, value): (usize, Value)| match value {
        Value::Map(map) => Ok(map),
        other => Err(invalid(index + 1, format!("is not a JSON object but {}", other.kind()))),
    };
    values.into_iter().enumerate().map(object).collect()
}

/// Reads a table whose first line contains the names of the columns.
fn read_delimited(path: &Path, text: &str, delimiter: u8) -> Result<Vec<Map>> {
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(text.as_bytes());
    let failed = |row: Option<usize>, error: csv::Error| {
        let message = match error.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("has {len} columns, but the first line names {expected_len}")
            }
            _ => format!("is no row of a table: {error}"),
        };
        Error::InvalidData { path: path.into(), row, message, hint: None }
    };
    let names = reader.headers().map_err(|error| failed(None, error))?.clone();
    let mut cells = Vec::new();
    for (index, record) in reader.records().enumerate() {
        cells.push(record.map_err(|error| failed(Some(index + 1), error))?);
    }
    let mut rows = vec![Map::default(); cells.len()];
    for (column, name) in names.iter().enumerate() {
        let texts: Vec<&str> = cells.iter().map(|record| record.get(column).unwrap_or_default()).collect();
        for (row, value) in rows.iter_mut().zip(typed(&texts)) {
            row.set(name, value);
        }
    }
    Ok(rows)
}

/// Texts that stand for a missing value in a table, as in pandas.
const MISSING: [&str; 18] = [
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A",
    "NA", "NULL", "NaN", "None", "n/a", "nan",
];

/// Types a column of a table as pandas does: whole numbers, numbers, truth values or text.
fn typed(cells: &[&str]) -> Vec<Value> {
    let is_missing = |cell: &str| MISSING.contains(&cell) || cell == "null";
    let present = || cells.iter().filter(|cell| !is_missing(cell));
    let has_gaps = present().count() < cells.len();
    let integer = |cell: &str| cell.trim().parse::<i64>().ok();
    let number = |cell: &str| {
        let is_numeric =
            cell.trim().starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
        cell.trim().parse::<f64>().ok().filter(|_| is_numeric)
    };
    let truth = |cell: &str| match cell {
        "True" | "TRUE" | "true" => Some(true),
        "False" | "FALSE" | "false" => Some(false),
        _ => None,
    };
    let convert: Box<dyn Fn(&str) -> Value> = if present().next().is_none() {
        Box::new(|_| Value::Null)
    } else if !has_gaps && present().all(|cell| integer(cell).is_some()) {
        Box::new(move |cell| integer(cell).into())
    } else if present().all(|cell| number(cell).is_some()) {
        Box::new(move |cell| number(cell).into())
    } else if present().all(|cell| truth(cell).is_some()) {
        Box::new(move |cell| truth(cell).into())
    } else {
        Box::new(|cell| cell.into())
    };
    cells.iter().map(|cell| if is_missing(cell) { Value::Null } else { convert(cell) }).collect()
}

/// Gives rows the same fields in the same order. A row that lacks a field gets it without a value.
fn unify_rows(rows: &mut [&mut Map]) {
    let mut keys: Vec<String> = Vec::new();
    for row in rows.iter() {
        let new: Vec<String> =
            row.keys().filter(|key| !keys.iter().any(|own| own == key)).map(Into::into).collect();
        keys.extend(new);
    }
    for row in rows.iter_mut() {
        **row = keys.iter().map(|key| (key.clone(), row.take(key).unwrap_or_default())).collect();
    }
    unify_fields(rows);
}

/// Unifies the values of each field of maps that have the same keys in the same order.
fn unify_fields(maps: &mut [&mut Map]) {
    let mut columns: Vec<Vec<&mut Value>> = Vec::new();
    for map in maps.iter_mut() {
        for (index, value) in map.values_mut().enumerate() {
            match columns.get_mut(index) {
                Some(column) => column.push(value),
                None => columns.push(vec![value]),
            }
        }
    }
    columns.iter_mut().for_each(|column| unify_values(column));
}

/// Makes whole numbers of a column numbers if there are others, also inside lists and maps. A column of
/// values that do not belong together stays as it is: text and numbers, or maps with other keys.
fn unify_values(column: &mut [&mut Value]) {
    let kind = |value: &Value| match value {
        Value::Null => 0,
        Value::Int(_) | Value::Float(_) => 1,
        Value::List(_) => 2,
        Value::Map(_) => 3,
        Value::Bool(_) | Value::Text(_) => 4,
    };
    let kinds = column.iter().map(|value| kind(value)).filter(|kind| *kind > 0);
    let (least, most) = kinds.fold((4, 0), |(least, most), kind| (kind.min(least), kind.max(most)));
    if least != most || most == 4 {
        return;
    }
    let has_fractions = column.iter().any(|value| matches!(value, Value::Float(_)));
    let (mut maps, mut items) = (Vec::new(), Vec::new());
    for value in column.iter_mut() {
        match value {
            Value::Int(number) if has_fractions => **value = Value::Float(*number as f64),
            Value::Map(map) => maps.push(map),
            Value::List(values) => items.extend(values.iter_mut()),
            _ => {}
        }
    }
    unify_values_of_maps(&mut maps);
    if !items.is_empty() {
        unify_values(&mut items);
    }
}

/// Unifies maps if all have the same keys, in the order of those of the first.
fn unify_values_of_maps(maps: &mut [&mut Map]) {
    let Some((first, others)) = maps.split_first_mut() else { return };
    let keys: Vec<String> = first.keys().map(Into::into).collect();
    let has_keys = |map: &&mut Map| map.len() == keys.len() && keys.iter().all(|key| map.get(key).is_some());
    if !others.iter().all(has_keys) {
        return;
    }
    for map in others.iter_mut() {
        **map = keys.iter().map(|key| (key.clone(), map.take(key).unwrap_or_default())).collect();
    }
    unify_fields(maps);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(records: Result<Vec<Map>>) -> Result<Vec<String>, String> {
        let mut records = records.map_err(|error| error.to_string())?;
        unify_rows(&mut records.iter_mut().collect::<Vec<_>>());
        Ok(records.into_iter().map(|map| Value::Map(map).to_repr()).collect())
    }

    /// The rows are those of `datasets.load_dataset("json")`, version 5.2.
    #[test]
    fn json_rows_get_the_same_fields_and_types() {
        let read = |text: &str| rows(read_json(Path::new("a.jsonl"), text));
        assert_eq!(
            read("{\"a\": 1, \"d\": {\"x\": 1, \"y\": 1}}\n\n{\"b\": [1, 2.5], \"a\": 2.5, \"d\": {\"y\": 2, \"x\": 0.5}}\n").unwrap(),
            [
                "{'a': 1.0, 'd': {'x': 1.0, 'y': 1}, 'b': None}",
                "{'a': 2.5, 'd': {'x': 0.5, 'y': 2}, 'b': [1.0, 2.5]}"
            ]
        );
        assert_eq!(
            read("{\"a\": {\"x\": 1}, \"b\": [1, \"x\"]}\n{\"a\": {\"y\": 1.5}, \"b\": [0.5]}").unwrap(),
            ["{'a': {'x': 1}, 'b': [1, 'x']}", "{'a': {'y': 1.5}, 'b': [0.5]}"]
        );
        assert_eq!(read("[{\"a\": 1},\n{\"a\": 2}]").unwrap(), ["{'a': 1}", "{'a': 2}"]);
        assert_eq!(
            read("{\"a\": 1}\n3\n").unwrap_err(),
            "`a.jsonl` row 2: is not a JSON object but a whole number"
        );
        assert!(read("{\"a\": 1}\n{\"a\"}\n").unwrap_err().starts_with("`a.jsonl` row 2: is not JSON: "));
    }

    /// The rows are those of `datasets.load_dataset("csv")`.
    #[test]
    fn columns_of_tables_have_types() {
        let read = |text: &str| rows(read_delimited(Path::new("a.csv"), text, b','));
        assert_eq!(
            read("a,b,c,d,e\n1,1,x,True,NA\n2,,\"y, z\",False,\n").unwrap(),
            [
                "{'a': 1, 'b': 1.0, 'c': 'x', 'd': True, 'e': None}",
                "{'a': 2, 'b': None, 'c': 'y, z', 'd': False, 'e': None}"
            ]
        );
        let error = read("a,b\n1,2\n3\n").unwrap_err();
        assert_eq!(error, "`a.csv` row 2: has 1 columns, but the first line names 2");
    }
}
