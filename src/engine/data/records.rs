//! Reads records of JSON lines, JSON and tables. Each has a text and optionally a label or a target text.

use super::corpus::{Label, LabelKind};
use crate::error::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::{borrow::Cow, path::Path};

/// Format of a text file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Plain text.
    Text,
    /// One JSON object per line.
    Lines,
    /// An array of JSON objects, or several objects, which may extend over lines.
    Json,
    /// A table with this byte between columns, whose first line contains the column names.
    Table(u8),
}

/// Names of the fields that are read from a record, and the kind of its label.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    pub text: &'a str,
    pub label: Option<(&'a str, LabelKind)>,
}

impl Shape {
    /// Finds the format by the file's name or, if that is not conclusive, by its text. `is_named` says
    /// whether the user named the file itself: then a `.json` file is data. If it was found in a folder, it
    /// may be a program's settings, which are read as text.
    pub fn of(path: &Path, text: &str, fields: &Fields, is_named: bool) -> Self {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let record = || first_record::<Map<String, Value>>(text);
        let has_text =
            || record().is_some_and(|record| record.get(fields.text).is_some_and(Value::is_string));
        match extension.as_str() {
            "jsonl" | "ndjson" => Self::Lines,
            "csv" => Self::Table(b','),
            "tsv" => Self::Table(b'\t'),
            "json" if is_named || fields.label.is_some() || has_text() => Self::Json,
            // An array of records is data, also where they lack the field.
            "json" if text.trim_start().starts_with('[') && record().is_some() => Self::Json,
            "json" | "txt" | "text" | "md" | "markdown" | "rst" => Self::Text,
            _ if has_text() => Self::Json,
            _ => Self::Text,
        }
    }
}

/// Parses the first object of a JSON text, which may be inside an array.
pub(super) fn first_record<T: DeserializeOwned>(text: &str) -> Option<T> {
    let start = text.trim_start();
    let start = start.strip_prefix('[').unwrap_or(start).trim_start();
    if !start.starts_with('{') {
        return None;
    }
    serde_json::Deserializer::from_str(start).into_iter().next()?.ok()
}

/// Calls `each` with the text and the label of each record of a file. Skips blank lines and empty texts.
///
/// # Errors
/// [`Error::InvalidRecord`].
pub(super) fn read(
    path: &Path,
    text: &str,
    shape: Shape,
    fields: &Fields,
    mut each: impl FnMut(&str, Option<Label>),
) -> Result<()> {
    if text.trim().is_empty() {
        return Ok(());
    }
    let refused = |line: usize, message: String| Error::InvalidRecord { path: path.into(), line, message };
    let mut take = |line: usize, record: Value| {
        let Value::Object(record) = record else {
            return Err(refused(line, "is not a JSON object".into()));
        };
        let (text, label) = fields.read(&record).map_err(|message| refused(line, message))?;
        if !text.is_empty() {
            each(&with_unix_line_breaks(&text), label);
        }
        Ok(())
    };
    match shape {
        Shape::Text => {
            let (name, _) = fields.label.unwrap_or((fields.text, LabelKind::Text));
            let message =
                format!("is text, which has no field `{name}`: give JSON lines (`.jsonl`), JSON or a table");
            Err(refused(1, message))
        }
        Shape::Lines | Shape::Json => each_record(path, text, shape, take),
        Shape::Table(delimiter) => {
            let wanted = [Some(fields.text), fields.label.map(|(name, _)| name)];
            let check = |names: &csv::StringRecord| {
                let is_missing = |name: &&str| names.iter().all(|own| own != *name);
                let Some(missing) = wanted.into_iter().flatten().find(is_missing) else { return Ok(()) };
                let names = names.iter().collect::<Vec<_>>().join("`, `");
                Err(refused(1, format!("names no column `{missing}`; there are `{names}`")))
            };
            let number = fields.label.filter(|(_, kind)| *kind == LabelKind::Value).map(|(name, _)| name);
            each_row(path, text, delimiter, check, |line, names, row| {
                let value = |(name, text): (&str, &str)| {
                    let parsed = if number == Some(name) { text.trim().parse::<f64>().ok() } else { None };
                    (name.to_owned(), parsed.map_or_else(|| text.into(), Value::from))
                };
                take(line, Value::Object(names.iter().zip(row).map(value).collect()))
            })
        }
    }
}

