//! Verification of a folder of fixtures: runs the subjects that it holds and prints a table of their cases.

use super::{broken_metrics, over_tolerance};
use crate::{
    cli::table::{Align, Table},
    device::Choice,
    error::Result,
    eval::verify::{Case, Difference, SUBJECTS, Subject},
};
use burn::tensor::Device;
use serde_json::json;
use std::path::Path;

/// Metrics of `kiln score`.
static METRICS: Subject = Subject { name: "metrics", verify: |folder, _| metrics(&folder.join("metrics")) };

/// Chat templates.
static CHAT: Subject =
    Subject { name: "chat", verify: |folder, _| super::chat::verify(&folder.join("chat")) };

/// Number of characters of a difference in the table; failures are shown whole below it.
const WIDEST: usize = 60;

/// Folder that is no subject: the models that subjects are about.
const MODELS: &str = "models";

fn subjects() -> impl Iterator<Item = &'static Subject> {
    SUBJECTS.iter().chain([&CHAT, &METRICS])
}

/// Whether a folder holds a subject.
pub(super) fn holds_any(folder: &Path) -> bool {
    subjects().any(|subject| folder.join(subject.name).is_dir())
}

/// Verifies every subject that a folder holds and prints each case. A subject that cannot be read is a failure, and
/// the others are verified all the same.
///
/// # Errors
/// [`Error::OverTolerance`](crate::Error::OverTolerance) if anything failed.
pub(super) fn run(
    folder: &Path,
    choice: &Choice,
    device: &Device,
    tolerance: Option<f64>,
    as_json: bool,
) -> anyhow::Result<()> {
    let (mut results, mut failures) = (Vec::new(), Vec::new());
    if !as_json {
        println!("device {choice}");
    }
    for subject in subjects().filter(|subject| folder.join(subject.name).is_dir()) {
        let found = (subject.verify)(folder, device);
        let (mut cases, error) = match found {
            Ok(cases) if cases.is_empty() => (cases, Some("there is nothing to compare".to_owned())),
            Ok(cases) => (cases, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        for difference in cases.iter_mut().flat_map(|case| &mut case.differences) {
            // A bound of 0 is of what is equal or not.
            difference.bound = tolerance.filter(|_| difference.bound > 0.0).unwrap_or(difference.bound);
        }
        let of_case = |case: &Case| -> Vec<String> {
            let name = format!("{}/{}", subject.name, case.name);
            case.failures().map(|failure| described(&name, failure)).collect()
        };
        let of_subject = error.iter().map(|error| format!("{}: {error}", subject.name));
        let failed: Vec<String> = of_subject.chain(cases.iter().flat_map(of_case)).collect();
        if !as_json {
            print!("\n{}", table(subject, &cases));
            failed.iter().for_each(|failure| println!("FAILED {failure}"));
        }
        results.push(json!({ "subject": subject.name, "cases": cases, "error": error }));
        failures.extend(failed);
    }
    if as_json {
        let result = json!({ "device": choice.to_string(), "subjects": results, "failures": failures });
        println!("{}", serde_json::to_string_pretty(&result)?);
    } else {
        let cases = |result: &serde_json::Value| result["cases"].as_array().map_or(0, Vec::len);
        let count: usize = results.iter().map(cases).sum();
        println!("\n{count} cases of {} subjects, {} failures", results.len(), failures.len());
        let others = others(folder)?;
        if !others.is_empty() {
            println!("not compared: {}", others.join(", "));
        }
    }
    over_tolerance(&failures)
}

fn described(case: &str, failure: &Difference) -> String {
    let Difference { what, found, bound } = failure;
    if *bound == 0.0 {
        return format!("{case}: {what}: it is not so");
    }
    format!("{case}: {what}: {found:.3e} is over {bound:.0e}")
}

/// Table of the differences of each case. Those that only differ in a quoted name, such as of a parameter, are one row
/// with the largest.
fn table(subject: &Subject, cases: &[Case]) -> Table {
    let columns = ["case", "difference", "largest", "at most", "compared"];
    let right = |column: &str| !["case", "difference"].contains(&column);
    let mut table =
        Table::new(columns.map(|name| (name, if right(name) { Align::Right } else { Align::Left })));
    for case in cases {
        let mut groups: Vec<(String, &Difference, usize)> = Vec::new();
        for difference in &case.differences {
            let what: String = without_names(&difference.what).chars().take(WIDEST).collect();
            match groups
                .iter_mut()
                .find(|(known, worst, _)| *known == what && worst.bound == difference.bound)
            {
                Some((_, worst, count)) => {
                    *count += 1;
                    if difference.found > worst.found || difference.found.is_nan() {
                        *worst = difference;
                    }
                }
                None => groups.push((what, difference, 1)),
            }
        }
        for (what, worst, count) in groups {
            let (found, bound) = match worst.bound == 0.0 {
                true => (if worst.passes() { "yes" } else { "no" }.to_owned(), String::new()),
                false => (format!("{:.1e}", worst.found), format!("{:.0e}", worst.bound)),
            };
            table.row([format!("{}/{}", subject.name, case.name), what, found, bound, count.to_string()]);
        }
    }
    table
}

/// A description without the names in backticks and the numbers in it.
fn without_names(what: &str) -> String {
    let unquoted: String = what.split('`').step_by(2).collect();
    let words = unquoted.split_whitespace().filter(|word| word.parse::<usize>().is_err());
    words.collect::<Vec<_>>().join(" ")
}

/// Folders that hold no subject.
fn others(folder: &Path) -> Result<Vec<String>> {
    let folders = crate::platform::storage::list(folder)?.into_iter().filter(|path| path.is_dir());
    let names = folders.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
    Ok(names.filter(|name| name != MODELS && subjects().all(|subject| subject.name != name)).collect())
}

/// Compares the metrics of `kiln score`; each file is a case.
fn metrics(folder: &Path) -> Result<Vec<Case>> {
    let outcomes = kiln_score::fixture::evaluate(folder, &mut std::io::sink());
    let outcomes = outcomes.map_err(|error| broken_metrics(folder, &error))?;
    let case = |outcome: kiln_score::Outcome| {
        let mut case = Case::new(outcome.file);
        let is_equal = outcome.cases > 0 && outcome.equal == outcome.cases;
        case.check(format!("all {} cases are equal", outcome.cases), is_equal);
        case
    };
    Ok(outcomes.into_iter().map(case).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_of_parameters_are_one_row() {
        let mut case = Case::new("llama all");
        case.add("loss", 1e-7, 1e-5);
        case.add("gradient `a.weight`", 1e-6, 1e-4);
        case.add("gradient `b.weight`", 2e-6, 1e-4);
        case.add("loss before AdamW step 1", 1e-6, 1e-4);
        case.add("loss before AdamW step 2", f64::NAN, 1e-4);
        case.check("positions restart", false);
        let subject = Subject { name: "sft", verify: |_, _| Ok(Vec::new()) };
        let text = table(&subject, std::slice::from_ref(&case)).to_string();
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").filter(|c| !c.trim().is_empty()).map(str::trim).collect())
            .collect();
        assert_eq!(rows[2], ["sft/llama all", "gradient", "2.0e-6", "1e-4", "2"]);
        assert_eq!(rows[3], ["sft/llama all", "loss before AdamW step", "NaN", "1e-4", "2"]);
        assert_eq!(rows[4][1..3], ["positions restart", "no"]);
        assert_eq!(
            described("sft/x", &case.differences[4]),
            "sft/x: loss before AdamW step 2: NaN is over 1e-4"
        );
        assert_eq!(described("sft/x", &case.differences[5]), "sft/x: positions restart: it is not so");
    }
}
