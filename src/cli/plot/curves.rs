//! Numbers behind the plots: the points, the part of them that a picture shows, and how they are smoothed and
//! thinned out.

use crate::{cli::logfile::LoggedEvent, train::event::Event};
use std::collections::BTreeMap;

/// A step and a value.
pub type Point = (f64, f64);

/// Curves to plot, in the order of steps.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curves {
    pub train_loss: Vec<Point>,
    pub val_loss: Vec<Point>,
    /// Learning rate, gradient norm and the metrics of steps and of tasks by name, with one curve for each number of a
    /// metric.
    pub others: BTreeMap<String, Vec<Vec<Point>>>,
    /// Loss, in nats, of a model that gives every token or class the same probability.
    pub uniform_loss: Option<f64>,
}

impl Curves {
    /// Collects the curves from a log.
    pub fn from_events(events: &[LoggedEvent]) -> Self {
        let mut curves = Self::default();
        for logged in events {
            match &logged.event {
                Event::Started(info) => curves.uniform_loss = info.uniform_loss.filter(|l| l.is_finite()),
                Event::Step(report) => {
                    let step = report.step as f64;
                    curves.train_loss.push((step, report.loss.into()));
                    curves.push("learning rate", step, &[report.learning_rate as f32]);
                    curves.push("gradient norm", step, &[report.grad_norm]);
                    for (name, value) in &report.metrics {
                        curves.push(name, step, value.values());
                    }
                }
                Event::Evaluation(report) => curves.val_loss.push((report.step as f64, report.val_loss)),
                Event::Tasks(report) => {
                    for (name, value) in &report.metrics {
                        curves.push(name, report.step as f64, value.values());
                    }
                }
                _ => {}
            }
        }
        curves
    }

    /// Adds the numbers of a metric at a step.
    fn push(&mut self, name: &str, step: f64, numbers: &[f32]) {
        let curves = self.others.entry(name.to_owned()).or_default();
        curves.resize(curves.len().max(numbers.len()), Vec::new());
        curves.iter_mut().zip(numbers).for_each(|(curve, number)| curve.push((step, f64::from(*number))));
    }

    /// Finds the evaluation with the lowest validation loss.
    pub fn best(&self) -> Option<Point> {
        self.val_loss.iter().copied().filter(|p| p.1.is_finite()).min_by(|a, b| a.1.total_cmp(&b.1))
    }
}

/// Last step of several curves, at least 1.
pub(super) fn last_step(curves: &[&[Point]]) -> f64 {
    curves.iter().filter_map(|points| points.last()).map(|point| point.0).fold(1.0, f64::max)
}

/// Finite values of a curve.
pub(super) fn values(points: &[Point]) -> impl DoubleEndedIterator<Item = f64> {
    points.iter().map(|point| point.1).filter(|value| value.is_finite())
}

/// Value below which the share `q` of all values is.
pub(super) fn quantile(values: impl Iterator<Item = f64>, q: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[(q * last as f64).round() as usize])
}

/// Range of the loss plot's y axis.
pub(super) fn loss_range(curves: &Curves) -> (f64, f64) {
    let all = || values(&curves.train_loss).chain(values(&curves.val_loss));
    let (Some(bottom), Some(most)) = (quantile(all(), 0.0), quantile(all(), 0.98)) else {
        let top = curves.uniform_loss.unwrap_or(1.0);
        return (0.0, 1.1 * top);
    };
    let mut top = most;
    if let Some(uniform) = curves.uniform_loss {
        // A loss far above guessing is an accident of the first steps, unless most of the run is there.
        if quantile(all(), 0.5).is_some_and(|median| median < 1.5 * uniform) {
            top = top.min(1.5 * uniform);
        }
        // The reference belongs in the picture unless the curves would be squeezed into a quarter of it.
        if most - bottom > 0.25 * (uniform - bottom) {
            top = top.max(uniform);
        }
    }
    let margin = (0.05 * (top - bottom)).max(0.01).max(1e-3 * top.abs());
    ((bottom - margin).max(0.0).min(bottom), top + margin)
}

/// Smooths a curve by an exponential moving average over about a sixtieth of the run: the mean of a forward
/// and a backward one, so that it does not lag behind a falling loss. Values above `most` count as `most`;
/// those that are not finite are left out.
pub(super) fn smooth(points: &[Point], most: f64) -> Vec<Point> {
    let finite: Vec<Point> = points.iter().filter(|point| point.1.is_finite()).copied().collect();
    let decay = 1.0 - 1.0 / (finite.len() as f64 / 60.0).max(5.0);
    let averages = |values: &mut dyn Iterator<Item = f64>| -> Vec<f64> {
        let (mut sum, mut weight) = (0.0, 0.0);
        values
            .map(|value| {
                sum = decay * sum + (1.0 - decay) * value.min(most);
                weight = decay * weight + (1.0 - decay);
                sum / weight
            })
            .collect()
    };
    let forward = averages(&mut values(&finite));
    let backward = averages(&mut values(&finite).rev());
    let pairs = forward.iter().zip(backward.iter().rev());
    finite.iter().zip(pairs).map(|(point, (a, b))| (point.0, 0.5 * (a + b))).collect()
}

