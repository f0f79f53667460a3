//! Accumulates the gradients of micro-batches and clips them by their global norm (arXiv:1211.5063), without
//! reading anything from the device.

use crate::{
    kernels::{Mode, adamw::sum_of_squares},
    model::parameters::FlatTensor,
};
use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::{Device, Tensor},
};

/// Adds `new` to `total`, parameter by parameter.
pub fn accumulate<M: Module>(
    model: &M,
    total: Option<GradientsParams>,
    new: GradientsParams,
) -> GradientsParams {
    struct Add(GradientsParams, GradientsParams);
    impl ModuleVisitor for Add {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let sum = match (self.0.remove::<D>(param.id), self.1.remove::<D>(param.id)) {
                (Some(old), Some(new)) => old + new,
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => return,
            };
            self.0.register(param.id, sum);
        }
    }
    match total {
        None => new,
        Some(total) => {
            let mut add = Add(total, new);
            model.visit(&mut add);
            add.0
        }
    }
}

/// Euclidean norm of all gradients together, `[1]`.
pub fn global_norm<M: Module>(
    model: &M,
    gradients: &GradientsParams,
    device: &Device,
    mode: Mode,
) -> Tensor<1> {
    struct Squares<'a>(&'a GradientsParams, Vec<Tensor<1>>, Mode);
    impl ModuleVisitor for Squares<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.get::<D>(param.id) {
                self.1.push(sum_of_squares(FlatTensor::from_tensor(gradient).values, self.2));
            }
        }
    }
    let mut squares = Squares(gradients, Vec::new(), mode);
    model.visit(&mut squares);
    match squares.1.is_empty() {
        true => Tensor::zeros([1], device),
        false => Tensor::cat(squares.1, 0).sum().sqrt(),
    }
}

/// Factor, at most 1, that reduces `norm` to `limit`, `[1]`.
pub fn clip_factor(norm: Tensor<1>, limit: f64) -> Tensor<1> {
    // The epsilon of torch.nn.utils.clip_grad_norm_.
    norm.add_scalar(1e-6).recip().mul_scalar(limit).clamp_max(1.0)
}
