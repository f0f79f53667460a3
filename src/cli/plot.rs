//! Draws the curves of a run: the loss plot (SVG and PNG) and the small plots of the report.
//!
//! The y axis of the loss plot is fitted to the interesting part of the run: losses far above uniform
//! guessing, as in the first steps after a bad initialization, leave the picture at the top.

mod curves;
mod overlay;
mod scatter;

pub use curves::{Curves, Point};
pub use overlay::{Series, series_svg};
pub use scatter::{Marks, scatter_svg};

use super::table::grouped;
use crate::platform::storage;
use anyhow::{Result, anyhow};
use curves::{clip, last_step, loss_range, quantile, smooth, thin_out, values};
use plotters::{
    coord::{CoordTranslate, Shift, types::RangedCoordf64},
    prelude::*,
    style::{FontStyle, register_font},
};
use std::path::Path;

/// Colours of the pictures. The report replaces them with its own, for light and dark pages.
pub mod palette {
    use plotters::style::RGBColor;

    pub const INK: RGBColor = RGBColor(0x2b, 0x30, 0x3a);
    pub const GRID: RGBColor = RGBColor(0xe3, 0xe6, 0xea);
    pub const PAPER: RGBColor = RGBColor(0xff, 0xff, 0xff);
    pub const TRAIN: RGBColor = RGBColor(0x2f, 0x6f, 0xde);
    pub const VALIDATION: RGBColor = RGBColor(0xe0, 0x5a, 0x1f);
    pub const UNIFORM: RGBColor = RGBColor(0x7d, 0x83, 0x8c);

    /// Lines of several runs, which differ in lightness as well.
    pub const SERIES: [RGBColor; 8] = [
        RGBColor(0x2f, 0x6f, 0xdd),
        RGBColor(0xe0, 0x5a, 0x1e),
        RGBColor(0x1d, 0x8a, 0x5b),
        RGBColor(0xa1, 0x4c, 0xc0),
        RGBColor(0xb8, 0x86, 0x0b),
        RGBColor(0x0f, 0x8f, 0xa8),
        RGBColor(0xc9, 0x2a, 0x5e),
        RGBColor(0x5c, 0x63, 0x70),
    ];
}
use palette::{GRID, INK, PAPER, TRAIN, UNIFORM, VALIDATION};

const FONT: &str = "sans-serif";
/// Maximum number of points that are drawn of a curve.
const DRAWN_POINTS: usize = 1600;
/// Number of points from which on the training loss has a smoothed line.
const SMOOTHED_FROM: usize = 200;
/// Factor by which the PNG is drawn larger and then averaged down, since plotters' own lines are jagged.
const OVERSAMPLING: usize = 2;

/// Draws the loss plot as SVG. With an empty title there is no line for it.
pub fn loss_svg(curves: &Curves, title: &str, size: (u32, u32)) -> Result<String> {
    svg(size, |area| draw_loss(area, curves, title, Pen(1.0)))
}

/// Writes the loss plot as a PNG of `size` pixels.
pub fn write_loss_png(curves: &Curves, title: &str, (width, height): (u32, u32), path: &Path) -> Result<()> {
    let factor = OVERSAMPLING;
    let (large_width, large_height) = (width * factor as u32, height * factor as u32);
    let mut large = vec![0; 3 * large_width as usize * large_height as usize];
    let area = BitMapBackend::with_buffer(&mut large, (large_width, large_height)).into_drawing_area();
    draw_loss(&area, curves, title, Pen(factor as f64))?;
    drop(area);

    let small = shrink(&large, width as usize, factor);
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(&small)?;
    Ok(storage::write_atomic(path, &bytes)?)
}

/// Draws a small plot of one or several curves as SVG.
pub fn curve_svg(curves: &[Vec<Point>], title: &str, size: (u32, u32)) -> Result<String> {
    svg(size, |area| draw_curves(area, curves, title))
}

