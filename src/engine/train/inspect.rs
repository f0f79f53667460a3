//! Inspection of a model while it trains: the distribution of every parameter and of its gradient.

use super::Trainer;
use crate::{
    device::read_numbers,
    error::{Error, Result},
    model::parameters::{self, HostTensor},
    objective::{Batch, StepTotals},
};
use burn::{
    module::Module,
    optim::GradientsParams,
    tensor::{Tensor, TensorData},
};
use serde::Serialize;

/// Number of bins in a [`Distribution`]'s histogram.
const BINS: usize = 32;

/// One parameter tensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct ParameterReport {
    /// Path of fields, for example `blocks.0.attention.qkv.weight`.
    pub name: String,
    pub shape: Vec<usize>,
    pub weights: Distribution,
    /// Gradients of the loss of the first micro-batch of the next step, before clipping.
    pub gradients: Distribution,
}

/// Distribution of the elements of a tensor. Elements that are not finite are left out.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct Distribution {
    pub mean: f64,
    pub std: f64,
    pub min: f64,
    pub max: f64,
    /// Euclidean norm.
    pub norm: f64,
    /// Counts in equal bins from `min` to `max`.
    pub histogram: Vec<u32>,
}

impl Distribution {
    /// Computes the distribution of values; everything is zero if there are none.
    pub fn of(values: &[f32]) -> Self {
        let finite = || values.iter().copied().map(f64::from).filter(|value| value.is_finite());
        let count = finite().count().max(1) as f64;
        let mean = finite().sum::<f64>() / count;
        let squares = finite().map(|value| value * value).sum::<f64>();
        let variance = finite().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        let (min, max) = finite()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), value| (min.min(value), max.max(value)));
        let (min, max) = if min <= max { (min, max) } else { (0.0, 0.0) };
        let mut histogram = vec![0; BINS];
        let scale = if max > min { BINS as f64 / (max - min) } else { 0.0 };
        for value in finite() {
            histogram[(((value - min) * scale) as usize).min(BINS - 1)] += 1;
        }
        Self { mean, std: variance.sqrt(), min, max, norm: squares.sqrt(), histogram }
    }
}

impl Trainer {
    /// Reads every parameter, and its gradient for the first micro-batch of the next step. Does not change
    /// the run.
    ///
    /// # Errors
    /// [`Error::DeviceFailed`](crate::Error::DeviceFailed).
    pub async fn inspect(&self) -> Result<Vec<ParameterReport>> {
        let batch = self.loader.rows(self.step, 0..self.config.train.batch_size);
        let totals = StepTotals::of([&batch]);
        self.objective.begin_step(&self.model, std::slice::from_ref(&batch), &self.device);
        let loss = self.objective.loss(&self.model, &Batch::new(&batch, &self.device), totals);
        let gradients = GradientsParams::from_grads(loss.total.backward(), &self.model);
        let gradients = parameters::read(parameters::gradients(&self.model, &gradients)).await?;
        let weights = parameters::read(parameters::parameters(&self.model)).await?;
        let nothing = HostTensor::new([0], Vec::new());
        let reports = weights.into_iter().map(|(name, tensor)| ParameterReport {
            weights: Distribution::of(&tensor.values),
            gradients: Distribution::of(&gradients.get(&name).unwrap_or(&nothing).values),
            shape: tensor.shape,
            name,
        });
        Ok(reports.collect())
    }

    /// Attention weights of block `layer` of the model in training for `tokens`, of which at most
    /// `block_size` are used: `[head][query][key]`.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] if there is no such layer or no token, and [`Error::DeviceFailed`].
    pub async fn attention(&self, tokens: &[u32], layer: usize) -> Result<Vec<Vec<Vec<f32>>>> {
        let layers = self.config.model.n_layer;
        if layer >= layers {
            return Err(Error::invalid_value("layer", layer, format!("the model has {layers} blocks")));
        }
        let kept = tokens.len().min(self.config.model.block_size);
        if kept == 0 {
            return Err(Error::invalid_value("text", "", "there is no token to look at"));
        }
        let ids: Vec<i32> = tokens[..kept].iter().map(|&token| token as i32).collect();
        let device = self.device.clone().inner();
        let input = Tensor::from_data(TensorData::new(ids, [1, kept]), &device);
        let weights = self.model.valid().attention_weights(input, layer); // [H, T, T]
        let values = read_numbers(weights, "reading attention").await?;
        let heads = values.chunks_exact(kept * kept);
        Ok(heads.map(|head| head.chunks_exact(kept).map(<[f32]>::to_vec).collect()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_those_of_their_values() {
        let distribution = Distribution::of(&[1.0, 2.0, 3.0, 6.0, f32::NAN]);
        assert_eq!((distribution.mean, distribution.min, distribution.max), (3.0, 1.0, 6.0));
        assert!((distribution.std - 3.5f64.sqrt()).abs() < 1e-12);
        assert!((distribution.norm - 50f64.sqrt()).abs() < 1e-12);
        assert_eq!(distribution.histogram.iter().sum::<u32>(), 4);
        assert_eq!((distribution.histogram[0], distribution.histogram[BINS - 1]), (1, 1));
        for flat in [vec![], vec![5.0; 3]] {
            let distribution = Distribution::of(&flat);
            assert_eq!(distribution.std, 0.0);
            assert_eq!(distribution.histogram.iter().sum::<u32>() as usize, flat.len());
        }
    }
}
