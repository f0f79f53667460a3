//! Accumulation of gradients over several backward passes, in place: a pass begins with the gradients of those before
//! it, to which it adds its own one after the other, so that there is never a second set of them.

use super::backend::Differentiable;
use burn::{backend::Dispatch, tensor::Tensor};

/// Returns `loss`, `[1]`, and adds `gradient`, a tensor without autodiff, to the gradient of `parameter` in the backward
/// pass. Gradients that are carried by the last operations before the backward pass are there first.
pub fn carry<const D: usize>(loss: Tensor<1>, parameter: Tensor<D>, gradient: Tensor<D>) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::carry(
        loss.into_dispatch(),
        parameter.into_dispatch(),
        Tensor::from_inner(gradient).into_dispatch(),
    ))
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn gradients_of_passes_add_up_however_often_a_parameter_is_used() {
        let device = Device::flex().autodiff();
        let weight = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, 4.0]], &device).require_grad();
        let unused = Tensor::<1>::from_floats([5.0], &device).require_grad();
        let loss = |factor: f32| weight.clone().sum().mul_scalar(factor) + weight.clone().square().sum();
        let gradient = |loss: Tensor<1>| {
            let mut gradients = loss.backward();
            (weight.grad_remove(&mut gradients).unwrap(), unused.grad_remove(&mut gradients))
        };
        let values = |x: &Tensor<2>| x.clone().into_data().try_to_vec::<f32>().unwrap();
        let (first, _) = gradient(loss(1.0));
        assert_eq!(values(&first), [3.0, 5.0, 7.0, 9.0]);
        let before = Tensor::<1>::from_floats([0.5], &device.clone().inner());
        let carried = carry(carry(loss(10.0), weight.clone(), first), unused.clone(), before);
        assert_eq!(carried.clone().inner().into_scalar::<f32>(), 130.0);
        let (both, of_unused) = gradient(carried);
        assert_eq!(values(&both), [15.0, 19.0, 23.0, 27.0]);
        assert_eq!(of_unused.unwrap().into_scalar::<f32>(), 0.5);
    }
}
