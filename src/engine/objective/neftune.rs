//! NEFTune (arXiv:2310.05914): uniform noise on the embeddings of the tokens, in training only.

use super::Batch;
use crate::{config::Config, kernels::dropout::Dropout, model::DropoutSource};
use burn::tensor::{Tensor, TensorData};

/// Noise between plus and minus `alpha / sqrt(T E)`, where T is the number of tokens of a document and E the width
/// of the embeddings.
#[derive(Debug, Clone, Copy)]
pub(super) struct NoisyEmbeddings {
    alpha: f64,
    width: usize,
}

/// Sets the random numbers of the noise apart from those of dropout, which begin with the same seed.
const PURPOSE: u32 = 0x6e65_6674;

impl NoisyEmbeddings {
    /// The noise of a configuration; `None` if it has none.
    pub fn new(config: &Config) -> Option<Self> {
        let alpha = config.objective.neftune_alpha;
        (alpha > 0.0).then_some(Self { alpha, width: config.model.n_embd })
    }

    /// Noise for a batch of training, `[B, T, E]`; `None` for one that is evaluated. The number of an element is a
    /// function of the step, the row in the step, the position and the column.
    pub fn of(&self, batch: &Batch) -> Option<Tensor<3>> {
        let DropoutSource { seed, first_row } = batch.input.dropout?;
        let [rows, time] = batch.input.tokens.dims();
        let draws = Dropout { probability: 0.0, seed: seed ^ PURPOSE, first_row: first_row as u32 };
        let mut noise = Vec::with_capacity(rows * time * self.width);
        for (index, length) in batch.host.document_lengths().into_iter().enumerate() {
            if length == 0 {
                noise.resize(noise.len() + self.width, 0.0);
                continue;
            }
            let largest = (self.alpha / ((length * self.width) as f64).sqrt()) as f32;
            let draws = draws.row(index / time).part(index % time);
            let uniform = |column| draws.draw(column) as f32 / u32::MAX as f32 * 2.0 - 1.0;
            noise.extend((0..self.width as u32).map(|column| largest * uniform(column)));
        }
        let data = TensorData::new(noise, [rows, time, self.width]);
        Some(Tensor::from_data(data, &batch.targets.weights.device()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{HostBatch, IGNORE_INDEX};

    fn values(alpha: f64, host: &HostBatch, source: Option<DropoutSource>) -> Option<Vec<f32>> {
        let device = crate::device::Choice::cpu().open().unwrap();
        let mut config = Config::default();
        config.objective.neftune_alpha = alpha;
        config.model.n_embd = 100;
        let mut batch = Batch::new(host, &device);
        batch.input.dropout = source;
        let noise = NoisyEmbeddings::new(&config)?.of(&batch)?;
        assert_eq!(noise.dims(), [host.rows, host.time, 100]);
        Some(noise.into_data().try_into_vec_as::<f32>().unwrap())
    }

    #[test]
    fn noise_is_uniform_and_as_large_as_the_length_says() {
        let n = IGNORE_INDEX;
        let host = HostBatch::new(vec![1; 8], vec![n, 1, 1, 1, 1, n, n, n], 2, 4);
        let source = |seed, first_row| Some(DropoutSource { seed, first_row });
        let noise = values(5.0, &host, source(1, 0)).unwrap();
        let (first, second) = noise.split_at(400);
        let largest = |values: &[f32]| values.iter().fold(0f32, |most, value| most.max(value.abs()));
        let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len() as f32;
        // 5 / sqrt(4 * 100) and 5 / sqrt(1 * 100).
        assert!((0.24..=0.25).contains(&largest(first)) && mean(first).abs() < 0.03);
        assert!(
            (0.45..=0.5).contains(&largest(&second[..100]))
                && second[100..].iter().all(|value| *value == 0.0)
        );
        let squares: Vec<f32> = first.iter().map(|value| value * value).collect();
        assert!((mean(&squares) / (0.25 * 0.25 / 3.0) - 1.0).abs() < 0.15);

        // By step and row; neither in an evaluation nor without alpha.
        assert_ne!(values(5.0, &host, source(2, 0)).unwrap(), noise);
        let last = HostBatch::new(vec![1; 4], vec![1, n, n, n], 1, 4);
        assert_eq!(values(5.0, &last, source(1, 1)).unwrap(), second);
        assert!(values(5.0, &host, None).is_none() && values(0.0, &host, source(1, 0)).is_none());
    }
}
