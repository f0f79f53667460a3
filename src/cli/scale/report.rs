//! The report of a sweep: `report.html` in the look of a run's report, `report.md` for pasting, and the same on the
//! terminal.

use super::{
    laws::{self, significant},
    outcome::{Outcome, SweepRun, Verification},
};
use crate::{
    cli::{
        plot::{Marks, Point, scatter_svg},
        report::{escape, page_head, push_plot, run_name},
        table::{Align, Table, duration, grouped},
    },
    platform::storage,
};
use anyhow::Result;
use kiln_scale::{advice::Advice, law::Law};
use std::{fmt::Write, path::Path};

/// Name of the report.
pub const HTML: &str = "report.html";
/// Points of a drawn law.
const DRAWN: usize = 60;

/// A part of the report: a heading, lines of text, and a table.
struct Part {
    heading: &'static str,
    lines: Vec<String>,
    table: Option<Table>,
}

/// Writes the report into the folder of the sweep.
///
/// # Errors
/// An error if the folder cannot be written.
pub fn write(outcome: &Outcome, folder: &Path) -> Result<()> {
    storage::write_atomic(&folder.join("report.md"), markdown(outcome).as_bytes())?;
    storage::write_atomic(&folder.join(HTML), page(outcome, folder)?.as_bytes())?;
    Ok(())
}

/// The report on a terminal; notes are shown beside it.
pub fn text(outcome: &Outcome) -> String {
    let mut text = String::new();
    for Part { heading, lines, table } in parts(outcome) {
        let _ = writeln!(text, "{heading}");
        let table = table.map_or_else(String::new, |table| table.to_string());
        for line in lines.iter().map(String::as_str).chain(table.lines()) {
            let _ = writeln!(text, "  {line}");
        }
        text.push('\n');
    }
    text
}

fn markdown(outcome: &Outcome) -> String {
    let mut text = String::new();
    for Part { heading, lines, table } in parts(outcome) {
        let table = table.map_or_else(String::new, |table| table.markdown() + "\n");
        let lines: String = lines.iter().map(|line| format!("{line}\n\n")).collect();
        let _ = write!(text, "## {heading}\n\n{lines}{table}");
    }
    text.extend(outcome.notes.iter().map(|note| format!("- {note}\n")));
    text
}

fn page(outcome: &Outcome, folder: &Path) -> Result<String> {
    let mut html = page_head(&run_name(folder), "kiln scale");
    let paragraph = |text: &String| format!("<p>{}</p>\n", escape(text));
    html.extend(outcome.notes.iter().map(paragraph));
    for (heading, [x, y], marks) in [
        ("Loss over size", ["parameters N", "loss (nats per token)"], by_size(outcome)),
        ("Loss over compute", ["compute C = 6 N D (FLOPs)", "loss (nats per token)"], by_compute(outcome)),
    ] {
        let _ = writeln!(html, "<h2>{heading}</h2>");
        push_plot(&mut html, "plot wide", heading, &scatter_svg(&marks, [x, y], (1100, 560))?);
        push_plot(&mut html, "plot narrow", heading, &scatter_svg(&marks, [x, y], (560, 480))?);
    }
    for Part { heading, lines, table } in parts(outcome) {
        let _ = writeln!(html, "<h2>{heading}</h2>");
        html.extend(lines.iter().map(paragraph));
        html.extend(table.iter().map(Table::html));
    }
    html.push_str("</main>\n</body>\n</html>\n");
    Ok(html)
}

fn parts(outcome: &Outcome) -> Vec<Part> {
    let mut parts = vec![runs(outcome)];
    if let Some(fit) = &outcome.fit {
        parts.push(Part {
            heading: "Law",
            lines: vec![laws::fit_text(fit)],
            table: Some(laws::fit_table(fit, outcome.intervals.as_ref())),
        });
    }
    if let Some(found) = &outcome.isoflop {
        let lines = laws::isoflop_text(found).lines().map(str::to_owned).collect();
        parts.push(Part {
            heading: "Best sizes by parabolas",
            lines,
            table: Some(laws::isoflop_table(found)),
        });
    }
    if !outcome.kaplan.is_empty() {
        let lines = outcome.kaplan.iter().map(laws::kaplan_text).collect();
        parts.push(Part { heading: "Kaplan's laws", lines, table: None });
    }
    parts.extend(outcome.optima.iter().map(advice));
    if !outcome.predictions.is_empty() {
        let line = |prediction: &kiln_scale::advice::Prediction| {
            let notes: String = prediction.notes.iter().map(|note| format!("; {note}")).collect();
            format!("{}: loss {}{notes}", prediction.name, laws::estimate(&prediction.loss))
        };
        let lines = outcome.predictions.iter().map(line).collect();
        parts.push(Part { heading: "Predictions", lines, table: None });
    }
    parts.extend(outcome.verification.as_ref().map(verification));
    parts
}

