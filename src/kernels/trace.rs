//! Records what each operation gives in a forward pass, and the gradient that comes back to that place: where two
//! devices begin to differ shows in the first of them. Or it records the inputs of linear layers, for methods that
//! change weights by the text that they see.

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

/// Input of one linear layer, behind its norm or non-linearity.
pub struct LinearInput {
    /// Layer, such as `attention.qkv`.
    pub layer: String,
    /// Values, `[tokens, d_input]`.
    pub input: Tensor<2>,
}

/// State of a recording while [`record`] or [`record_inputs`] runs.
struct Trace {
    layers: Vec<String>,
    recorded: Recording,
}

enum Recording {
    Outputs(Vec<Recorded>),
    Inputs(Vec<LinearInput>),
}

impl Trace {
    fn of(recorded: Recording) -> Option<Self> {
        Some(Self { layers: Vec::new(), recorded })
    }
}

thread_local! {
    static TRACE: RefCell<Option<Trace>> = const { RefCell::new(None) };
}

/// Runs a forward pass on an autodiff device, and returns what it computed and the operations in order.
pub fn record<T>(forward: impl FnOnce() -> T) -> (T, Vec<Recorded>) {
    TRACE.set(Trace::of(Recording::Outputs(Vec::new())));
    let computed = forward();
    match TRACE.take().map(|trace| trace.recorded) {
        Some(Recording::Outputs(recorded)) => (computed, recorded),
        _ => (computed, Vec::new()),
    }
}

/// Runs a forward pass, and returns what it computed and the inputs of all linear layers in order.
pub fn record_inputs<T>(forward: impl FnOnce() -> T) -> (T, Vec<LinearInput>) {
    TRACE.set(Trace::of(Recording::Inputs(Vec::new())));
    let computed = forward();
    match TRACE.take().map(|trace| trace.recorded) {
        Some(Recording::Inputs(inputs)) => (computed, inputs),
        _ => (computed, Vec::new()),
    }
}

/// Whether a forward pass is being recorded.
pub(crate) fn is_recording() -> bool {
    TRACE.with_borrow(Option::is_some)
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
        let Some(Trace { layers, recorded: Recording::Outputs(recorded) }) = trace else { return x };
        let shape = x.dims();
        let zeros = Tensor::<1>::zeros([x.shape().num_elements()], &x.device()).require_grad();
        let x = x + zeros.clone().reshape(shape);
        recorded.push(Recorded {
            layer: layers.join("."),
            operation,
            shape: shape.into(),
            output: x.clone().inner().flatten(0, D - 1),
            zeros,
        });
        x
    })
}

/// Records the input of a linear layer, `[.., d_input]`, if inputs are being recorded.
pub(crate) fn input<const D: usize>(x: impl FnOnce() -> Tensor<D>) {
    let is_recording =
        |trace: &Option<Trace>| matches!(trace, Some(Trace { recorded: Recording::Inputs(_), .. }));
    if !TRACE.with_borrow(is_recording) {
        return;
    }
    let x = x();
    let width = x.dims()[D - 1];
    let input: Tensor<2> = x.reshape([-1, width as i32]);
    TRACE.with_borrow_mut(|trace| {
        if let Some(Trace { layers, recorded: Recording::Inputs(inputs) }) = trace {
            inputs.push(LinearInput { layer: layers.join("."), input });
        }
    });
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

    #[test]
    fn inputs_of_linear_layers_are_recorded_behind_their_prologue() {
        use crate::{
            Mode,
            activation::Activation,
            linear::{Epilogue, Prologue, linear},
        };
        let device = Device::flex();
        let x = Tensor::<3>::from_floats([[[1.0, -2.0]], [[-3.0, 4.0]]], &device);
        let weight = Tensor::<2>::from_floats([[1.0], [1.0]], &device);
        for mode in [Mode::Fused, Mode::Reference] {
            let activated = Prologue::Activated(x.clone(), Activation::Relu);
            let forward = || {
                layer("down", None, || linear(activated, weight.clone(), false, Epilogue::default(), mode))
            };
            let (y, inputs) = record_inputs(forward);
            assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [1.0, 4.0]);
            assert_eq!(inputs.iter().map(|one| one.layer.as_str()).collect::<Vec<_>>(), ["down"]);
            assert_eq!(inputs[0].input.dims(), [2, 2]);
            assert_eq!(
                inputs[0].input.clone().into_data().try_to_vec::<f32>().unwrap(),
                [1.0, 0.0, 0.0, 4.0]
            );
        }
        assert!(record_inputs(|| output("norm", x)).1.is_empty());
    }
}
