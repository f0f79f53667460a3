//! How a token's place enters the model: fixed sines (arXiv:1706.03762) added to the embedding,
//! or rotation of queries and keys (arXiv:2104.09864). Trained positions are a plain table in the
//! decoder.

use crate::{
    config::{ModelConfig, RopeLayout, RopeScaling},
    model::init::Initializer,
};
use burn::{
    module::Module,
    tensor::{Int, Tensor, module::embedding},
};

/// The sinusoidal table `[block_size, n_embd]`, sines in even and cosines in odd columns.
pub(crate) fn sinusoidal_table(config: &ModelConfig, initializer: &Initializer) -> Tensor<2> {
    let width = config.n_embd;
    let values = (0..config.block_size).flat_map(|position| {
        (0..width).map(move |column| {
            let wavelength = 10_000f64.powf((column / 2 * 2) as f64 / width as f64);
            let angle = position as f64 / wavelength;
            (if column % 2 == 0 { angle.sin() } else { angle.cos() }) as f32
        })
    });
    initializer.table(values.collect(), [config.block_size, width])
}

/// Rotary position embedding for one head width.
#[derive(Module, Debug)]
pub struct Rope {
    /// `[block_size, head_size / 2]`
    cos: Tensor<2>,
    /// `[block_size, head_size / 2]`
    sin: Tensor<2>,
    #[module(skip)]
    layout: RopeLayout,
}

/// The rotation of each position of a batch.
#[derive(Clone)]
pub struct Rotation {
    /// `[1 or B, 1, T, D/2]`
    cos: Tensor<4>,
    /// `[1 or B, 1, T, D/2]`
    sin: Tensor<4>,
    layout: RopeLayout,
}

impl Rope {
    pub(crate) fn init(config: &ModelConfig, initializer: &Initializer) -> Self {
        let half = config.head_size() / 2;
        let frequencies: Vec<f64> = (0..half).map(|i| frequency(config, i)).collect();
        let angles = || (0..config.block_size).flat_map(|p| frequencies.iter().map(move |f| p as f64 * f));
        let shape = [config.block_size, half];
        Self {
            cos: initializer.table(angles().map(|a| a.cos() as f32).collect(), shape),
            sin: initializer.table(angles().map(|a| a.sin() as f32).collect(), shape),
            layout: config.rope_layout,
        }
    }

    /// The rotations at some places.
    pub fn at(&self, places: &Places) -> Rotation {
        let [cos, sin] = [&self.cos, &self.sin].map(|table| {
            let rows = places.rows_of(table.clone()); // [1 or B, T, D/2]
            let [batch, time, half] = rows.dims();
            rows.reshape([batch, 1, time, half])
        });
        Rotation { cos, sin, layout: self.layout }
    }
}

/// Angle by which pair `i` of a head turns per position.
fn frequency(config: &ModelConfig, i: usize) -> f64 {
    let plain = 1.0 / config.rope_theta.powf((2 * i) as f64 / config.head_size() as f64);
    match config.rope_scaling {
        RopeScaling::None => plain,
        RopeScaling::Linear => plain / config.rope_factor,
        RopeScaling::Llama3 => {
            let turns = config.rope_original_context as f64 * plain / std::f64::consts::TAU;
            let (low, high) = (config.rope_low_freq_factor, config.rope_high_freq_factor);
            let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            kept * plain + (1.0 - kept) * plain / config.rope_factor
        }
    }
}

/// Where the tokens of a batch stand.
#[allow(clippy::large_enum_variant, reason = "one a forward pass")]
pub enum Places {
    /// At `offset..offset + time`, in every row.
    Range { offset: usize, time: usize },
    /// `[B, T]`
    Each(Tensor<2, Int>),
}

impl Places {
    /// The rows of a table `[block_size, W]` that belong to each token, `[1 or B, T, W]`.
    pub(crate) fn rows_of(&self, table: Tensor<2>) -> Tensor<3> {
        match self {
            Self::Range { offset, time } => table.narrow(0, *offset, *time).unsqueeze(),
            Self::Each(places) => embedding(table, places.clone()),
        }
    }
}

impl Rotation {
    /// Rotates queries or keys `[B, H, T, D]`.
    pub fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, heads, time, size] = x.dims();
        let half = size / 2;
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        let (first, second) = match self.layout {
            RopeLayout::Half => (x.clone().narrow(3, 0, half), x.narrow(3, half, half)),
            RopeLayout::Interleaved => {
                let pairs: Tensor<5> = x.reshape([batch, heads, time, half, 2]);
                let component = |i| pairs.clone().narrow(4, i, 1).reshape([batch, heads, time, half]);
                (component(0), component(1))
            }
        };
        let rotated_first = first.clone() * cos.clone() - second.clone() * sin.clone();
        let rotated_second = second * cos + first * sin;
        match self.layout {
            RopeLayout::Half => Tensor::cat(vec![rotated_first, rotated_second], 3),
            RopeLayout::Interleaved => {
                Tensor::stack::<5>(vec![rotated_first, rotated_second], 4).reshape([batch, heads, time, size])
            }
        }
    }
}
