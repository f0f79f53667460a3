//! Rows of data files in other formats than JSON, CSV and TSV: Parquet and Arrow, in builds that prepare data.

use kiln_suite::{
    error::{Error, Result},
    value::Map,
};
use std::path::Path;

/// Reads a Parquet or Arrow file; `None` for any other.
///
/// # Errors
/// [`Error::InvalidData`] for a file that cannot be read, also because this build cannot.
pub(super) fn read(path: &Path) -> Result<Option<Vec<Map>>> {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    if !matches!(extension.as_str(), "parquet" | "arrow" | "feather" | "ipc") {
        return Ok(None);
    }
    columnar(path).map(Some)
}

#[cfg(feature = "data")]
fn columnar(path: &Path) -> Result<Vec<Map>> {
    let rows = crate::prepare::read_rows(path).map_err(|message| Error::InvalidData {
        path: path.into(),
        row: None,
        message,
        hint: None,
    })?;
    Ok(rows
        .into_iter()
        .map(|row| row.into_iter().map(|(name, value)| (name, own(value))).collect())
        .collect())
}

#[cfg(feature = "data")]
fn own(value: serde_json::Value) -> kiln_suite::value::Value {
    serde_json::from_value(value).unwrap_or_default()
}

#[cfg(not(feature = "data"))]
fn columnar(path: &Path) -> Result<Vec<Map>> {
    Err(Error::InvalidData {
        path: path.into(),
        row: None,
        message: "is a format that this build cannot read".into(),
        hint: Some("build kiln with `--features data`, or save the rows as JSON lines".into()),
    })
}