/// Calls `take` with the line, the names of the columns and the cells of each row of a table, after `check` has accepted
/// the names.
///
/// # Errors
/// [`Error::InvalidRecord`] for what is no row, and errors of `check` and `take`.
pub(super) fn each_row(
    path: &Path,
    text: &str,
    delimiter: u8,
    check: impl FnOnce(&csv::StringRecord) -> Result<()>,
    mut take: impl FnMut(usize, &csv::StringRecord, &csv::StringRecord) -> Result<()>,
) -> Result<()> {
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(text.as_bytes());
    let line = |position: Option<&csv::Position>| position.map_or(1, |at| at.line() as usize);
    let failed = |error: csv::Error| {
        let message = match error.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("has {len} columns, but the first line names {expected_len}")
            }
            _ => format!("is no row of a table: {error}"),
        };
        Error::InvalidRecord { path: path.into(), line: line(error.position()), message }
    };
    let names = reader.headers().map_err(failed)?.clone();
    check(&names)?;
    for row in reader.records() {
        let row = row.map_err(failed)?;
        take(line(row.position()), &names, &row)?;
    }
    Ok(())
}

/// Calls `take` with each record of JSON lines or JSON, and the line where it begins.
///
/// # Errors
/// [`Error::InvalidRecord`] for what is not JSON, and errors of `take`.
pub(super) fn each_record<T: DeserializeOwned>(
    path: &Path,
    text: &str,
    shape: Shape,
    mut take: impl FnMut(usize, T) -> Result<()>,
) -> Result<()> {
    let refused = |line: usize, message: String| Error::InvalidRecord { path: path.into(), line, message };
    if shape == Shape::Json {
        return each_value(text, &refused, take);
    }
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    lines.into_iter().try_for_each(|(number, line)| {
        let record = serde_json::from_str(line);
        take(number, record.map_err(|error| refused(number, format!("is not JSON: {error}")))?)
    })
}

/// Calls `take` with each value of an array, or of several values one after the other, and the line where it
/// begins.
fn each_value<T: DeserializeOwned>(
    text: &str,
    refused: &impl Fn(usize, String) -> Error,
    mut take: impl FnMut(usize, T) -> Result<()>,
) -> Result<()> {
    // Places only grow, so lines are counted once: bytes passed, and the line reached.
    let (mut passed, mut reached) = (0, 1);
    let mut line = |rest: &str| {
        let at = text.len() - rest.len();
        reached += text[passed..at].matches('\n').count();
        passed = at;
        reached
    };
    let mut rest = text.trim_start();
    let array = rest.strip_prefix('[');
    rest = array.unwrap_or(rest).trim_start();
    let is_array = array.is_some();
    loop {
        if let Some(behind) = rest.strip_prefix(']').filter(|_| is_array) {
            let behind = behind.trim_start();
            let ends = behind.is_empty();
            return if ends { Ok(()) } else { Err(refused(line(behind), "stands behind the array".into())) };
        }
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<T>();
        let value = match values.next() {
            Some(Ok(value)) => value,
            Some(Err(error)) => {
                // The place in the message is that behind what was read before.
                let message = error.to_string();
                let message = message.split(" at line ").next().unwrap_or_default();
                let at = line(rest) + error.line().saturating_sub(1);
                return Err(refused(at, format!("is not JSON: {message}")));
            }
            None if is_array => return Err(refused(line(rest), "ends before its array does".into())),
            None => return Ok(()),
        };
        take(line(rest), value)?;
        rest = rest[values.byte_offset()..].trim_start();
        if is_array && !rest.is_empty() && !rest.starts_with(']') {
            let Some(next) = rest.strip_prefix(',') else {
                return Err(refused(line(rest), "is not JSON: expected `,` or `]`".into()));
            };
            rest = next.trim_start();
        }
    }
}

/// Message about a field that a record lacks.
fn missing(record: &Map<String, Value>, field: &str) -> String {
    let is_dialogue =
        ["messages", "conversations", "instruction"].iter().any(|name| record.contains_key(*name));
    let advice = if is_dialogue { ", but those of a dialogue, for `objective.kind=sft`" } else { "" };
    format!("has no field `{field}`{advice}")
}

