//! Functions that the compiler turns into vector instructions: no branches, no calls, no tables.
#![allow(clippy::excessive_precision, reason = "coefficients as they are published")]

/// Runs `work` compiled for the widest vector instructions of this processor (AVX-512, AVX2, NEON, WASM
/// SIMD). Functions that it calls must be `#[inline(always)]` to be compiled for them too.
pub(super) fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    struct Work<F>(F);
    impl<R, F: FnOnce() -> R> pulp::NullaryFnOnce for Work<F> {
        type Output = R;
        #[inline(always)]
        fn call(self) -> R {
            (self.0)()
        }
    }
    pulp::Arch::new().dispatch(Work(work))
}

/// Number of accumulators of a sum: enough for the widest registers. The order of additions is the same on
/// all processors.
const LANES: usize = 16;

/// Sum of `value(i)` for `i` in `0..count`.
#[inline(always)]
pub(super) fn sum(count: usize, value: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let whole = count - count % LANES;
    let mut start = 0;
    while start < whole {
        for (lane, total) in lanes.iter_mut().enumerate() {
            *total += value(start + lane);
        }
        start += LANES;
    }
    for i in whole..count {
        lanes[i - whole] += value(i);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Largest element, `-inf` if there is none; NaN if an element is NaN.
#[inline(always)]
pub(super) fn max(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let larger = |a: f32, b: f32| if a > b || a.is_nan() { a } else { b };
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = larger(lanes[lane], chunk[lane]);
        }
    }
    let all = lanes.into_iter().fold(f32::NEG_INFINITY, larger);
    rest.iter().fold(all, |most, value| larger(most, *value))
}

/// e^x, accurate to 2 units in the last place (Cephes' polynomial). Below -87 it is the smallest normal
/// number, above 88 the largest power that f32 represents.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer in the low bits
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = x - n * 0.693_359_375 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_15e-4;
    p = p * r + 1.398_199_95e-3;
    p = p * r + 8.333_451_9e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_55e-1;
    p = p * r + 5.000_000_1e-1;
    let e = p * (r * r) + r + 1.0;
    let power = f32::from_bits(rounded.to_bits().wrapping_add(127) << 23); // 2^n
    e * power
}

/// The logistic function, 1 / (1 + e^-x).
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Hyperbolic tangent, within 2.5e-7.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (exp(2.0 * x) + 1.0)
}

/// The cumulative distribution function of the standard normal distribution at `x`, within 1e-7 (Abramowitz
/// and Stegun, 7.1.26), and its density at `x`.
#[inline(always)]
pub(super) fn normal(x: f32) -> (f32, f32) {
    const INVERSE_SQRT_TAU: f32 = 0.398_942_3;
    let bell = exp(-0.5 * x * x);
    let t = 1.0 / (1.0 + 0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2 * x.abs());
    let mut p = 1.061_405_429;
    p = p * t - 1.453_152_027;
    p = p * t + 1.421_413_741;
    p = p * t - 0.284_496_736;
    p = p * t + 0.254_829_592;
    let tail = 0.5 * p * t * bell; // beyond |x|
    let below = if x < 0.0 { tail } else { 1.0 - tail };
    (below, INVERSE_SQRT_TAU * bell)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_agree_with_those_of_the_standard_library() {
        let mut x = -30.0f32;
        while x < 30.0 {
            let wide = f64::from(x);
            assert!((f64::from(exp(x)) / wide.exp() - 1.0).abs() < 2.5e-7, "exp {x}");
            assert!((f64::from(tanh(x)) - wide.tanh()).abs() < 2.5e-7, "tanh {x}");
            assert!((f64::from(sigmoid(x)) - 1.0 / (1.0 + (-wide).exp())).abs() < 1e-7, "sigmoid {x}");
            x += 0.037;
        }
        // scipy.stats.norm.cdf
        for (x, below) in [(0.0, 0.5), (1.0, 0.841_344_75), (-2.0, 0.022_750_13), (0.1, 0.539_827_84)] {
            assert!((normal(x).0 - below).abs() < 1.2e-7, "normal {x}: {}", normal(x).0);
        }
    }

    #[test]
    fn what_is_not_a_number_stays_so() {
        assert!(exp(f32::NAN).is_nan() && tanh(f32::NAN).is_nan() && normal(f32::NAN).0.is_nan());
        assert!(max(&[1.0, f32::NAN, 2.0]).is_nan());
        assert_eq!(max(&(0..37).map(|i| i as f32).collect::<Vec<_>>()), 36.0);
        assert_eq!(sum(37, |i| i as f32), 666.0);
        assert!(exp(-1e30) < 1e-37);
    }
}