fn svg(size: (u32, u32), draw: impl Fn(&DrawingArea<SVGBackend<'_>, Shift>) -> Result<()>) -> Result<String> {
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
    draw(&area)?;
    drop(area);
    Ok(text)
}

fn drawing_error(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw the plot: {error}")
}

/// Averages squares of `factor` × `factor` RGB pixels. `width` is that of the result, in pixels.
fn shrink(large: &[u8], width: usize, factor: usize) -> Vec<u8> {
    let large_row = 3 * width * factor;
    let count = (factor * factor) as u32;
    let mut small = Vec::with_capacity(large.len() / (factor * factor));
    for rows in large.chunks_exact(large_row * factor) {
        for x in 0..width {
            for channel in 0..3 {
                let pixels = (0..factor * factor)
                    .map(|i| rows[i / factor * large_row + 3 * (x * factor + i % factor) + channel] as u32);
                small.push(((pixels.sum::<u32>() + count / 2) / count) as u8);
            }
        }
    }
    small
}

fn load_font() -> Result<()> {
    register_font(FONT, FontStyle::Normal, include_bytes!("../../assets/font.ttf"))
        .map_err(|_| anyhow!("the embedded font `assets/font.ttf` cannot be read"))
}

/// Scale of a picture that is drawn larger: it scales widths and text sizes by its factor.
#[derive(Clone, Copy)]
struct Pen(f64);

impl Pen {
    fn px(self, value: f64) -> i32 {
        (value * self.0).round() as i32
    }

    fn line(self, color: impl Color, width: f64) -> ShapeStyle {
        color.stroke_width(self.px(width).max(1) as u32)
    }

    fn text(self, size: f64) -> TextStyle<'static> {
        (FONT, size * self.0).into_font().color(&INK)
    }

    /// Draws a piece of a legend's line, from `start` to `end` of its 22 pixels.
    fn dash(self, start: f64, end: f64, style: ShapeStyle) -> PathElement<(i32, i32)> {
        PathElement::new(vec![(self.px(start), 0), (self.px(end), 0)], style)
    }
}

type Chart<'a, DB> = ChartContext<'a, DB, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Draws training loss, validation loss, the best evaluation and the uniform reference.
fn draw_loss<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    curves: &Curves,
    title: &str,
    pen: Pen,
) -> Result<()> {
    load_font()?;
    area.fill(&PAPER).map_err(drawing_error)?;
    let x_end = last_step(&[&curves.train_loss, &curves.val_loss]);
    let (bottom, top) = loss_range(curves);
    let mut builder = ChartBuilder::on(area);
    builder.margin(pen.px(16.0)).margin_right(pen.px(28.0));
    builder.x_label_area_size(pen.px(56.0)).y_label_area_size(pen.px(64.0));
    if !title.is_empty() {
        builder.caption(title, pen.text(22.0));
    }
    let mut chart = builder.build_cartesian_2d(0.0..x_end, bottom..top).map_err(drawing_error)?;
    let decimals = if top - bottom < 1.0 { 2 } else { 1 };
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(pen.line(GRID, 1.0))
        .axis_style(pen.line(UNIFORM, 1.0))
        .x_labels(step_labels(x_end, area))
        .y_labels(8)
        .x_label_formatter(&|step| grouped(step.round() as u64))
        .y_label_formatter(&|loss| format!("{loss:.decimals$}"))
        .x_desc("step")
        .y_desc("loss (nats per token)")
        .label_style(pen.text(15.0))
        .axis_desc_style(pen.text(16.0))
        .draw()
        .map_err(drawing_error)?;

    if let Some(loss) = curves.uniform_loss.filter(|loss| (bottom..=top).contains(loss)) {
        draw_uniform(&mut chart, loss, x_end, pen)?;
    }
    draw_training(&mut chart, &curves.train_loss, top, pen)?;
    draw_validation(&mut chart, curves, top, pen)?;

    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .margin(pen.px(12.0))
        .legend_area_size(pen.px(32.0))
        .label_font(pen.text(15.0))
        .background_style(PAPER.filled())
        .border_style(GRID)
        .draw()
        .map_err(drawing_error)?;
    area.present().map_err(drawing_error)
}