/// Thins a curve out to about `limit` points that look the same: the lowest and the highest of each stretch.
pub(super) fn thin_out(points: &[Point], limit: usize) -> Vec<Point> {
    if points.len() <= limit {
        return points.to_vec();
    }
    let mut kept = Vec::with_capacity(limit + 2);
    for stretch in points.chunks(points.len().div_ceil(limit / 2)) {
        let order = |a: &&Point, b: &&Point| a.1.total_cmp(&b.1);
        let ends = [stretch.iter().min_by(order), stretch.iter().max_by(order)];
        let (Some(low), Some(high)) = ends.into() else { continue };
        kept.push(if low.0 <= high.0 { *low } else { *high });
        if low.0 != high.0 {
            kept.push(if low.0 <= high.0 { *high } else { *low });
        }
    }
    kept
}

/// Splits a line into the pieces at or below `top`, which end where the line crosses `top` and at values that
/// are not finite.
pub(super) fn clip(points: &[Point], top: f64) -> Vec<Vec<Point>> {
    let mut pieces = vec![Vec::new()];
    let mut previous: Option<Point> = None;
    for &point in points {
        let crossing =
            previous.filter(|from| point.1.is_finite() && (from.1 > top) != (point.1 > top)).map(|from| {
                let share = (top - from.1) / (point.1 - from.1);
                (from.0 + share * (point.0 - from.0), top)
            });
        let is_inside = point.1.is_finite() && point.1 <= top;
        if let Some(piece) = pieces.last_mut() {
            piece.extend(crossing);
            piece.extend(is_inside.then_some(point));
        }
        if !is_inside {
            pieces.push(Vec::new());
        }
        previous = Some(point).filter(|p| p.1.is_finite());
    }
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_at_the_top_and_at_gaps() {
        let points =
            [(0.0, 8.0), (1.0, 4.0), (2.0, 3.0), (3.0, f64::NAN), (4.0, 2.0), (5.0, 6.0), (6.0, 7.0)];
        assert_eq!(
            clip(&points, 5.0),
            [vec![(0.75, 5.0), (1.0, 4.0), (2.0, 3.0)], vec![(4.0, 2.0), (4.75, 5.0)]]
        );
        assert!(clip(&[(0.0, f64::NAN)], 5.0).is_empty());
    }

    #[test]
    fn the_range_ignores_huge_first_losses_and_a_reference_far_away() {
        let mut curves = Curves { uniform_loss: Some(4.0), ..Curves::default() };
        curves.train_loss = (0..20).map(|i| (i as f64, 3.0 - 0.05 * i as f64)).collect();
        curves.train_loss[0].1 = 90.0;
        let (bottom, top) = loss_range(&curves);
        assert!((1.8..2.05).contains(&bottom) && (4.0..7.0).contains(&top), "{bottom}..{top}");

        curves.train_loss[0].1 = 3.0;
        curves.uniform_loss = Some(10.8);
        let (_, top) = loss_range(&curves);
        assert!((3.0..3.5).contains(&top), "{top}");

        curves.train_loss.clear();
        assert_eq!(loss_range(&curves).0, 0.0);
    }

    #[test]
    fn a_diverged_run_is_shown_whole() {
        let train_loss = (0..100).map(|i| (i as f64, 50.0 + i as f64)).collect();
        let curves = Curves { train_loss, uniform_loss: Some(4.0), ..Curves::default() };
        assert!(loss_range(&curves).1 > 140.0);
    }

    #[test]
    fn smoothing_does_not_lag_and_passes_over_outliers_and_nan() {
        let falling = |i: usize| 4.0 - 0.005 * i as f64 + 0.2 * (i % 2) as f64;
        let mut points: Vec<Point> = (0..600).map(|i| (i as f64, falling(i))).collect();
        points[7].1 = f64::NAN;
        points[0].1 = 90.0;
        let smoothed = smooth(&points, 5.0);
        assert_eq!(smoothed.len(), 599);
        assert!(smoothed.iter().all(|point| point.1 < 5.0));
        let (step, loss) = smoothed[300];
        assert!((loss - (4.1 - 0.005 * step)).abs() < 0.02, "{loss}");
    }

    #[test]
    fn thinning_keeps_extremes_and_order() {
        let mut points: Vec<Point> = (0..10_000).map(|i| (i as f64, 1.0)).collect();
        points[4321].1 = 9.0;
        points[4322].1 = -9.0;
        let thinned = thin_out(&points, 100);
        assert!(thinned.len() <= 102);
        assert!(thinned.contains(&(4321.0, 9.0)) && thinned.contains(&(4322.0, -9.0)));
        assert!(thinned.is_sorted_by(|a, b| a.0 < b.0));
    }
}