impl Fields<'_> {
    /// Reads the text and the label of a record.
    ///
    /// # Errors
    /// A message about a field that is missing or has the wrong type.
    fn read(&self, record: &Map<String, Value>) -> Result<(String, Option<Label>), String> {
        let value = |field: &str| record.get(field).ok_or_else(|| missing(record, field));
        let text_of = |field: &str| match value(field)? {
            Value::String(text) => Ok(text.clone()),
            _ => Err(format!("has a field `{field}` that is not a string")),
        };
        let name_of = |value: &Value| match value {
            Value::String(name) => Some(name.clone()),
            Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
            _ => None,
        };
        let names_of = |field: &str| {
            let names = value(field)?.as_array().and_then(|list| list.iter().map(name_of).collect());
            names.ok_or_else(|| format!("has a field `{field}` that is not a list of names"))
        };
        let Some((field, kind)) = self.label else {
            return Ok((text_of(self.text)?, None));
        };
        let label = match kind {
            LabelKind::Class => {
                let name = name_of(value(field)?);
                Label::Class(name.ok_or_else(|| format!("has a field `{field}` that is not a name"))?)
            }
            LabelKind::Value => {
                let number = value(field)?.as_f64().filter(|number| (*number as f32).is_finite());
                let number = number.ok_or_else(|| format!("has a field `{field}` that is not a number"))?;
                Label::Value(number as f32)
            }
            LabelKind::Text => Label::Text(with_unix_line_breaks(&text_of(field)?).into_owned()),
            LabelKind::Words => {
                let (words, classes): (Vec<String>, Vec<String>) = (names_of(self.text)?, names_of(field)?);
                if words.len() != classes.len() {
                    let (words, classes) = (words.len(), classes.len());
                    return Err(format!("has {words} words in `{}`, but {classes} in `{field}`", self.text));
                }
                let text = words.join(" ");
                return Ok((text, Some(Label::Words(words.into_iter().zip(classes).collect()))));
            }
        };
        Ok((text_of(self.text)?, Some(label)))
    }
}

