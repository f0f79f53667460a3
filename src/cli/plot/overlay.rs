//! Curves of several runs on one picture: a line each, and a band over the runs of one series.

use super::{
    DRAWN_POINTS, Pen, Point,
    curves::{clip, last_step, quantile, thin_out, values},
    drawing_error, legend, load_font,
    palette::{GRID, PAPER, SERIES, UNIFORM},
    step_labels, svg, tick,
};
use crate::cli::table::grouped;
use anyhow::Result;
use plotters::{coord::Shift, prelude::*};
use std::collections::BTreeMap;

/// Curves that belong together, such as those of several seeds.
pub struct Series {
    pub label: String,
    pub curves: Vec<Vec<Point>>,
}

impl Series {
    /// Mean, lowest and highest value at each step at which a curve has a finite one.
    fn summary(&self) -> [Vec<Point>; 3] {
        let mut at = BTreeMap::<u64, Vec<f64>>::new();
        for &(step, value) in self.curves.iter().flatten().filter(|point| point.1.is_finite()) {
            at.entry(step as u64).or_default().push(value);
        }
        let of = |value: fn(&[f64]) -> f64| at.iter().map(|(&step, all)| (step as f64, value(all))).collect();
        [
            of(|all| all.iter().sum::<f64>() / all.len() as f64),
            of(|all| all.iter().copied().fold(f64::INFINITY, f64::min)),
            of(|all| all.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
        ]
    }
}

/// Draws series over the steps as SVG. With an empty title or name of the axis there is no line for it.
pub fn series_svg(series: &[Series], title: &str, axis: &str, size: (u32, u32)) -> Result<String> {
    svg(size, |area| draw(area, series, title, axis))
}

fn draw<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    series: &[Series],
    title: &str,
    axis: &str,
) -> Result<()> {
    load_font()?;
    let pen = Pen(1.0);
    area.fill(&PAPER).map_err(drawing_error)?;
    let all: Vec<&[Point]> = series.iter().flat_map(|one| &one.curves).map(Vec::as_slice).collect();
    let x_end = last_step(&all);
    let limit = |q: f64| quantile(all.iter().flat_map(|points| values(points)), q);
    let (low, high) = (limit(0.0).unwrap_or(0.0), limit(0.99).unwrap_or(1.0));
    let margin = (0.05 * (high - low)).max(1e-9).max(1e-3 * high.abs());
    let (bottom, top) = ((low - margin).max(0.0).min(low), high + margin);
    let mut builder = ChartBuilder::on(area);
    builder.margin(8).margin_right(24).x_label_area_size(48).y_label_area_size(72);
    if !title.is_empty() {
        builder.caption(title, pen.text(16.0));
    }
    let mut chart = builder.build_cartesian_2d(0.0..x_end, bottom..top).map_err(drawing_error)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(UNIFORM)
        .x_labels(step_labels(x_end, area))
        .y_labels(6)
        .x_label_formatter(&|step| grouped(step.round() as u64))
        .y_label_formatter(&|value| tick(*value, top - bottom))
        .x_desc("step")
        .y_desc(axis)
        .label_style(pen.text(14.0))
        .draw()
        .map_err(drawing_error)?;
    for (one, color) in series.iter().zip(SERIES.iter().cycle()) {
        let [mean, lowest, highest] = one.summary().map(|points| thin_out(&points, DRAWN_POINTS));
        if one.curves.len() > 1 {
            let up = lowest.iter().map(|&(step, value)| (step, value.min(top)));
            let down = highest.iter().rev().map(|&(step, value)| (step, value.min(top)));
            let band: Vec<Point> = up.chain(down).collect();
            chart.draw_series([Polygon::new(band, color.mix(0.18))]).map_err(drawing_error)?;
        }
        let line = pen.line(*color, 2.0);
        for piece in clip(&mean, top) {
            chart.draw_series(LineSeries::new(piece, line)).map_err(drawing_error)?;
        }
        if mean.is_empty() {
            continue;
        }
        chart
            .draw_series(LineSeries::new(std::iter::empty(), line))
            .map_err(drawing_error)?
            .label(one.label.clone())
            .legend(move |at| EmptyElement::at(at) + pen.dash(0.0, 22.0, line));
    }
    legend(&mut chart)?;
    area.present().map_err(drawing_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_of_several_curves_has_a_band() {
        let series = |curves: Vec<Vec<Point>>| Series { label: "cpu & <b>".into(), curves };
        let one = series(vec![vec![(1.0, 3.0), (2.0, 2.0)]]);
        let svg = series_svg(&[one], "", "loss", (400, 300)).unwrap();
        assert!(svg.contains("cpu &amp; &lt;b&gt;") && !svg.contains("<polygon"), "{svg}");
        let two = series(vec![vec![(1.0, 3.0), (2.0, 2.0)], vec![(1.0, 3.5), (2.0, f64::NAN)]]);
        assert_eq!(two.summary()[0], [(1.0, 3.25), (2.0, 2.0)]);
        assert!(series_svg(&[two], "", "loss", (400, 300)).unwrap().contains("<polygon"));
        assert!(series_svg(&[series(Vec::new())], "title", "", (400, 300)).unwrap().contains("title"));
    }
}
