//! L-BFGS (Nocedal and Wright, "Numerical Optimization", algorithm 7.5) with a line search that also suits
//! functions with near kinks, as sums of Huber losses are: bisection until the weak Wolfe conditions hold
//! (Lewis and Overton, "Nonsmooth optimization via quasi-Newton methods", 2013, algorithm 2.6).

use std::collections::VecDeque;

/// Number of past steps that approximate the curvature.
const HISTORY: usize = 10;
/// Share of the decrease promised by the gradient that a step must have (Armijo).
const DECREASE: f64 = 1e-4;
/// Share of the slope that may be left at the end of a step (curvature).
const SLOPE_LEFT: f64 = 0.9;
/// Number of evaluations in one line search.
const MAX_TRIALS: usize = 50;

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub struct LbfgsConfig {
    /// Largest component of the gradient at which the minimum counts as found.
    pub gradient_tolerance: f64,
    /// Number of steps.
    pub max_steps: usize,
}

/// Point at which the search has stopped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Minimum<const P: usize> {
    pub point: [f64; P],
    pub value: f64,
    /// Largest component of the gradient, in absolute value.
    pub gradient_norm: f64,
    pub steps: usize,
}

struct Step<const P: usize> {
    /// Difference of the points.
    moved: [f64; P],
    /// Difference of the gradients.
    bent: [f64; P],
    /// 1 / (`moved` · `bent`).
    rho: f64,
}

/// Minimizes a function of `P` numbers from `start`. `objective` returns its value and gradient. Values that
/// are not finite are steered around, unless the start has one, which is returned unchanged.
pub fn minimize<const P: usize>(
    mut objective: impl FnMut(&[f64; P]) -> (f64, [f64; P]),
    start: [f64; P],
    config: LbfgsConfig,
) -> Minimum<P> {
    let mut point = start;
    let (mut value, mut gradient) = objective(&point);
    let mut history: VecDeque<Step<P>> = VecDeque::with_capacity(HISTORY);
    let mut steps = 0;
    while value.is_finite() && max_norm(&gradient) > config.gradient_tolerance && steps < config.max_steps {
        let direction = direction(&gradient, &history);
        let found = line_search(&mut objective, &point, value, &gradient, &direction);
        let Some((new_point, new_value, new_gradient)) = found else {
            // The approximated curvature may be wrong: the steepest descent gets one chance.
            if history.is_empty() {
                break;
            }
            history.clear();
            continue;
        };
        let (moved, bent) = (difference(&new_point, &point), difference(&new_gradient, &gradient));
        let curvature = dot(&moved, &bent);
        if curvature > f64::MIN_POSITIVE {
            if history.len() == HISTORY {
                history.pop_front();
            }
            history.push_back(Step { moved, bent, rho: curvature.recip() });
        }
        (point, value, gradient) = (new_point, new_value, new_gradient);
        steps += 1;
    }
    Minimum { point, value, gradient_norm: max_norm(&gradient), steps }
}

/// The gradient, negated and multiplied by the approximated inverse of the curvature (two-loop recursion).
fn direction<const P: usize>(gradient: &[f64; P], history: &VecDeque<Step<P>>) -> [f64; P] {
    let mut direction = gradient.map(|slope| -slope);
    let mut shares = [0.0; HISTORY];
    for (share, step) in shares.iter_mut().zip(history).rev() {
        *share = step.rho * dot(&step.moved, &direction);
        add(&mut direction, -*share, &step.bent);
    }
    let scale = match history.back() {
        Some(last) => (last.rho * dot(&last.bent, &last.bent)).recip(),
        // The first step has the length 1 at most.
        None => dot(gradient, gradient).sqrt().max(1.0).recip(),
    };
    direction = direction.map(|component| component * scale);
    for (share, step) in shares.iter().zip(history) {
        let back = step.rho * dot(&step.bent, &direction);
        add(&mut direction, share - back, &step.moved);
    }
    direction
}

