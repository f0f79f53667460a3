//! Tells the format of a file of dialogues by its first records.

use super::{super::records::Shape, read::wanted, table::each_record};
use crate::{
    config::{Config, Format, OnBadRow, SampleKind},
    error::{Error, Hint, Result, hint},
};
use kiln_chat::{Value, format};
use std::path::Path;

/// Number of records by which the format of a file is told.
const FIRST_RECORDS: usize = 8;

/// One of the first records of a file.
struct First {
    line: usize,
    record: Value,
    /// Format of the record; `None` if it has no field of a dialogue.
    format: Option<Format>,
}

/// Tells the format of a file by its first records; `None` if they are text. If bad rows are to be skipped, it is the
/// format that most of them have.
///
/// # Errors
/// [`Error::InvalidDialogue`] for records of no format, of several ones, or of one that the objective does not learn
/// from.
pub(super) fn detect(
    config: &Config,
    kind: SampleKind,
    path: &Path,
    text: &str,
    shape: Shape,
) -> Result<Option<Format>> {
    // The others are parsed when they are read.
    let text = if shape == Shape::Lines { first_lines(text, FIRST_RECORDS) } else { text };
    let mut first: Vec<First> = Vec::new();
    each_record(path, text, shape, |line, record: Value| {
        if first.len() < FIRST_RECORDS {
            let own = record.get_attr(&config.data.text_field).ok();
            let of_text = own.filter(|own| own.as_str().is_some()).map(|_| Format::Text);
            let format = format::detect(&record).or(of_text);
            first.push(First { line, record, format });
        }
        Ok(())
    })?;
    let found = most_common(&first);
    let Some(begin) = first.first() else { return Ok(None) };
    if found.is_none() || config.chat.on_bad_row == OnBadRow::Error {
        check_alike(kind, path, &first)?;
    }
    match found {
        None | Some(Format::Text) => Ok(None),
        Some(format) if kind.formats().contains(&format) => Ok(Some(format)),
        Some(format) => {
            let objective = config.objective_kind().name();
            let message =
                format!("is of the format `{}`, from which `{objective}` does not learn", format.name());
            let line = first.iter().find(|first| first.format == found).unwrap_or(begin).line;
            Err(Error::InvalidDialogue { path: path.into(), line, message, hint: Some(wanted(kind)) })
        }
    }
}

/// The format that most records have, and of two that as many have the one that comes first; `None` if none has any.
fn most_common(first: &[First]) -> Option<Format> {
    let count = |format: Format| first.iter().filter(|first| first.format == Some(format)).count();
    // Of equal ones the last is taken.
    first.iter().rev().filter_map(|first| first.format).max_by_key(|format| count(*format))
}

/// Checks that the first records of a file have one format.
///
/// # Errors
/// [`Error::InvalidDialogue`] with the first record that has none, or another one than those before it.
fn check_alike(kind: SampleKind, path: &Path, first: &[First]) -> Result<()> {
    let mut before: Option<Format> = None;
    for First { line, record, format } in first {
        let refused = |message: String, hint: Hint| {
            Err(Error::InvalidDialogue { path: path.into(), line: *line, message, hint: Some(hint) })
        };
        let Some(format) = *format else {
            let fields =
                format::describe_fields(record).map_err(|refusal| refusal.into_error(path, *line))?;
            return refused(format!("has no field of a dialogue; its fields are {fields}"), wanted(kind));
        };
        match before {
            Some(before) if before != format => {
                let as_before = format::read(record, before, kind).err();
                let (own, before) = (format.name(), before.name());
                let reason = as_before
                    .map_or_else(String::new, |refusal| format!(" (as `{before}`: {})", refusal.message));
                let message = format!("is of the format `{own}`, but those before it of `{before}`{reason}");
                return refused(message, hint!["say which it is with ", hint::set("data.format", before)]);
            }
            _ => before = Some(format),
        }
    }
    Ok(())
}

/// The beginning of a text, with so many lines that are not blank.
fn first_lines(text: &str, count: usize) -> &str {
    let (mut end, mut left) = (0, count);
    for line in text.split_inclusive('\n') {
        if left == 0 {
            break;
        }
        end += line.len();
        left -= usize::from(!line.trim().is_empty());
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_without_blank_ones() {
        let text = "a\n\n \nb\nc";
        assert_eq!(
            ["", "a\n", "a\n\n \nb\n", text, text],
            [0, 1, 2, 3, 9].map(|count| first_lines(text, count))
        );
    }
}