fn draw_uniform<'a, DB: DrawingBackend + 'a>(
    chart: &mut Chart<'a, DB>,
    loss: f64,
    x_end: f64,
    pen: Pen,
) -> Result<()> {
    let style = pen.line(UNIFORM, 1.5);
    let ends = [(0.0, loss), (x_end, loss)];
    chart
        .draw_series(DashedLineSeries::new(ends, pen.px(8.0), pen.px(6.0), style))
        .map_err(drawing_error)?
        .label(format!("uniform guessing {loss:.4}"))
        .legend(move |at| EmptyElement::at(at) + pen.dash(0.0, 8.0, style) + pen.dash(14.0, 22.0, style));
    Ok(())
}

fn draw_training<'a, DB: DrawingBackend + 'a>(
    chart: &mut Chart<'a, DB>,
    points: &[Point],
    top: f64,
    pen: Pen,
) -> Result<()> {
    if points.is_empty() {
        return Ok(());
    }
    let is_smoothed = points.len() > SMOOTHED_FROM;
    let line = pen.line(TRAIN, 2.0);
    let raw_line = if is_smoothed { pen.line(TRAIN.mix(0.35), 1.0) } else { line };
    for piece in clip(&thin_out(points, DRAWN_POINTS), top) {
        chart.draw_series(LineSeries::new(piece, raw_line)).map_err(drawing_error)?;
    }
    let smoothed = if is_smoothed { smooth(points, top) } else { Vec::new() };
    for piece in clip(&thin_out(&smoothed, DRAWN_POINTS), top) {
        chart.draw_series(LineSeries::new(piece, line)).map_err(drawing_error)?;
    }
    // The curve may be in several pieces, or none: the legend has a series of its own.
    chart
        .draw_series(LineSeries::new(std::iter::empty(), line))
        .map_err(drawing_error)?
        .label(if is_smoothed { "training (smoothed)" } else { "training" })
        .legend(move |at| EmptyElement::at(at) + pen.dash(0.0, 22.0, line));
    Ok(())
}

fn draw_validation<'a, DB: DrawingBackend + 'a>(
    chart: &mut Chart<'a, DB>,
    curves: &Curves,
    top: f64,
    pen: Pen,
) -> Result<()> {
    let line = pen.line(VALIDATION, 2.0);
    let dot = move |x| Circle::new((pen.px(x), 0), pen.px(3.5), VALIDATION.filled());
    for piece in clip(&curves.val_loss, top) {
        chart.draw_series(LineSeries::new(piece, line)).map_err(drawing_error)?;
    }
    let visible = curves.val_loss.iter().filter(|point| point.1 <= top);
    let dots =
        chart.draw_series(visible.map(|&point| EmptyElement::at(point) + dot(0.0))).map_err(drawing_error)?;
    let Some((step, loss)) = curves.best() else { return Ok(()) };
    dots.label("validation").legend(move |at| EmptyElement::at(at) + pen.dash(0.0, 22.0, line) + dot(11.0));

    let disk = move |x| Circle::new((pen.px(x), 0), pen.px(7.0), PAPER.filled());
    let ring = move |x| Circle::new((pen.px(x), 0), pen.px(7.0), line);
    chart
        .draw_series([EmptyElement::at((step, loss)) + disk(0.0) + ring(0.0) + dot(0.0)])
        .map_err(drawing_error)?
        .label(format!("best {loss:.4} at step {}", grouped(step as u64)))
        .legend(move |at| EmptyElement::at(at) + ring(11.0) + dot(11.0));
    Ok(())
}

