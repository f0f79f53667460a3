//! Comparison of found numbers with expected ones, case by case.

use serde_json::Value;
use std::io::Write;

/// Largest difference to an expected number, relative to it if it exceeds 1.
const TOLERANCE: f64 = 1e-6;

/// Numbers of cases of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    pub file: &'static str,
    pub cases: usize,
    pub equal: usize,
}

/// Comparison of a file, which writes a line for each case.
pub(crate) struct Report<'a> {
    pub(crate) out: &'a mut dyn Write,
    pub(crate) outcome: Outcome,
}

impl Report<'_> {
    /// Compares all that is expected under a name. Inputs are skipped.
    pub(crate) fn compare(&mut self, name: &str, found: &Value, expected: &Value) {
        match (found, expected) {
            (Value::Object(found), Value::Object(expected)) => {
                for (key, value) in expected {
                    match found.get(key) {
                        Some(found) => self.compare(&format!("{name}.{key}"), found, value),
                        None if INPUTS.contains(&key.as_str()) => {}
                        None => self.compare(&format!("{name}.{key}"), &Value::Null, value),
                    }
                }
            }
            (Value::Array(found), Value::Array(expected)) if found.len() == expected.len() => {
                for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
                    self.compare(&format!("{name}[{index}]"), found, expected);
                }
            }
            _ => {
                let is_equal = match (found.as_f64(), expected.as_f64()) {
                    (Some(a), Some(b)) => (a - b).abs() <= TOLERANCE * b.abs().max(1.0),
                    _ => found == expected,
                };
                self.outcome.cases += 1;
                self.outcome.equal += usize::from(is_equal);
                let verdict = if is_equal { "ok    " } else { "FAILED" };
                // A closed pipe does not change the result.
                let _ = writeln!(self.out, "{verdict} {name}: found {found}, expected {expected}");
            }
        }
    }
}

/// Keys of a file that are inputs of the metrics.
const INPUTS: [&str; 13] = [
    "group",
    "name",
    "hypothesis",
    "hypotheses",
    "references",
    "reference_streams",
    "prediction",
    "answers",
    "truth",
    "predicted",
    "choices",
    "loglikelihoods",
    "gold",
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_different_or_unknown_number_is_a_failed_case() {
        let mut out = Vec::new();
        let mut report = Report { out: &mut out, outcome: Outcome::default() };
        report.compare(
            "x",
            &json!({ "a": 1.0, "b": [1, 2], "c": "y" }),
            &json!({ "a": 1.0000001, "b": [1, 2.1], "c": "y", "new": 0, "gold": 7 }),
        );
        assert_eq!((report.outcome.cases, report.outcome.equal), (5, 3));
        let out = String::from_utf8(out).unwrap();
        assert!(out.contains("FAILED x.b[1]: found 2, expected 2.1\n"), "{out}");
        assert!(out.contains("FAILED x.new: found null, expected 0\n"), "{out}");
    }
}