fn runs(outcome: &Outcome) -> Part {
    let columns = ["budget", "layers", "width", "N", "D", "D/N", "FLOPs", "loss", "law", "apart", "time"];
    let mut table = Table::new(columns.map(|name| (name, Align::Right)));
    for run in &outcome.runs {
        let law = outcome.fit.as_ref().map(|fit| fit.law.loss(run.parameters as f64, run.tokens as f64));
        let apart = law.zip(run.loss).map(|(law, loss)| law / loss - 1.0);
        table.row([
            run.budget.to_string(),
            run.layers.to_string(),
            run.width.to_string(),
            grouped(run.parameters),
            grouped(run.tokens),
            format!("{:.1}", run.tokens as f64 / run.parameters as f64),
            significant(run.flops),
            shown(run.loss),
            shown(law),
            apart.map_or_else(|| "–".into(), percent),
            duration(run.seconds),
        ]);
    }
    let counted = laws::counted(outcome.embeddings);
    let line = format!(
        "N is counted {counted} embeddings, D in trained tokens, of which the training split has {} different ones; the loss \
         is that of the validation split in nats per token of a vocabulary of {}",
        grouped(outcome.train_tokens as u64),
        grouped(outcome.vocabulary as u64)
    );
    Part { heading: "Runs", lines: vec![line], table: Some(table) }
}

fn advice(advice: &Advice) -> Part {
    let mut table = Table::new([("", Align::Left), ("", Align::Left)]);
    for (name, value) in laws::advice_rows(advice) {
        table.row([name.to_owned(), value]);
    }
    let lines = std::iter::once(format!("{} FLOPs", significant(advice.budget)));
    Part {
        heading: "Best size for a budget",
        lines: lines.chain(advice.notes.iter().cloned()).collect(),
        table: Some(table),
    }
}

fn verification(verification: &Verification) -> Part {
    let Verification { run, prediction, relative_error } = verification;
    let mut lines = vec![format!(
        "{}, {} layers of width {}: {} FLOPs",
        prediction.name,
        run.layers,
        run.width,
        significant(run.flops)
    )];
    lines.push(format!("predicted from the runs above: loss {}", laws::estimate(&prediction.loss)));
    lines.push(match (run.loss, relative_error) {
        (Some(loss), Some(error)) => {
            format!(
                "then trained in {}: loss {loss:.4}, the prediction is {} off",
                duration(run.seconds),
                percent(*error)
            )
        }
        _ => "not trained yet".into(),
    });
    lines.extend(prediction.notes.iter().cloned());
    Part { heading: "A larger run", lines, table: None }
}

fn shown(loss: Option<f64>) -> String {
    loss.map_or_else(|| "–".into(), |loss| format!("{loss:.4}"))
}

fn percent(share: f64) -> String {
    format!("{:+.2} %", 100.0 * share)
}

/// A law's line over values from `low` to `high`, evenly spaced by their logarithms.
fn line(low: f64, high: f64, loss: impl Fn(f64) -> f64) -> Vec<Point> {
    let value = |index: usize| low * (high / low).powf(index as f64 / (DRAWN - 1) as f64);
    (0..DRAWN).map(value).map(|value| (value, loss(value))).collect()
}

/// One group a budget, with the line of the law at its compute.
fn by_size(outcome: &Outcome) -> Vec<Marks> {
    let budgets = outcome.runs.iter().map(|run| run.budget).max().unwrap_or(0);
    let of = |budget: usize| {
        let runs: Vec<&SweepRun> = outcome.runs.iter().filter(|run| run.budget == budget).collect();
        let compute = runs.iter().map(|run| run.flops).sum::<f64>() / runs.len().max(1) as f64;
        let points: Vec<Point> =
            runs.iter().filter_map(|run| Some((run.parameters as f64, run.loss?))).collect();
        let law = outcome.fit.as_ref().map(|fit| fit.law);
        let drawn = |law: Law| {
            let sizes = runs.iter().map(|run| run.parameters as f64);
            let (low, high) = (sizes.clone().fold(f64::INFINITY, f64::min), sizes.fold(0.0, f64::max));
            line(low, high, |size| law.loss(size, compute / (6.0 * size)))
        };
        Marks {
            label: format!("{} FLOPs", significant(compute)),
            points,
            line: law.map_or_else(Vec::new, drawn),
        }
    };
    (1..=budgets).map(of).collect()
}

/// All runs, the law's best loss of each compute, and the larger run.
fn by_compute(outcome: &Outcome) -> Vec<Marks> {
    let points: Vec<Point> = outcome.runs.iter().filter_map(|run| Some((run.flops, run.loss?))).collect();
    let larger = outcome.verification.as_ref();
    let most = larger.map_or(0.0, |larger| larger.run.flops);
    let mut marks = vec![Marks { label: "runs".into(), points, line: Vec::new() }];
    if let Some(fit) = &outcome.fit {
        let [low, high] = fit.extent.compute;
        let best = |compute: f64| {
            let best = fit.law.optimum(compute);
            fit.law.loss(best.parameters, best.tokens)
        };
        let line = line(low, high.max(most), best);
        marks.push(Marks { label: "the law's best".into(), points: Vec::new(), line });
    }
    if let Some(larger) = larger {
        let compute = larger.run.flops;
        let predicted = vec![(compute, larger.prediction.loss.value)];
        marks.push(Marks { label: "larger run, predicted".into(), points: predicted, line: Vec::new() });
        let points: Vec<Point> = larger.run.loss.map(|loss| (compute, loss)).into_iter().collect();
        marks.push(Marks { label: "larger run, trained".into(), points, line: Vec::new() });
    }
    marks
}