/// Draws curves over the steps, with zero in the picture.
fn draw_curves<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    curves: &[Vec<Point>],
    title: &str,
) -> Result<()> {
    load_font()?;
    let pen = Pen(1.0);
    area.fill(&PAPER).map_err(drawing_error)?;
    let x_end = last_step(&curves.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let limit =
        |q: f64| quantile(curves.iter().flat_map(|points| values(points)), q).map(|limit| 1.08 * limit);
    let bottom = limit(0.01).filter(|&bottom| bottom < 0.0).unwrap_or(0.0);
    let top = limit(0.99).filter(|&top| top > 0.0).unwrap_or(if bottom < 0.0 { 0.0 } else { 1.0 });
    let height = top - bottom;
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(24)
        .caption(title, pen.text(16.0))
        .x_label_area_size(28)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..x_end, bottom..top)
        .map_err(drawing_error)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(UNIFORM)
        .x_labels(step_labels(x_end, area))
        .y_labels(5)
        .x_label_formatter(&|step| grouped(step.round() as u64))
        .y_label_formatter(&|value| tick(*value, height))
        .label_style(pen.text(14.0))
        .draw()
        .map_err(drawing_error)?;
    let most_points = (DRAWN_POINTS / 2 / curves.len().max(1)).max(64);
    for points in curves {
        let below_top = clip(&thin_out(points, most_points), top);
        for piece in below_top.iter().flat_map(|piece| clip(&mirrored(piece), -bottom)) {
            let piece = mirrored(&piece);
            chart.draw_series(LineSeries::new(piece, pen.line(TRAIN, 1.5))).map_err(drawing_error)?;
        }
    }
    area.present().map_err(drawing_error)
}

/// Draws the legend of a chart that overlays several series.
fn legend<'a, DB: DrawingBackend + 'a, CT: CoordTranslate>(
    chart: &mut ChartContext<'a, DB, CT>,
) -> Result<()> {
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .margin(12)
        .legend_area_size(32)
        .label_font((FONT, 14).into_font().color(&INK))
        .background_style(PAPER.filled())
        .border_style(GRID)
        .draw()
        .map_err(drawing_error)
}

/// Turns a curve upside down.
fn mirrored(points: &[Point]) -> Vec<Point> {
    points.iter().map(|&(step, value)| (step, -value)).collect()
}

/// Number of labels on the axis of steps, all at whole steps: as many as fit.
fn step_labels<DB: DrawingBackend>(x_end: f64, area: &DrawingArea<DB, Shift>) -> usize {
    let fitting = if area.dim_in_pixel().0 < 700 { 5 } else { 9 };
    fitting.min(x_end as usize + 1)
}

/// Formats a label of an axis that spans `height`.
fn tick(value: f64, height: f64) -> String {
    match height {
        _ if value == 0.0 => "0".into(),
        0.05..10.0 => format!("{value:.2}"),
        10.0..1e5 => format!("{value:.0}"),
        _ => format!("{value:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shrinking_averages_squares() {
        // Two pixels wide and one high, each made of four.
        let row = [0, 0, 0, 4, 4, 4, 10, 20, 30, 10, 20, 30];
        let large: Vec<u8> = row.iter().chain(&row).copied().collect();
        assert_eq!(shrink(&large, 2, 2), [2, 2, 2, 10, 20, 30]);
    }

    #[test]
    fn pictures_of_nothing_and_of_one_point_can_be_drawn() {
        let folder = tempfile::tempdir().unwrap();
        let mut curves = Curves::default();
        let size = (300, 200);
        assert!(loss_svg(&curves, "", size).unwrap().starts_with("<svg"));
        curves.train_loss.push((1.0, f64::NAN));
        curves.val_loss.push((1.0, 2.0));
        let svg = loss_svg(&curves, "a < b", size).unwrap();
        assert!(svg.contains("a &lt; b") && svg.contains("best 2.0000 at step 1"), "{svg}");
        curves.val_loss[0].1 = 1e30;
        assert!(loss_svg(&curves, "", size).is_ok());
        assert!(curve_svg(&[vec![(1.0, 0.0)]], "learning rate", size).unwrap().contains("learning rate"));
        let path = folder.path().join("loss.png");
        write_loss_png(&curves, "", size, &path).unwrap();
        assert!(storage::read(&path).unwrap().starts_with(b"\x89PNG"));
        assert_eq!(storage::list(folder.path()).unwrap(), [path]);
    }
}
