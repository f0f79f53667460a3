//! Results of a suite as lm-evaluation-harness shows and stores them.

use super::SuiteOptions;
use crate::platform::storage;
use kiln_suite::{
    evaluate::Evaluation,
    value::{Map, Value},
};
use std::{collections::BTreeSet, path::Path};

/// Names of the columns of the table. Two of them hold signs.
const COLUMNS: [&str; 9] = ["Tasks", "Version", "Filter", "n-shot", "Metric", "", "Value", "", "Stderr"];
/// Columns that are aligned to the right, as those of numbers.
const NUMBERS: [usize; 4] = [1, 3, 6, 8];

/// Adds how the results were made.
pub(super) fn describe(results: &mut Map, checkpoint: &Path, options: &SuiteOptions) {
    let config = Map::from_iter([
        ("model", Value::from("kiln")),
        ("model_args", format!("pretrained={}", checkpoint.display()).into()),
        ("limit", options.limit.into()),
        ("bootstrap_iters", options.bootstrap_iterations.into()),
        ("fewshot_seed", (options.seed as usize).into()),
    ]);
    results.set("config", config);
    results.set("kiln_version", env!("CARGO_PKG_VERSION"));
}

/// Writes `results.json` and `samples_TASK.jsonl` into a folder.
///
/// # Errors
/// [`Error::Io`](crate::error::Error::Io).
pub(super) fn write(folder: &Path, evaluation: &Evaluation) -> anyhow::Result<()> {
    storage::create_folder(folder)?;
    let results = serde_json::to_string_pretty(&evaluation.results)? + "\n";
    storage::write_atomic(&folder.join("results.json"), results.as_bytes())?;
    for (task, samples) in &evaluation.samples {
        let mut lines = String::new();
        for sample in samples {
            lines += &serde_json::to_string(sample)?;
            lines.push('\n');
        }
        // A task of a group is called `GROUP::TASK`, which is no file name everywhere.
        let name = task.replace(|c: char| "/\\:*?\"<>|".contains(c), "_");
        storage::write_atomic(&folder.join(format!("samples_{name}.jsonl")), lines.as_bytes())?;
    }
    Ok(())
}

/// Formats the table that lm-evaluation-harness prints, and a second one of groups if there are any.
pub(super) fn table(results: &Map) -> String {
    let mut text = of_section(results, "results", "Tasks");
    if results.get("groups").is_some() {
        text += &format!("\n{}", of_section(results, "groups", "Groups"));
    }
    text
}

fn of_section(results: &Map, section: &str, title: &str) -> String {
    let part = |name: &str| match results.get(name) {
        Some(Value::Map(map)) => map.clone(),
        _ => Map::default(),
    };
    let (own, versions, shots) = (part(section), part("versions"), part("n-shot"));
    let (directions, members) = (part("higher_is_better"), part("group_subtasks"));
    let mut rows = vec![COLUMNS.map(String::from)];
    rows[0][0] = title.into();
    for (name, depth) in order(&own, &members) {
        let Some(Value::Map(figures)) = own.get(&name) else { continue };
        let direction = |metric: &str| match directions.get(&name) {
            Some(Value::Map(own)) => match own.get(metric) {
                Some(Value::Bool(true)) => "↑",
                Some(Value::Bool(false)) => "↓",
                _ => "",
            },
            _ => "",
        };
        let alias = figures.get("alias").map_or_else(|| name.clone(), Value::to_text);
        let indent = if depth > 0 { format!("{}- ", " ".repeat(depth)) } else { String::new() };
        let mut head = [indent + &alias, versions.get(&name).map(Value::to_text).unwrap_or_default()];
        let mut names: Vec<&str> = figures.keys().filter(|name| name.contains(',')).collect();
        names.sort_unstable();
        for figure in names {
            let Some((metric, filter)) = figure.split_once(',') else { continue };
            if metric.ends_with("_stderr") {
                continue;
            }
            let error = figures.get(&format!("{metric}_stderr,{filter}"));
            let [task, version] = std::mem::take(&mut head);
            rows.push([
                task,
                version,
                filter.into(),
                shots.get(&name).map(Value::to_text).unwrap_or_default(),
                metric.into(),
                direction(metric).into(),
                figures.get(figure).map(number).unwrap_or_default(),
                if error.is_some() { "±".into() } else { String::new() },
                error.map(number).unwrap_or_default(),
            ]);
        }
    }
    markdown(&rows)
}

