//! Accumulates the gradients of micro-batches in place and clips them by their global norm (arXiv:1211.5063), without
//! reading anything from the device.

use crate::{
    kernels::{Mode, accumulate, adamw::sum_of_squares},
    model::parameters::FlatTensor,
};
use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::{Device, Tensor},
};

/// Returns `loss`, `[1]`, whose backward pass adds its gradients to those of the micro-batches before it. They are moved,
/// so that they are added to in place.
pub fn carry<M: Module>(model: &M, loss: Tensor<1>, gradients: Option<GradientsParams>) -> Tensor<1> {
    struct Carry(Tensor<1>, GradientsParams);
    impl ModuleVisitor for Carry {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.1.remove::<D>(param.id) {
                self.0 = accumulate::carry(self.0.clone(), param.val(), gradient);
            }
        }
    }
    match gradients {
        None => loss,
        Some(gradients) => {
            let mut carry = Carry(loss, gradients);
            model.visit(&mut carry);
            carry.0
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
