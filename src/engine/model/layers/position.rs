//! Position encodings: fixed sines (arXiv:1706.03762) that are added to the embedding, rotation of queries
//! and keys (arXiv:2104.09864), or a bias of attention scores by distance, trained (arXiv:1910.10683) or
//! fixed (arXiv:2108.12409). Learned position embeddings are a plain table beside the token embedding.

use crate::{
    config::{ModelConfig, Position, RopeLayout, RopeScaling},
    kernels::{
        Mode,
        rope::{RopeSpec, rotate},
    },
    model::init::Initializer,
};
use burn::{
    module::{Module, Param},
    tensor::{Device, Int, Tensor, TensorData, module::embedding},
};

/// Makes the sinusoidal table, `[block_size, n_embd]`, with sines in even and cosines in odd columns.
pub(crate) fn sinusoidal_table(config: &ModelConfig, initializer: &Initializer) -> Option<Tensor<2>> {
    let width = config.n_embd;
    let values = || {
        (0..config.block_size).flat_map(|position| {
            (0..width).map(move |column| {
                let wavelength = 10_000f64.powf((column / 2 * 2) as f64 / width as f64);
                let angle = position as f64 / wavelength;
                (if column % 2 == 0 { angle.sin() } else { angle.cos() }) as f32
            })
        })
    };
    initializer.table([config.block_size, width], || values().collect())
}

/// Rotary position embedding for one head width.
#[derive(Module, Debug)]
pub struct Rope {
    /// Cosines of the angles, `[block_size, head_size / 2]`.
    cos: Tensor<2>,
    /// Sines of the angles, `[block_size, head_size / 2]`.
    sin: Tensor<2>,
    #[module(skip)]
    layout: RopeLayout,
    #[module(skip)]
    mode: Mode,
}

/// Rotation of queries and keys at the positions of a batch.
#[derive(Clone)]
pub struct Rotation {
    /// Cosines of the angles, `[1 or B, T, D/2]`.
    cos: Tensor<3>,
    /// Sines of the angles, `[1 or B, T, D/2]`.
    sin: Tensor<3>,
    layout: RopeLayout,
    mode: Mode,
}

impl Rope {
    /// Makes the tables; `None` in a model that is never run, for which tables are not allocated.
    pub(crate) fn init(config: &ModelConfig, theta: f64, initializer: &Initializer) -> Option<Self> {
        let half = config.head_size() / 2;
        let table = |part: fn(f64) -> f64| {
            initializer.table([config.block_size, half], || {
                let frequencies: Vec<f64> = (0..half).map(|i| frequency(config, theta, i)).collect();
                let angles =
                    (0..config.block_size).flat_map(|p| frequencies.iter().map(move |f| p as f64 * f));
                angles.map(|angle| part(angle) as f32).collect()
            })
        };
        Some(Self {
            cos: table(f64::cos)?,
            sin: table(f64::sin)?,
            layout: config.rope.layout,
            mode: initializer.mode,
        })
    }

    /// Rotation at the given positions.
    pub fn at(&self, positions: &Positions) -> Rotation {
        let [cos, sin] = [&self.cos, &self.sin].map(|table| positions.rows_of(table.clone()));
        Rotation { cos, sin, layout: self.layout, mode: self.mode }
    }
}

/// Angle in radians by which pair `i` of a head rotates per position.
fn frequency(config: &ModelConfig, theta: f64, i: usize) -> f64 {
    let plain = 1.0 / theta.powf((2 * i) as f64 / config.head_size() as f64);
    match config.rope.scaling {
        RopeScaling::None => plain,
        RopeScaling::Linear => plain / config.rope.factor,
        RopeScaling::Llama3 => {
            let turns =
                config.rope.original_context.unwrap_or_default() as f64 * plain / std::f64::consts::TAU;
            let (low, high) = (config.rope.low_freq_factor, config.rope.high_freq_factor);
            let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            kept * plain + (1.0 - kept) * plain / config.rope.factor
        }
    }
}

/// Bias by distance that is added to attention scores, the same in all layers.
#[derive(Module, Debug)]
pub enum Bias {
    Relative(RelativeBias),
    Alibi(Alibi),
}

/// A trained bias for each head and each bucket of distances. Short distances have buckets of their own, long
/// ones share buckets.
#[derive(Module, Debug)]
pub struct RelativeBias {
    /// Bias of each bucket and head, `[relative_buckets, H]`.
    pub relative_bias: Param<Tensor<2>>,
    #[module(skip)]
    max_distance: usize,
    #[module(skip)]
    causal: bool,
}

/// A fixed bias: minus the distance, multiplied by a slope for each head.
#[derive(Module, Debug)]
pub struct Alibi {
    /// Slope of each head, `[1, H]`.
    slopes: Tensor<2>,
}

impl Bias {
    pub(crate) fn init(config: &ModelConfig, causal: bool, initializer: &mut Initializer) -> Option<Self> {
        let heads = config.n_head;
        match config.position {
            Position::Relative => Some(Self::Relative(RelativeBias {
                relative_bias: initializer.normal([config.relative_buckets, heads], initializer.std),
                max_distance: config.relative_max_distance,
                causal,
            })),
            Position::Alibi => {
                let values = || slopes(heads).into_iter().map(|slope| slope as f32).collect();
                Some(Self::Alibi(Alibi { slopes: initializer.table([1, heads], values)? }))
            }
            _ => None,
        }
    }

