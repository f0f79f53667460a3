//! Points of several groups over a logarithmic axis, with a line for each group.

use super::{
    Pen, Point, drawing_error, legend, load_font,
    palette::{GRID, PAPER, SERIES, UNIFORM},
    svg, tick,
};
use anyhow::Result;
use plotters::{coord::Shift, prelude::*};

/// Points and a line that belong together. Either may be empty. The first number of a point is above 0.
pub struct Marks {
    pub label: String,
    pub points: Vec<Point>,
    pub line: Vec<Point>,
}

/// Draws marks over a logarithmic x axis as SVG. `axes` are the names of x and y.
pub fn scatter_svg(marks: &[Marks], axes: [&str; 2], size: (u32, u32)) -> Result<String> {
    svg(size, |area| draw(area, marks, axes))
}

/// A finite point at the logarithm of its x.
fn place(&(x, y): &Point) -> Option<Point> {
    let place = (x.log10(), y);
    (place.0.is_finite() && y.is_finite()).then_some(place)
}

/// Range of values, with a margin.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (value.min(low), value.max(high)));
    match low <= high {
        true => {
            let margin = (0.05 * (high - low)).max(1e-3 * high.abs()).max(1e-9);
            (low - margin, high + margin)
        }
        false => (0.0, 1.0),
    }
}

fn draw<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    marks: &[Marks],
    [x_name, y_name]: [&str; 2],
) -> Result<()> {
    load_font()?;
    let pen = Pen(1.0);
    area.fill(&PAPER).map_err(drawing_error)?;
    let all: Vec<Point> =
        marks.iter().flat_map(|one| one.points.iter().chain(&one.line)).filter_map(place).collect();
    let (left, right) = range(all.iter().map(|point| point.0));
    let (bottom, top) = range(all.iter().map(|point| point.1));
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(24)
        .x_label_area_size(48)
        .y_label_area_size(72)
        .build_cartesian_2d(left..right, bottom..top)
        .map_err(drawing_error)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(UNIFORM)
        .x_labels(if area.dim_in_pixel().0 < 700 { 4 } else { 8 })
        .y_labels(6)
        .x_label_formatter(&|x| format!("{:.1e}", 10f64.powf(*x)))
        .y_label_formatter(&|value| tick(*value, top - bottom))
        .x_desc(x_name)
        .y_desc(y_name)
        .label_style(pen.text(14.0))
        .draw()
        .map_err(drawing_error)?;
    for (one, &color) in marks.iter().zip(SERIES.iter().cycle()) {
        let line = pen.line(color, 2.0);
        let dot = move |at| Circle::new(at, pen.px(4.0), color.filled());
        chart.draw_series(LineSeries::new(one.line.iter().filter_map(place), line)).map_err(drawing_error)?;
        let dots = chart.draw_series(one.points.iter().filter_map(place).map(dot)).map_err(drawing_error)?;
        let (has_line, has_points) = (!one.line.is_empty(), !one.points.is_empty());
        if !(has_line || has_points) {
            continue;
        }
        dots.label(one.label.clone()).legend(move |at| {
            let length = if has_line { 22.0 } else { 0.0 };
            let radius = if has_points { pen.px(4.0) } else { 0 };
            EmptyElement::at(at)
                + pen.dash(0.0, length, line)
                + Circle::new((pen.px(11.0), 0), radius, color.filled())
        });
    }
    legend(&mut chart)?;
    area.present().map_err(drawing_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_and_lines_are_drawn_and_what_has_no_logarithm_is_not() {
        let points = vec![(1e4, 2.0), (0.0, 1.0), (1e6, f64::NAN)];
        let marks = [
            Marks { label: "budget < 1".into(), points, line: vec![(1e4, 2.1), (1e5, 1.9)] },
            Marks { label: "nothing".into(), points: Vec::new(), line: Vec::new() },
        ];
        let svg = scatter_svg(&marks, ["N", "loss"], (500, 300)).unwrap();
        // One in the picture and one in the legend.
        assert_eq!(svg.matches("<circle").count(), 2, "{svg}");
        assert!(svg.contains("budget &lt; 1") && !svg.contains("nothing"), "{svg}");
        assert!(scatter_svg(&[], ["", ""], (300, 200)).is_ok());
    }
}