/// Names of tasks and groups, each group before its members, with their depth.
fn order(results: &Map, members: &Map) -> Vec<(String, usize)> {
    fn add(
        name: &str,
        depth: usize,
        (results, members): (&Map, &Map),
        seen: &mut BTreeSet<String>,
        into: &mut Vec<(String, usize)>,
    ) {
        if results.get(name).is_none() || !seen.insert(name.to_owned()) {
            return;
        }
        into.push((name.to_owned(), depth));
        if let Some(Value::List(children)) = members.get(name) {
            for child in children.iter().filter_map(Value::as_text) {
                add(child, depth + 1, (results, members), seen, into);
            }
        }
    }
    let children: BTreeSet<String> = members
        .iter()
        .filter_map(|(_, list)| if let Value::List(list) = list { Some(list) } else { None })
        .flat_map(|list| list.iter().map(Value::to_text))
        .collect();
    let (mut seen, mut ordered) = (BTreeSet::new(), Vec::new());
    let roots: Vec<&str> = results.keys().filter(|name| !children.contains(*name)).collect();
    for name in roots.into_iter().chain(results.keys()) {
        add(name, 0, (results, members), &mut seen, &mut ordered);
    }
    ordered
}

/// A number with four decimals; a text as it is.
fn number(value: &Value) -> String {
    match value {
        Value::Float(number) => format!("{number:.4}"),
        other => other.to_text(),
    }
}

/// Formats rows, of which the first holds the names of the columns, as a Markdown table.
fn markdown(rows: &[[String; 9]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 9] = std::array::from_fn(|column| {
        let least = if NUMBERS.contains(&column) { 4 } else { 3 };
        width(column).max(if COLUMNS[column].is_empty() { 1 } else { least })
    });
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        text.push('|');
        for (column, cell) in row.iter().enumerate() {
            let padding = " ".repeat(widths[column] - cell.chars().count());
            let is_right = NUMBERS.contains(&column) && index > 0;
            let (before, after) = if is_right { (padding.as_str(), "") } else { ("", padding.as_str()) };
            text.extend([before, cell, after, "|"]);
        }
        text.push('\n');
        if index == 0 {
            text.push('|');
            for (column, width) in widths.iter().enumerate() {
                let end = if NUMBERS.contains(&column) { ":" } else { "-" };
                text.extend(["-".repeat(width - 1).as_str(), end, "|"]);
            }
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_row_for_each_metric_and_groups_before_their_tasks() {
        let results: Value = serde_json::from_str(
            r#"{"results": {
                "arc": {"name": "arc", "alias": "Arc", "sample_len": 4, "acc,none": 0.25, "acc_stderr,none": 0.125},
                "all": {"alias": "all", "acc,none": 0.25, "acc_stderr,none": "N/A"},
                "own": {"name": "own", "perplexity,none": 12.0}},
              "groups": {"all": {"alias": "all", "acc,none": 0.25}},
              "group_subtasks": {"all": ["arc"]}, "versions": {"arc": 1.0, "own": "Yaml"},
              "n-shot": {"arc": 3, "own": 0}, "higher_is_better": {"arc": {"acc": true}, "own": {"perplexity": false}}}"#,
        )
        .unwrap();
        let Value::Map(results) = results else { panic!("not a map") };
        let expected = "\
|Tasks |Version|Filter|n-shot|Metric    | |Value  | |Stderr|
|------|------:|------|-----:|----------|-|------:|-|-----:|
|all   |       |none  |      |acc       | | 0.2500|±|   N/A|
| - Arc|    1.0|none  |     3|acc       |↑| 0.2500|±|0.1250|
|own   |   Yaml|none  |     0|perplexity|↓|12.0000| |      |

|Groups|Version|Filter|n-shot|Metric| |Value | |Stderr|
|------|------:|------|-----:|------|-|-----:|-|-----:|
|all   |       |none  |      |acc   | |0.2500| |      |
";
        assert_eq!(table(&results), expected);
    }
}
