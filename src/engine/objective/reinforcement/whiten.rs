//! Whitening: numbers are scaled to variance 1 over those that count.

/// Mean of whitened numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mean {
    /// The mean becomes 0.
    Zero,
    /// The mean stays what it was.
    Kept,
}

/// Added to the variance, so that equal numbers become 0 and not NaN.
const EPSILON: f64 = 1e-8;

/// Scales numbers to variance 1 (with Bessel's correction) over those whose mask is 1. The others become 0.
pub fn whiten(values: &[f32], mask: &[f32], mean: Mean) -> Vec<f32> {
    let counted =
        || values.iter().zip(mask).filter(|(_, mask)| **mask > 0.0).map(|(value, _)| f64::from(*value));
    let count = counted().count() as f64;
    let average = counted().sum::<f64>() / count.max(1.0);
    let squares = counted().map(|value| (value - average).powi(2)).sum::<f64>();
    let scale = 1.0 / (squares / (count - 1.0).max(1.0) + EPSILON).sqrt();
    let shift = if mean == Mean::Kept { average } else { 0.0 };
    let whitened = |(value, mask): (&f32, &f32)| match *mask > 0.0 {
        true => ((f64::from(*value) - average) * scale + shift) as f32,
        false => 0.0,
    };
    values.iter().zip(mask).map(whitened).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_numbers_neither_count_nor_remain() {
        let (values, mask) = ([1.0, 2.0, 3.0, 1e6], [1.0, 1.0, 1.0, 0.0]);
        let close = |found: Vec<f32>, expected: [f32; 4]| {
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
        };
        close(whiten(&values, &mask, Mean::Zero), [-1.0, 0.0, 1.0, 0.0]);
        close(whiten(&values, &mask, Mean::Kept), [1.0, 2.0, 3.0, 0.0]);
    }

    #[test]
    fn equal_numbers_or_a_single_one_become_zero() {
        assert_eq!(whiten(&[0.3; 3], &[1.0; 3], Mean::Zero), [0.0; 3]);
        assert_eq!(whiten(&[5.0], &[1.0], Mean::Zero), [0.0]);
        assert!(whiten(&[], &[], Mean::Zero).is_empty());
    }
}
