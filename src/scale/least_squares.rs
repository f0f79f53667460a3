//! Straight lines and parabolas through points, by least squares.

/// y = `intercept` + `slope` · x.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    pub slope: f64,
    pub intercept: f64,
    /// Root mean square of the distances from the line, with n in the denominator.
    pub residual: f64,
    /// Standard error of the slope; `None` with two points.
    pub slope_error: Option<f64>,
}

/// Line through points; `None` unless two values of x differ.
pub fn line(x: &[f64], y: &[f64]) -> Option<Line> {
    let count = x.len().min(y.len()) as f64;
    let mean = |values: &[f64]| values.iter().sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(x), mean(y));
    let products = |a: &[f64], mean_a: f64, b: &[f64], mean_b: f64| -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - mean_a) * (b - mean_b)).sum()
    };
    let spread = products(x, mean_x, x, mean_x);
    if spread.is_nan() || spread <= 0.0 {
        return None;
    }
    let slope = products(x, mean_x, y, mean_y) / spread;
    let intercept = mean_y - slope * mean_x;
    let squares: f64 = x.iter().zip(y).map(|(x, y)| (y - intercept - slope * x).powi(2)).sum();
    let slope_error = (count > 2.0).then(|| (squares / (count - 2.0) / spread).sqrt());
    Some(Line { slope, intercept, residual: (squares / count).sqrt(), slope_error })
}

/// y = `least` + `curvature` · (x - `at`)².
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parabola {
    pub at: f64,
    pub least: f64,
    pub curvature: f64,
}

/// Parabola through points; `None` unless three values of x differ and the parabola is not a line.
pub fn parabola(x: &[f64], y: &[f64]) -> Option<Parabola> {
    // In x measured from its mean and in its own spread, the first two orthogonal polynomials are 1 and t, and
    // the third is t² - skew·t - 1 (Forsythe, 1957).
    let count = x.len().min(y.len()) as f64;
    let mean = x.iter().sum::<f64>() / count;
    let spread = (x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
    let t: Vec<f64> = x.iter().map(|x| (x - mean) / spread).collect();
    let moment = |weight: &dyn Fn(f64) -> f64| -> f64 {
        t.iter().zip(y).map(|(&t, y)| weight(t) * y).sum::<f64>() / count
    };
    let skew = t.iter().map(|t| t.powi(3)).sum::<f64>() / count;
    let third = |t: f64| t * t - skew * t - 1.0;
    let third_square = t.iter().map(|&t| third(t).powi(2)).sum::<f64>() / count;
    if third_square.is_nan() || third_square < 1e-12 {
        return None;
    }
    let (level, slope, bend) = (moment(&|_| 1.0), moment(&|t| t), moment(&third) / third_square);
    if bend.abs() <= 1e-12 * level.abs() {
        return None;
    }
    // level + slope·t + bend·(t² - skew·t - 1)
    let at = (bend * skew - slope) / (2.0 * bend);
    let found = Parabola {
        at: mean + spread * at,
        least: level - bend - bend * at * at,
        curvature: bend / (spread * spread),
    };
    [found.at, found.least, found.curvature].iter().all(|number| number.is_finite()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ```python
    /// x, y = numpy.array([1., 2., 4., 7., 11.]), numpy.array([9., 5.5, 4., 7., 21.])
    /// print(scipy.stats.linregress(x, y))
    /// a, b, c = numpy.polyfit(x, y, 2); print(-b / (2 * a), c - b * b / (4 * a), a)
    /// ```
    #[test]
    fn numbers_are_those_of_numpy() {
        let (x, y) = ([1.0, 2.0, 4.0, 7.0, 11.0], [9.0, 5.5, 4.0, 7.0, 21.0]);
        let found = line(&x, &y).unwrap();
        let expected = [1.265151515151515, 2.9742424242424246, 0.6322951957511158];
        for (found, expected) in
            [found.slope, found.intercept, found.slope_error.unwrap()].iter().zip(expected)
        {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
        let found = parabola(&x, &y).unwrap();
        for (found, expected) in [found.at, found.least, found.curvature].iter().zip([
            4.3774289985052315,
            4.0027384486465225,
            0.38986013986014045,
        ]) {
            assert!((found - expected).abs() < 1e-10, "{found} {expected}");
        }
    }

    #[test]
    fn degenerate_points_have_no_line_and_no_parabola() {
        assert_eq!(line(&[], &[]), None);
        assert_eq!(line(&[1.0, 1.0], &[2.0, 3.0]), None);
        assert_eq!(parabola(&[], &[]), None);
        assert_eq!(parabola(&[1.0, 1.0, 2.0, 2.0], &[3.0, 4.0, 5.0, 4.0]), None);
        assert_eq!(parabola(&[1.0, 1.0, 1.0], &[3.0, 4.0, 5.0]), None);
        assert_eq!(parabola(&[1.0, 2.0, 3.0], &[4.0, 4.0, 4.0]), None);
        assert_eq!(line(&[1.0, 2.0], &[3.0, 5.0]).unwrap().slope_error, None);
    }
}
