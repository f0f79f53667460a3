//! Tables of dialogues: each row is a record. Its cells are texts, but for those that hold JSON.

use super::super::records::{self, Shape, each_row};
use crate::error::{Error, Result};
use kiln_chat::Value;
use serde_json::{Map, Value as Json};
use std::path::Path;

/// Columns whose cells are read as JSON if they are valid JSON.
const OF_JSON: [&str; 10] = [
    "messages",
    "conversations",
    "tools",
    "documents",
    "history",
    "chat_template_kwargs",
    "label",
    "kto_tag",
    "score",
    "margin",
];

/// Columns whose cells are texts or, as JSON, lists of messages.
const OF_TEXT_OR_MESSAGES: [&str; 4] = ["prompt", "completion", "chosen", "rejected"];

/// Calls `take` with each record of JSON lines, JSON or a table, and the line where it begins. Empty cells of a table
/// are fields that are missing.
///
/// # Errors
/// [`Error::InvalidRecord`] for what is not JSON or no row of a table, and errors of `take`.
pub(super) fn each_record(
    path: &Path,
    text: &str,
    shape: Shape,
    mut take: impl FnMut(usize, Value) -> Result<()>,
) -> Result<()> {
    let Shape::Table(delimiter) = shape else {
        return records::each_record(path, text, shape, take);
    };
    let any = |_: &csv::StringRecord| Ok(());
    each_row(path, text, delimiter, any, |line, names, row| {
        let cells = names.iter().zip(row).filter(|(_, cell)| !cell.is_empty());
        // As text, which keeps the order of keys within cells.
        let fields: Vec<String> =
            cells.map(|(name, cell)| format!("{}:{}", quoted(name), to_json(name, cell))).collect();
        let record = serde_json::from_str(&format!("{{{}}}", fields.join(",")));
        let refused = |e: serde_json::Error| Error::InvalidRecord {
            path: path.into(),
            line,
            message: format!("is not JSON: {e}"),
        };
        take(line, record.map_err(refused)?)
    })
}

/// The first record of a table; `None` if it has no rows.
///
/// # Errors
/// Those of [`each_record`].
pub(super) fn first_record(path: &Path, text: &str, shape: Shape) -> Result<Option<Value>> {
    let mut first = None;
    each_record(path, text, shape, |_, record| {
        if first.is_none() {
            first = Some(record);
        }
        Ok(())
    })?;
    Ok(first)
}

/// The cell of a column as JSON.
fn to_json(name: &str, cell: &str) -> String {
    // Python writes `True`.
    let json = match cell {
        "True" | "TRUE" => "true",
        "False" | "FALSE" => "false",
        other => other,
    };
    if OF_JSON.contains(&name) && serde_json::from_str::<Json>(json).is_ok() {
        return json.to_owned();
    }
    let are_messages = || {
        let list = serde_json::from_str::<Vec<Map<String, Json>>>(cell);
        list.is_ok_and(|list| !list.is_empty() && list.iter().all(|message| message.contains_key("role")))
    };
    match OF_TEXT_OR_MESSAGES.contains(&name) && are_messages() {
        true => cell.to_owned(),
        false => quoted(cell),
    }
}

/// A text as JSON.
fn quoted(text: &str) -> String {
    Json::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_texts_or_json_by_their_column() {
        for (name, cell, json) in [
            ("prompt", "12", "\"12\""),
            ("prompt", "a \"b\"\n", "\"a \\\"b\\\"\\n\""),
            ("completion", "{\"a\": 1}", "\"{\\\"a\\\": 1}\""),
            (
                "chosen",
                "[{\"role\": \"user\", \"content\": \"x\"}]",
                "[{\"role\": \"user\", \"content\": \"x\"}]",
            ),
            ("messages", "[{'role': 'user'}]", "\"[{'role': 'user'}]\""),
            ("messages", "[{\"role\": \"user\"}]", "[{\"role\": \"user\"}]"),
            ("label", "True", "true"),
            ("score", "-0.5", "-0.5"),
            ("output", "0.5", "\"0.5\""),
        ] {
            assert_eq!(to_json(name, cell), json, "{name}");
        }
    }

    #[test]
    fn rows_are_records_without_empty_cells() {
        let (path, table) = (Path::new("a.csv"), "prompt,completion,system\nq,\"a, b\",\nr,c,s\n");
        let mut found = Vec::new();
        let take = |line: usize, record: Value| {
            found.push((line, record.to_string()));
            Ok(())
        };
        each_record(path, table, Shape::Table(b','), take).unwrap();
        assert_eq!(found[0], (2, "{'prompt': 'q', 'completion': 'a, b'}".to_owned()));
        assert_eq!(found[1].0, 3);
        assert_eq!(first_record(path, "prompt,completion\n", Shape::Table(b',')).unwrap(), None);
        let error = each_record(path, "a,b\n1\n", Shape::Table(b','), |_, _| Ok(())).unwrap_err().to_string();
        assert_eq!(error, "`a.csv` line 2: has 1 columns, but the first line names 2");
    }
}