pub(super) fn with_unix_line_breaks(text: &str) -> Cow<'_, str> {
    if text.contains("\r\n") { text.replace("\r\n", "\n").into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Fields = Fields { text: "text", label: None };

    fn texts(name: &str, text: &str, fields: &Fields) -> Result<Vec<String>, String> {
        let path = Path::new(name);
        let mut texts = Vec::new();
        let shape = Shape::of(path, text, fields, true);
        let read = read(path, text, shape, fields, |text, _| texts.push(text.to_owned()));
        read.map(|()| texts).map_err(|error| error.to_string())
    }

    #[test]
    fn shapes_are_told_by_name_and_then_by_text() {
        let shape = |name: &str, text: &str, is_named| Shape::of(Path::new(name), text, &PLAIN, is_named);
        let (record, other) = ("{ \"text\" : \"one\" }\n", "{\"name\": 1}");
        assert_eq!(shape("a.NDJSON", "", true), Shape::Lines);
        assert_eq!(
            (shape("a.csv", "", true), shape("a.tsv", "", true)),
            (Shape::Table(b','), Shape::Table(b'\t'))
        );
        for named in [true, false] {
            assert_eq!(shape("a.json", record, named), Shape::Json);
            assert_eq!(shape("a", record, named), Shape::Json);
            assert_eq!(shape("a.data", &format!("[\n{record}]"), named), Shape::Json);
            assert_eq!(shape("a.json", "[{\"name\": 1}]", named), Shape::Json);
            assert_eq!(shape("a.txt", record, named), Shape::Text);
            assert_eq!(shape("a", other, named), Shape::Text);
            assert_eq!(shape("a.rs", "[x]", named), Shape::Text);
        }
        // A setting among the files of a folder.
        assert_eq!((shape("a.json", other, true), shape("a.json", other, false)), (Shape::Json, Shape::Text));
    }

    #[test]
    fn json_is_read_as_records_or_refused() {
        for text in [
            "[{\"text\": \"one\"}, {\"text\": \"t\\r\\nwo\"}]",
            " [\n  {\n    \"text\": \"one\"\n  },\n  {\"text\": \"t\\nwo\", \"n\": [1]}\n]\n",
            "{\"text\": \"one\"}\n{\"text\": \"\"}\n{\"text\": \"t\\nwo\"}",
            "{\n\"text\": \"one\"\n}\n{\n\"text\": \"t\\nwo\"\n}\n",
        ] {
            assert_eq!(texts("a.json", text, &PLAIN).unwrap(), ["one", "t\nwo"], "{text}");
        }
        for (text, message) in [
            ("{\"body\": \"x\"}", "line 1: has no field `text`"),
            (
                "{\"messages\": []}",
                "line 1: has no field `text`, but those of a dialogue, for `objective.kind=sft`",
            ),
            ("[\n{\"text\": \"x\"},\n\n{\"text\": 3}]", "line 4: has a field `text` that is not a string"),
            ("[\"one\"]", "line 1: is not a JSON object"),
            ("[1, 2]", "line 1: is not a JSON object"),
            ("[{\"text\": \"x\"}", "line 1: ends before its array does"),
            ("[{\"text\": \"x\"} {}]", "line 1: is not JSON: expected `,` or `]`"),
            ("[{\"text\": \"x\"}]\nrest", "line 2: stands behind the array"),
            ("\n{\"text\": \n x}", "line 3: is not JSON: expected value"),
            ("words", "line 1: is not JSON: expected value"),
        ] {
            assert_eq!(texts("a.json", text, &PLAIN).unwrap_err(), format!("`a.json` {message}"), "{text}");
        }
    }

    #[test]
    fn tables_are_read_as_records_or_refused() {
        let table = "id,text\r\n0,\"one, \"\"two\"\"\r\nthree\"\r\n\r\n1,\r\n2,four\r\n";
        assert_eq!(texts("a.csv", table, &PLAIN).unwrap(), ["one, \"two\"\nthree", "four"]);
        assert_eq!(texts("a.tsv", "text\tid\none, two\t1\n", &PLAIN).unwrap(), ["one, two"]);
        for (text, message) in [
            ("id;text\n1;one\n", "line 1: names no column `text`; there are `id;text`"),
            ("id,text\n1,one\n2,two,3\n", "line 3: has 3 columns, but the first line names 2"),
        ] {
            assert_eq!(texts("a.csv", text, &PLAIN).unwrap_err(), format!("`a.csv` {message}"), "{text}");
        }
        let labels = |kind, text: &str| {
            let fields = Fields { text: "text", label: Some(("label", kind)) };
            let mut labels = Vec::new();
            let path = Path::new("a.csv");
            read(path, text, Shape::Table(b','), &fields, |_, label| labels.extend(label)).map(|()| labels)
        };
        let table = "label,text\n1,one\n-0.5,two\n";
        assert_eq!(labels(LabelKind::Class, table).unwrap()[0], Label::Class("1".into()));
        assert_eq!(labels(LabelKind::Value, table).unwrap()[1], Label::Value(-0.5));
        let error = labels(LabelKind::Class, "text\none\n").unwrap_err().to_string();
        assert_eq!(error, "`a.csv` line 1: names no column `label`; there are `text`");
    }

    #[test]
    fn records_may_have_answers() {
        let read = |line: &str, label| {
            let fields = Fields { text: "t", label: Some(("a", label)) };
            let mut labels = Vec::new();
            let path = Path::new("a.jsonl");
            read(path, line, Shape::Lines, &fields, |_, label| labels.extend(label))
                .map(|()| labels.remove(0))
        };
        let class = |name: &str| Label::Class(name.into());
        assert_eq!(read(r#"{"t":"x","a":"spam"}"#, LabelKind::Class).unwrap(), class("spam"));
        assert_eq!(read(r#"{"t":"x","a":1}"#, LabelKind::Class).unwrap(), class("1"));
        assert_eq!(read(r#"{"t":"x","a":-0.5}"#, LabelKind::Value).unwrap(), Label::Value(-0.5));
        assert_eq!(read(r#"{"t":"x","a":"y"}"#, LabelKind::Text).unwrap(), Label::Text("y".into()));
        let words = read(r#"{"t":["x","y"],"a":["A","B"]}"#, LabelKind::Words).unwrap();
        assert_eq!(words, Label::Words(vec![("x".into(), "A".into()), ("y".into(), "B".into())]));
        for (line, kind, message) in [
            (r#"{"t":"x"}"#, LabelKind::Class, "has no field `a`"),
            (r#"{"t":"x","a":[]}"#, LabelKind::Class, "has a field `a` that is not a name"),
            (r#"{"t":"x","a":"y"}"#, LabelKind::Value, "has a field `a` that is not a number"),
            (r#"{"t":"x","a":1e300}"#, LabelKind::Value, "has a field `a` that is not a number"),
            (r#"{"t":["x"],"a":[]}"#, LabelKind::Words, "has 1 words in `t`, but 0 in `a`"),
        ] {
            let error = read(line, kind).unwrap_err().to_string();
            assert_eq!(error, format!("`a.jsonl` line 1: {message}"));
        }
    }
}