    /// Bias for `time` queries after `offset` tokens, over all keys up to the last query, `[1, H, T, S]`.
    pub(crate) fn at(&self, time: usize, offset: usize, device: &Device) -> Tensor<4> {
        let seen = offset + time;
        let pairs = (offset..seen).flat_map(|query| (0..seen).map(move |key| (query, key)));
        match self {
            Self::Relative(RelativeBias { relative_bias, max_distance, causal }) => {
                let table = relative_bias.val();
                let [buckets, heads] = table.dims();
                let bucket = |(query, key): (usize, usize)| {
                    relative_bucket(key as i64 - query as i64, buckets, *max_distance, *causal) as i32
                };
                let ids = TensorData::new(pairs.map(bucket).collect::<Vec<_>>(), [1, time * seen]);
                let bias = embedding(table, Tensor::<2, Int>::from_data(ids, device)); // [1, T S, H]
                bias.swap_dims(1, 2).reshape([1, heads, time, seen])
            }
            Self::Alibi(Alibi { slopes }) => {
                let [_, heads] = slopes.dims();
                let distances = pairs.map(|(query, key)| -(query.abs_diff(key) as f32)).collect::<Vec<_>>();
                let distances =
                    Tensor::<4>::from_data(TensorData::new(distances, [1, 1, time, seen]), device);
                distances * slopes.clone().reshape([1, heads, 1, 1])
            }
        }
    }
}

/// Bucket of a key that is `distance` positions after its query. Half of the buckets contain one distance
/// each; the others contain ranges that grow with the distance. If not `causal`, half of all buckets are for
/// later keys.
fn relative_bucket(distance: i64, buckets: usize, max_distance: usize, causal: bool) -> usize {
    let (buckets, first) = match causal {
        true => (buckets, 0),
        false => (buckets / 2, if distance > 0 { buckets / 2 } else { 0 }),
    };
    let distance = if causal { (-distance).max(0) } else { distance.abs() } as usize;
    let exact = buckets / 2;
    if distance < exact {
        return first + distance;
    }
    // In f32, whose rounding decides at the edges of buckets.
    let growth = (distance as f32 / exact.max(1) as f32).ln()
        / (max_distance as f32 / exact.max(1) as f32).ln()
        * (buckets - exact) as f32;
    first + (exact + growth as usize).min(buckets.saturating_sub(1))
}

/// Slopes of the heads: powers of two from 2^(-8/H) down. If H is not a power of two, they are interpolated
/// like in the paper's code.
fn slopes(heads: usize) -> Vec<f64> {
    let of_power = |heads: usize, step: usize| {
        (1..=heads).step_by(step).map(move |head| 2f64.powf(-8.0 * head as f64 / heads as f64))
    };
    let below = if heads.is_power_of_two() { heads } else { heads.next_power_of_two() / 2 };
    of_power(below, 1).chain(of_power(2 * below, 2).take(heads - below)).collect()
}

/// Positions of the tokens of a batch.
#[allow(clippy::large_enum_variant, reason = "one a forward pass")]
pub enum Positions {
    /// Positions `offset..offset + time`, in every row.
    Range { offset: usize, time: usize },
    /// Position of each token, `[B, T]`.
    Each(Tensor<2, Int>),
}

impl Positions {
    /// Looks up the rows of a table `[block_size, W]` for each token, `[1 or B, T, W]`.
    pub(crate) fn rows_of(&self, table: Tensor<2>) -> Tensor<3> {
        match self {
            Self::Range { offset, time } => table.narrow(0, *offset, *time).unsqueeze(),
            Self::Each(positions) => embedding(table, positions.clone()),
        }
    }
}

impl Rotation {
    /// Rotates the first `heads` heads of `[B, T, width]`.
    pub fn apply(&self, x: Tensor<3>, heads: usize) -> Tensor<3> {
        let [_, _, half] = self.cos.dims();
        let interleaved = self.layout == RopeLayout::Interleaved;
        let spec = RopeSpec { heads, head_size: 2 * half, interleaved, inverse: false };
        rotate(x, self.cos.clone(), self.sin.clone(), spec, self.mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::FRAC_1_SQRT_2;

    /// The expected numbers are `f(torch.arange(-12, 13), bidirectional, 8, 10)`, where `f` is
    /// `T5Attention._relative_position_bucket` of transformers 5.23, with 8 buckets up to distance 10.
    #[test]
    fn buckets_are_those_of_t5() {
        let both_ways: Vec<usize> = (-12..=12).map(|d| relative_bucket(d, 8, 10, false)).collect();
        assert_eq!(both_ways, [3, 3, 3, 3, 3, 3, 3, 3, 2, 2, 2, 1, 0, 5, 6, 6, 6, 7, 7, 7, 7, 7, 7, 7, 7]);
        let back: Vec<usize> = (-12..=1).map(|d| relative_bucket(d, 8, 10, true)).collect();
        assert_eq!(back, [7, 7, 7, 7, 7, 6, 5, 4, 4, 3, 2, 1, 0, 0]);
    }

    /// The expected numbers are those of `get_slopes` in ofirpress/attention_with_linear_biases.
    #[test]
    fn slopes_are_those_of_the_paper() {
        assert_eq!(slopes(8), (1..=8).map(|i| 0.5f64.powi(i)).collect::<Vec<_>>());
        let twelve = slopes(12);
        assert_eq!(twelve.len(), 12);
        for (power, found) in twelve[8..].iter().enumerate() {
            assert!((found - FRAC_1_SQRT_2 / f64::from(1 << power)).abs() < 1e-12, "{twelve:?}");
        }
        assert_eq!(slopes(1), [2f64.powi(-8)]);
    }
}