/// A point along `direction` with the weak Wolfe conditions, its value and its gradient. `None` if the
/// direction does not descend, or if rounding hides the descent.
fn line_search<const P: usize>(
    objective: &mut impl FnMut(&[f64; P]) -> (f64, [f64; P]),
    point: &[f64; P],
    value: f64,
    gradient: &[f64; P],
    direction: &[f64; P],
) -> Option<([f64; P], f64, [f64; P])> {
    let slope = dot(gradient, direction);
    if slope.is_nan() || slope >= 0.0 {
        return None;
    }
    let (mut low, mut high, mut length) = (0.0, f64::INFINITY, 1.0);
    let mut best = None;
    for _ in 0..MAX_TRIALS {
        let mut trial = *point;
        add(&mut trial, length, direction);
        let (new_value, new_gradient) = objective(&trial);
        let descends = new_value.is_finite() && new_value <= value + DECREASE * length * slope;
        if !descends {
            high = length;
        } else {
            best = Some((trial, new_value, new_gradient));
            if dot(&new_gradient, direction) >= SLOPE_LEFT * slope {
                break;
            }
            low = length;
        }
        length = if high.is_finite() { 0.5 * (low + high) } else { 2.0 * low };
    }
    best.filter(|(_, new_value, _)| *new_value < value)
}

fn dot<const P: usize>(a: &[f64; P], b: &[f64; P]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add<const P: usize>(sum: &mut [f64; P], factor: f64, other: &[f64; P]) {
    sum.iter_mut().zip(other).for_each(|(sum, other)| *sum += factor * other);
}

fn difference<const P: usize>(a: &[f64; P], b: &[f64; P]) -> [f64; P] {
    std::array::from_fn(|index| a[index] - b[index])
}

fn max_norm<const P: usize>(vector: &[f64; P]) -> f64 {
    vector.iter().fold(0.0, |norm, component| component.abs().max(norm))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRECISE: LbfgsConfig = LbfgsConfig { gradient_tolerance: 1e-9, max_steps: 1000 };

    #[test]
    fn rosenbrock_has_its_minimum_at_one() {
        let rosenbrock = |[x, y]: &[f64; 2]| {
            let (first, second) = (1.0 - x, y - x * x);
            let gradient = [-2.0 * first - 400.0 * x * second, 200.0 * second];
            (first * first + 100.0 * second * second, gradient)
        };
        let found = minimize(rosenbrock, [-1.2, 1.0], PRECISE);
        assert!(found.point.iter().all(|x| (x - 1.0).abs() < 1e-8), "{found:?}");
        // scipy.optimize.minimize(method="L-BFGS-B") takes 36 steps.
        assert!(found.steps < 60, "{found:?}");
    }

    #[test]
    fn kinks_do_not_stop_the_search() {
        // |x| + 2·|y - x|, smooth only within 1e-6 of its kinks.
        let huber =
            |x: f64| if x.abs() < 1e-6 { (x * x / 2e-6, x / 1e-6) } else { (x.abs() - 5e-7, x.signum()) };
        let objective = |[x, y]: &[f64; 2]| {
            let ((first, dx), (second, dy)) = (huber(*x), huber(y - x));
            (first + 2.0 * second, [dx - 2.0 * dy, 2.0 * dy])
        };
        let found = minimize(objective, [3.0, -7.0], PRECISE);
        assert!(found.point.iter().all(|x| x.abs() < 1e-12), "{found:?}");
    }

    #[test]
    fn values_that_are_not_finite_are_no_trap() {
        // The logarithm is NaN where the first step would lead.
        let barrier = |[x]: &[f64; 1]| (-1e3 * x.ln() + 1e3 * x, [-1e3 / x + 1e3]);
        assert!((minimize(barrier, [1e-3], PRECISE).point[0] - 1.0).abs() < 1e-9);
        assert_eq!(minimize(barrier, [-1.0], PRECISE).steps, 0);
        // Without a minimum the search ends nevertheless.
        let found = minimize(|[x]: &[f64; 1]| (-x, [-1.0]), [0.0], PRECISE);
        assert!(found.point[0] > 1e10);
    }
}
