//! The report of an experiment: `report.html` in the look of a run's report, `report.md` for pasting, `results.json`.

use super::results::{CellResult, Group, Results};
use crate::{
    cli::{
        plot::{Point, Series, series_svg},
        report::{escape, page_head, push_plot, run_name},
        table::{Align, Table, bytes, duration, short},
    },
    platform::storage,
};
use anyhow::Result;
use std::{fmt::Write, path::Path};

/// Name of the report.
pub const HTML: &str = "report.html";

/// Writes the three files into the folder of the experiment.
pub fn write(results: &Results, folder: &Path) -> Result<()> {
    storage::write_atomic(&folder.join("results.json"), serde_json::to_string_pretty(results)?.as_bytes())?;
    storage::write_atomic(&folder.join("report.md"), markdown(results).as_bytes())?;
    storage::write_atomic(&folder.join("losses.svg"), losses_svg(results, (1200, 700))?.as_bytes())?;
    storage::write_atomic(&folder.join(HTML), page(results, folder)?.as_bytes())?;
    Ok(())
}

const COLUMNS: [(&str, Align); 9] = [
    ("", Align::Left),
    ("final loss", Align::Right),
    ("validation", Align::Right),
    ("apart by at most", Align::Right),
    ("from step", Align::Right),
    ("tokens/s", Align::Right),
    ("first step", Align::Right),
    ("memory", Align::Right),
    ("device", Align::Left),
];

/// The table that the command prints, one row for each label.
pub fn table(results: &Results) -> Table {
    let mut table = Table::new(COLUMNS);
    for row in rows(results) {
        table.row(row);
    }
    table
}

fn rows(results: &Results) -> Vec<[String; 9]> {
    let row = |group: &Group| {
        let cells: Vec<&CellResult> = results.cells.iter().filter(|cell| cell.label == group.label).collect();
        let mean = |of: &dyn Fn(&CellResult) -> Option<f64>| {
            let all: Vec<f64> = cells.iter().filter_map(|cell| of(cell)).collect();
            (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
        };
        let final_loss = match (group.final_loss, group.final_loss_deviation) {
            (Some(mean), Some(deviation)) => format!("{mean:.4} ± {deviation:.4}"),
            (Some(mean), None) => format!("{mean:.4}"),
            _ => "–".into(),
        };
        let differences = || cells.iter().filter_map(|cell| cell.difference.as_ref());
        let largest = differences().map(|d| d.largest).fold(None, |most: Option<f32>, d| {
            Some(most.map_or(d, |most| if d > most || d.is_nan() { d } else { most }))
        });
        let from = differences().filter_map(|d| d.first_step_over).min();
        [
            group.label.clone(),
            final_loss,
            mean(&|cell| cell.validation_loss).map_or("–".into(), |loss| format!("{loss:.4}")),
            largest.map_or("–".into(), |largest| format!("{largest:.1e}")),
            from.map_or("–".into(), |step| step.to_string()),
            mean(&|cell| cell.tokens_per_second).map_or("–".into(), short),
            mean(&|cell| cell.seconds_to_first_step).map_or("–".into(), duration),
            mean(&|cell| cell.peak_memory_bytes.map(|size| size as f64))
                .map_or("–".into(), |size| bytes(size as u64)),
            cells
                .iter()
                .map(|cell| cell.description.clone())
                .find(|text| !text.is_empty())
                .unwrap_or_default(),
        ]
    };
    results.groups.iter().map(row).collect()
}

fn markdown(results: &Results) -> String {
    let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    let mut text = table(results).markdown();
    let _ = writeln!(
        text,
        "\nApart: the largest difference of a training loss from the first row's, and the first step at which it \
         passes {:.0e}.",
        results.bound
    );
    for group in results.groups.iter().filter(|group| !group.changed.is_empty()) {
        let changed = group.changed.iter().map(|(key, from, to)| format!("`{key}` {from} → {to}"));
        let _ = writeln!(text, "- {}: {}", cell(&group.label), changed.collect::<Vec<_>>().join(", "));
    }
    for note in &results.notes {
        let _ = writeln!(text, "- {note}");
    }
    text
}

fn points(pairs: &[(u64, f32)]) -> Vec<Point> {
    pairs.iter().map(|(step, value)| (*step as f64, f64::from(*value))).collect()
}

/// One series a label, one curve a seed.
fn series(results: &Results, curve: impl Fn(&CellResult) -> Vec<Point>) -> Vec<Series> {
    let of = |group: &Group| Series {
        label: group.label.clone(),
        curves: results.cells.iter().filter(|cell| cell.label == group.label).map(&curve).collect(),
    };
    results.groups.iter().map(of).collect()
}

fn losses_svg(results: &Results, size: (u32, u32)) -> Result<String> {
    series_svg(&series(results, |cell| points(&cell.losses)), "", "loss (nats per token)", size)
}

fn page(results: &Results, folder: &Path) -> Result<String> {
    let mut html = page_head(&run_name(folder), "kiln compare");
    for note in &results.notes {
        let _ = writeln!(html, "<p>{}</p>", escape(note));
    }
    html.push_str("<h2>Loss</h2>\n");
    push_plot(&mut html, "plot wide", "Loss over steps", &losses_svg(results, (1100, 560))?);
    push_plot(&mut html, "plot narrow", "Loss over steps", &losses_svg(results, (560, 480))?);
    html += &table(results).html();
    let _ = writeln!(
        html,
        "<p>Apart: the largest difference of a training loss from the first row's, and the first step at which it passes \
         {:.0e}.</p>",
        results.bound
    );
    html.push_str("<div class=\"pair\">\n");
    let apart = series(results, |cell| {
        cell.difference.as_ref().map_or_else(Vec::new, |difference| {
            let sizes = difference.by_step.iter().map(|(step, apart)| (*step as f64, f64::from(apart.abs())));
            sizes.collect()
        })
    });
    let title = "difference of losses from the first row's";
    push_plot(&mut html, "plot", title, &series_svg(&apart, title, "", (540, 300))?);
    let norms = series(results, |cell| points(&cell.grad_norms));
    push_plot(&mut html, "plot", "gradient norm", &series_svg(&norms, "gradient norm", "", (540, 300))?);
    html.push_str("</div>\n");
    push_changes(&mut html, results);
    html.push_str("</main>\n</body>\n</html>\n");
    Ok(html)
}

fn push_changes(html: &mut String, results: &Results) {
    if results.groups.iter().all(|group| group.changed.is_empty()) {
        return;
    }
    html.push_str(
        "<h2>Configuration</h2>\n<table>\n<tr><th></th><th>key</th><th>first row</th><th>here</th></tr>\n",
    );
    for group in &results.groups {
        for (key, from, to) in &group.changed {
            let cells = [&group.label, key, from, to].map(|text| format!("<td>{}</td>", escape(text)));
            let _ = writeln!(html, "<tr>{}</tr>", cells.concat());
        }
    }
    html.push_str("</table>\n");
}
