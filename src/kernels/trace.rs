//! Records what each operation gives in a forward pass, and the gradient that comes back to that place: where two
//! devices begin to differ shows in the first of them.

use burn::tensor::{Gradients, Tensor};
use std::cell::RefCell;

/// Output of one operation.
pub struct Recorded {
    /// Layer that the operation is part of, such as `blocks.0.attention.qkv`.
    pub layer: String,
    /// Operation, such as `linear`.
    pub operation: &'static str,
    pub shape: Vec<usize>,
    /// Values, flattened.
    pub output: Tensor<1>,
    /// Zeros that were added to the output: their gradient is the output's.
    zeros: Tensor<1>,
}

impl Recorded {
    /// Gradient of the output, flattened; `None` if the loss does not depend on it.
    pub fn gradient(&self, gradients: &Gradients) -> Option<Tensor<1>> {
        self.zeros.grad(gradients)
    }
}

/// State of a recording while [`record`] runs.
#[derive(Default)]
struct Trace {
    layers: Vec<String>,
    recorded: Vec<Recorded>,
}

thread_local! {
    static TRACE: RefCell<Option<Trace>> = const { RefCell::new(None) };
}

/// Runs a forward pass on an autodiff device, and returns what it computed and the operations in order.
pub fn record<T>(forward: impl FnOnce() -> T) -> (T, Vec<Recorded>) {
    TRACE.set(Some(Trace::default()));
    let computed = forward();
    (computed, TRACE.take().map_or_else(Vec::new, |trace| trace.recorded))
}

/// Runs a part of a forward pass under the name of its layer, to which `number` is added if it is one of several.
pub fn layer<T>(name: &str, number: Option<usize>, work: impl FnOnce() -> T) -> T {
    let traced = TRACE.with_borrow_mut(|trace| match trace {
        Some(trace) => {
            trace.layers.push(number.map_or_else(|| name.to_owned(), |number| format!("{name}.{number}")));
            true
        }
        None => false,
    });
    let result = work();
    if traced {
        TRACE.with_borrow_mut(|trace| trace.as_mut().map(|trace| trace.layers.pop()));
    }
    result
}

/// Records an output, if a pass is being recorded.
pub(crate) fn output<const D: usize>(operation: &'static str, x: Tensor<D>) -> Tensor<D> {
    TRACE.with_borrow_mut(|trace| {
        let Some(trace) = trace else { return x };
        let shape = x.dims();
        let zeros = Tensor::<1>::zeros([x.shape().num_elements()], &x.device()).require_grad();
        let x = x + zeros.clone().reshape(shape);
        trace.recorded.push(Recorded {
            layer: trace.layers.join("."),
            operation,
            shape: shape.into(),
            output: x.clone().inner().flatten(0, D - 1),
            zeros,
        });
        x
    })
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn outputs_and_their_gradients_are_recorded_by_layer() {
        let device = Device::flex().autodiff();
        let forward = || {
            let x = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, 4.0]], &device);
            let x = layer("blocks", Some(1), || layer("mlp", None, || output("linear", x.mul_scalar(2.0))));
            output("norm", x.clone() * x).sum()
        };
        let (loss, recorded) = record(forward);
        let names: Vec<_> = recorded.iter().map(|one| (one.layer.as_str(), one.operation)).collect();
        assert_eq!(names, [("blocks.1.mlp", "linear"), ("", "norm")]);
        let gradients = loss.backward();
        let values = |tensor: Tensor<1>| tensor.into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(values(recorded[0].output.clone()), [2.0, 4.0, 6.0, 8.0]);
        assert_eq!(values(recorded[0].gradient(&gradients).unwrap()), [4.0, 8.0, 12.0, 16.0]);
        assert_eq!(values(recorded[1].gradient(&gradients).unwrap()), [1.0; 4]);
        assert!(record(|| ()).1.is_empty());
        forward();
        assert!(record(|| ()).1.is_empty());
    }
}
