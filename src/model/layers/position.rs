//! How a token's place enters the model: fixed sines (arXiv:1706.03762) added to the embedding,
//! or rotation of queries and keys (arXiv:2104.09864). Trained positions are a plain table in the
//! decoder.

use crate::{
    config::{ModelConfig, RopeLayout},
    model::init::Initializer,
};
use burn::{module::Module, tensor::Tensor};

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

impl Rope {
    pub(crate) fn init(config: &ModelConfig, initializer: &Initializer) -> Self {
        let half = config.head_size() / 2;
        let angles = || {
            (0..config.block_size).flat_map(|position| {
                (0..half).map(move |i| {
                    let exponent = (2 * i) as f64 / config.head_size() as f64;
                    position as f64 / config.rope_theta.powf(exponent)
                })
            })
        };
        let shape = [config.block_size, half];
        Self {
            cos: initializer.table(angles().map(|a| a.cos() as f32).collect(), shape),
            sin: initializer.table(angles().map(|a| a.sin() as f32).collect(), shape),
            layout: config.rope_layout,
        }
    }

    /// Rotates queries or keys `[B, H, T, D]` that stand at positions `offset..offset + T`.
    pub fn forward(&self, x: Tensor<4>, offset: usize) -> Tensor<4> {
        let [batch, heads, time, size] = x.dims();
        let half = size / 2;
        let cos: Tensor<4> = self.cos.clone().narrow(0, offset, time).unsqueeze(); // [1, 1, T, D/2]
        let sin: Tensor<4> = self.sin.clone().narrow(0, offset, time).unsqueeze();
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
