//! Laws and advice as text and tables, for the terminal and the report.

use crate::cli::table::{Align, Table};
use kiln_scale::{
    advice::{Advice, Estimate},
    bootstrap::{Interval, LawIntervals},
    fit::Fit,
    isoflop::IsoFlop,
    kaplan::PowerLaw,
};
use std::fmt::Write;

/// Whether N includes embeddings, in a word.
pub fn counted(embeddings: bool) -> &'static str {
    if embeddings { "with" } else { "without" }
}

/// Name of a run by its size.
pub fn size_name(parameters: f64, tokens: f64) -> String {
    format!("N = {}, D = {}", significant(parameters), significant(tokens))
}

/// The kind of law, and how far the runs are from it.
pub fn fit_text(fit: &Fit) -> String {
    format!(
        "L(N, D) = E + A/N^alpha + B/D^beta over {} runs, {:.2} % apart",
        fit.runs,
        100.0 * fit.relative_error
    )
}

/// The five numbers of a law, with their intervals.
pub fn fit_table(fit: &Fit, intervals: Option<&LawIntervals>) -> Table {
    let law = &fit.law;
    let rows = [
        ("E", law.e, intervals.map(|i| i.e)),
        ("A", law.a, intervals.map(|i| i.a)),
        ("alpha", law.alpha, intervals.map(|i| i.alpha)),
        ("B", law.b, intervals.map(|i| i.b)),
        ("beta", law.beta, intervals.map(|i| i.beta)),
    ];
    let mut table = Table::new([("", Align::Left), ("", Align::Right), ("", Align::Left)]);
    for (name, value, interval) in rows {
        table.row([name.to_owned(), format!("{value:.4}"), interval.map_or_else(String::new, between)]);
    }
    table
}

/// Names and values of the best sizes for a budget.
pub fn advice_rows(advice: &Advice) -> [(&'static str, String); 4] {
    [
        ("parameters", estimate(&advice.parameters)),
        ("tokens", estimate(&advice.tokens)),
        ("tokens per parameter", estimate(&advice.tokens_per_parameter)),
        ("loss", estimate(&advice.loss)),
    ]
}

/// The minimum of each budget.
pub fn isoflop_table(found: &IsoFlop) -> Table {
    let columns = ["budget", "runs", "best parameters", "best tokens", "loss"];
    let mut table = Table::new(columns.map(|name| (name, Align::Right)));
    for group in &found.minima {
        let [compute, parameters, tokens] = [group.compute, group.parameters, group.tokens].map(significant);
        table.row([compute, group.runs.to_string(), parameters, tokens, format!("{:.4}", group.loss)]);
    }
    table
}

/// Groups without a minimum, and the power laws of the best sizes, a line each.
pub fn isoflop_text(found: &IsoFlop) -> String {
    let mut text = String::new();
    for refused in &found.refused {
        let _ = writeln!(text, "left out: {}: {}", refused.name, refused.reason);
    }
    for (name, law) in [("parameters", &found.parameters), ("tokens    ", &found.tokens)] {
        let _ = writeln!(text, "best {name} = {:.3e} C^{:.4}", law.factor, law.exponent);
    }
    text
}

/// A power law of one quantity in a line.
pub fn kaplan_text(law: &PowerLaw) -> String {
    let letter = law.quantity.letter();
    format!(
        "L({letter}) = ({:.3e} / {letter})^{:.4} ± {:.4}, {} runs, {:.2} % apart",
        law.scale,
        law.exponent,
        law.exponent_error,
        law.runs,
        100.0 * law.relative_error
    )
}

/// A number with its interval.
pub fn estimate(estimate: &Estimate) -> String {
    let interval =
        estimate.interval.map_or_else(String::new, |interval| format!("  ({})", between(interval)));
    format!("{}{interval}", significant(estimate.value))
}

fn between(interval: Interval) -> String {
    format!("{} to {}", significant(interval.low), significant(interval.high))
}

/// Formats a number of any size with four significant digits.
pub fn significant(value: f64) -> String {
    match value.abs() {
        0.001..10_000.0 => {
            let decimals = 3 - value.abs().log10().floor().min(3.0) as i32;
            format!("{value:.*}", decimals.max(0) as usize)
        }
        _ => format!("{value:.3e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_four_digits() {
        let shown = [0.0, 0.34567, 1.8172, 406.41, 1.0e11].map(significant);
        assert_eq!(shown, ["0.000e0", "0.3457", "1.817", "406.4", "1.000e11"]);
    }
}
