//! Initial weights. They are drawn on the host, so that every device starts from the same numbers.

use super::parameters::ParameterRole;
use crate::{
    config::{Init, ModelConfig},
    kernels::Mode,
};
use burn::{
    module::{Param, ParamId},
    tensor::{Device, Tensor, TensorData},
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// Makes parameters in the order in which the model asks for them.
pub(crate) struct Initializer<'a> {
    /// Generator of the initial weights. With `None`, nothing is drawn, and parameters are not allocated
    /// before they are used.
    rng: Option<ChaCha8Rng>,
    /// Whether tables that are not trained are allocated.
    has_tables: bool,
    device: &'a Device,
    /// Whether layers use fused kernels.
    pub mode: Mode,
    /// Standard deviation of ordinary weights.
    pub std: f64,
    /// Standard deviation of projections back into the residual stream.
    pub residual_std: f64,
    /// Whether the parameters made now belong to a block.
    is_in_block: bool,
    roles: BTreeMap<ParamId, ParameterRole>,
}

impl<'a> Initializer<'a> {
    pub fn new(config: &ModelConfig, mode: Mode, seed: u64, device: &'a Device) -> Self {
        let std = config.init_std;
        let residual_std = match config.init {
            Init::Gpt2 => std / (2.0 * config.n_layer as f64).sqrt(),
            Init::Llama => std,
        };
        let rng = Some(ChaCha8Rng::seed_from_u64(seed));
        Self { rng, std, residual_std, ..Self::deferred(mode, device) }
    }

    /// Initializer of a model whose parameters will be loaded. All of them are zeros, which take no memory
    /// until they are used.
    pub fn deferred(mode: Mode, device: &'a Device) -> Self {
        let (std, residual_std) = (0.0, 0.0);
        let (is_in_block, roles) = (false, BTreeMap::new());
        Self { rng: None, has_tables: true, device, mode, std, residual_std, is_in_block, roles }
    }

    /// Initializer of a model on the meta device, whose parameters only have shapes.
    pub fn meta(device: &'a Device) -> Self {
        Self { has_tables: false, ..Self::deferred(Mode::default(), device) }
    }

    /// Makes the parameters of a block, whose matrices get the role [`ParameterRole::Matrix`].
    pub fn in_block<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> T {
        self.is_in_block = true;
        let made = make(self);
        self.is_in_block = false;
        made
    }

    /// Roles of the parameters that were made.
    pub fn into_roles(self) -> BTreeMap<ParamId, ParameterRole> {
        self.roles
    }

    fn declared<const D: usize>(&mut self, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let role = match (D, self.is_in_block) {
            (1, _) => ParameterRole::Vector,
            (2, true) => ParameterRole::Matrix,
            (_, true) => ParameterRole::Experts,
            (_, false) => ParameterRole::Embedding,
        };
        self.roles.insert(parameter.id, role);
        parameter
    }

    /// Parameter drawn from a normal distribution with mean 0 and standard deviation `std`.
    pub fn normal<const D: usize>(&mut self, shape: [usize; D], std: f64) -> Param<Tensor<D>> {
        let Some(rng) = &mut self.rng else {
            return self.zeros(shape);
        };
        let count = shape.iter().product();
        let mut values = Vec::with_capacity(count + 1);
        while values.len() < count {
            let (a, b) = normal_pair(rng);
            values.extend([(a * std) as f32, (b * std) as f32]);
        }
        values.truncate(count);
        self.declared(Param::from_data(TensorData::new(values, shape), self.device))
    }

    pub fn constant<const D: usize>(&mut self, shape: [usize; D], value: f32) -> Param<Tensor<D>> {
        if self.rng.is_none() {
            return self.zeros(shape);
        }
        let data = TensorData::new(vec![value; shape.iter().product()], shape);
        self.declared(Param::from_data(data, self.device))
    }

    /// Table that is not trained; `None` for a model that is never run.
    pub fn table(&self, shape: [usize; 2], values: impl FnOnce() -> Vec<f32>) -> Option<Tensor<2>> {
        self.has_tables.then(|| Tensor::from_data(TensorData::new(values(), shape), self.device))
    }

    fn zeros<const D: usize>(&mut self, shape: [usize; D]) -> Param<Tensor<D>> {
        let zeros = move |device: &Device, require_grad: bool| {
            Tensor::zeros(shape, device).set_require_grad(require_grad)
        };
        let device = self.device.clone();
        self.declared(Param::uninitialized(ParamId::new(), zeros, device, true, shape.into()))
    }
}

/// Two independent standard normal numbers (Box and Muller, 1958).
pub(crate) fn normal_pair(rng: &mut ChaCha8Rng) -> (f64, f64) {
    let radius = (-2.0 * uniform(rng).ln()).sqrt();
    let angle = std::f64::consts::TAU * uniform(rng);
    (radius * angle.cos(), radius * angle.sin())
}

/// A number between 0 and 1.
pub(crate) fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    // The upper 53 bits, shifted by half a unit so that a logarithm never sees 0.
    ((rng.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_has_the_asked_moments_and_depends_on_the_seed_only() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let draw = |seed| {
            let mut initializer = Initializer::new(&ModelConfig::default(), Mode::Fused, seed, &device);
            initializer.normal([100, 101], 0.5).val().try_into_vec_as::<f32>().unwrap()
        };
        let values = draw(1);
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / values.len() as f32;
        assert!(mean.abs() < 0.02, "{mean}");
        assert!((variance.sqrt() - 0.5).abs() < 0.02, "{variance}");
        assert_eq!(values, draw(1));
        assert_ne!(values, draw(2));
    }
}
