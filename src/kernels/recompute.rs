//! Recomputation of activations (arXiv:1604.06174): in the forward pass a part of a model saves only its inputs, and
//! the backward pass computes the part again, this time with all that its own backward pass needs.
//!
//! The first time, a part is computed on the autodiff device with nothing tracked, so that its operations are those
//! of the ordinary forward pass, and what is inside it is released at once. One operation then stands for the part in
//! the graph. Its backward pass makes a graph of its own from leaves with the same values, runs it with the gradient
//! of the part's output, and hands on the gradients of the leaves. Burn allows a backward pass within another as long
//! as they share no node, which is why every tensor that the part reads and that is tracked has to be an input or a
//! parameter. (Burn's own checkpointing computes single element-wise operations again, not parts.)

use super::{
    Mode,
    autodiff::recompute::{PARENTS, Part, Recompute, Tensors},
    optional, trace,
};
use burn::{
    backend::{Dispatch, DispatchTensor},
    module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId},
    tensor::{Gradients, Tensor},
};
use std::collections::BTreeSet;

/// Tensors that a part reads besides its parameters, and through which gradients flow.
#[derive(Clone)]
pub struct Inputs {
    /// States that it continues, `[B, T, E]`.
    pub x: Tensor<3>,
    /// Output of an encoder, `[B, S, E]`.
    pub memory: Option<Tensor<3>>,
    /// Bias of attention scores, `[1, H, T, S]`.
    pub bias: Option<Tensor<4>>,
}

/// Tensors that a part computes, and through which gradients flow.
pub struct Outputs {
    /// States, `[B, T, E]`. The loss depends on them if it depends on any output.
    pub y: Tensor<3>,
    /// A second output, such as the logits of a router, `[N, X]`.
    pub beside: Option<Tensor<2>>,
}

/// Computes a part of a model, and lets it be computed again in the backward pass. `first` computes the outputs and
/// returns the function that does so again, with the same random numbers and choices.
///
/// If nothing is tracked, or operations are being recorded, the part is computed as it always is.
pub fn recompute<M, Again>(
    module: &M,
    mut inputs: Inputs,
    mode: Mode,
    first: impl FnOnce(&M, Inputs) -> (Outputs, Again),
) -> Outputs
where
    M: Module + 'static,
    Again: FnOnce(&M, Inputs) -> Outputs + Send + 'static,
{
    let tracked = inputs.tracked();
    let mut parameters = Tracked::default();
    module.visit(&mut parameters);
    let is_tracked = tracked.contains(&true) || !parameters.ids.is_empty();
    if !is_tracked || trace::is_recording() {
        return first(module, inputs).0;
    }
    let (plain, values) = (module.valid(), inputs.clone().without_autodiff());
    let constant = plain.clone().map(&mut Leaves { tracked: &BTreeSet::new() });
    let (outputs, again) = first(&constant, values.clone().leaves([false; 3]));
    drop(constant);

    let is_fused = mode.fuses(&inputs.x);
    inputs.memory = inputs.memory.map(link);
    let has_parameters = !parameters.ids.is_empty();
    let parents = inputs.parents(is_fused, has_parameters);
    let Tracked { ids, tensors } = parameters;
    let tensors = inputs.into_tensors().chain(tensors).collect();
    let replay = move |dy, d_beside: Option<DispatchTensor>| {
        let module = plain.map(&mut Leaves { tracked: &ids });
        let leaves = values.leaves(tracked);
        let outputs = again(&module, leaves.clone());
        let Some(mut gradients) = backward(outputs, dy, d_beside) else { return Vec::new() };
        let of_inputs = leaves.gradients(&mut gradients);
        let mut found = Found { ids: &ids, gradients: &mut gradients, tensors: of_inputs };
        module.visit(&mut found);
        found.tensors
    };
    let part = Part::new(parents, Box::new(replay));
    let y = Dispatch::recomputed(outputs.y.into_dispatch(), Tensors(tensors), part.clone());
    let beside = outputs
        .beside
        .map(|beside| Dispatch::recomputed_beside(beside.into_dispatch(), y.clone(), part))
        .map(Tensor::from_dispatch);
    Outputs { y: Tensor::from_dispatch(y), beside }
}

/// Backward pass of a part from the gradients of its outputs; `None` if no output is tracked.
fn backward(outputs: Outputs, dy: DispatchTensor, d_beside: Option<DispatchTensor>) -> Option<Gradients> {
    let d_beside = d_beside.map(Tensor::<2>::from_dispatch);
    let (beside, d_beside) = outputs.beside.zip(d_beside).unzip();
    let y = outputs.y.into_dispatch();
    let root = Dispatch::with_gradients(y, dy, optional(beside), optional(d_beside));
    let root = Tensor::<1>::from_dispatch(root);
    root.is_tracked().then(|| root.backward())
}

/// Gives the memory a place in the graph that belongs to one part.
fn link(memory: Tensor<3>) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::link(memory.into_dispatch()))
}

impl Inputs {
    /// Whether each is tracked.
    fn tracked(&self) -> [bool; 3] {
        let Self { x, memory, bias } = self;
        [
            x.is_tracked(),
            memory.as_ref().is_some_and(Tensor::is_tracked),
            bias.as_ref().is_some_and(Tensor::is_tracked),
        ]
    }

    fn without_autodiff(self) -> Self {
        let Self { x, memory, bias } = self;
        Self { x: x.inner(), memory: memory.map(Tensor::inner), bias: bias.map(Tensor::inner) }
    }

    /// Leaves of a new graph with these values. Those that are `tracked` get a gradient.
    fn leaves(self, tracked: [bool; 3]) -> Self {
        let Self { x, memory, bias } = self;
        Self {
            x: x.autodiff().set_require_grad(tracked[0]),
            memory: memory.map(|memory| memory.autodiff().set_require_grad(tracked[1])),
            bias: bias.map(|bias| bias.autodiff().set_require_grad(tracked[2])),
        }
    }

    /// Those that there are, in the order of the fields.
    fn into_tensors(self) -> impl Iterator<Item = DispatchTensor> {
        let Self { x, memory, bias } = self;
        let others = memory.map(Tensor::into_dispatch).into_iter().chain(bias.map(Tensor::into_dispatch));
        [x.into_dispatch()].into_iter().chain(others)
    }

    /// Gradients of leaves, in the order of [`into_tensors`](Self::into_tensors).
    fn gradients(self, gradients: &mut Gradients) -> Vec<Option<DispatchTensor>> {
        let Self { x, memory, bias } = self;
        let mut found = vec![x.grad_remove(gradients).map(Tensor::into_dispatch)];
        found.extend(memory.map(|memory| memory.grad_remove(gradients).map(Tensor::into_dispatch)));
        found.extend(bias.map(|bias| bias.grad_remove(gradients).map(Tensor::into_dispatch)));
        found
    }

    /// Indices of the part's parents among its inputs. One parameter is among them, since without a tracked parent
    /// a part would not be in the graph.
    ///
    /// All layers read the memory, whose gradient is a sum over them. Without recomputation its order follows from
    /// the order in which Burn finds the operations: it goes on with the last parent of an operation first. The
    /// fused linear layer after a cross-attention has the residual last, so that the first layer is found first;
    /// unfused the residual comes first. Parents in the same order give a sum that is the same to the bit.
    fn parents(&self, is_fused: bool, has_parameters: bool) -> [usize; PARENTS] {
        let memory = usize::from(self.memory.is_some());
        let bias = if self.bias.is_some() { memory + 1 } else { 0 };
        let count = 1 + memory + usize::from(self.bias.is_some());
        let parameter = if has_parameters { count } else { 0 };
        if is_fused { [parameter, bias, memory, 0] } else { [0, parameter, bias, memory] }
    }
}

/// Collects the tracked parameters of a module.
#[derive(Default)]
struct Tracked {
    ids: BTreeSet<ParamId>,
    /// The parameters in the order of a visit.
    tensors: Vec<DispatchTensor>,
}

impl ModuleVisitor for Tracked {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        if value.is_tracked() && self.ids.insert(param.id) {
            self.tensors.push(value.into_dispatch());
        }
    }
}

/// Makes the parameters of a module leaves of a new graph. Those that are `tracked` get a gradient.
struct Leaves<'a> {
    tracked: &'a BTreeSet<ParamId>,
}

impl ModuleMapper for Leaves<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let is_tracked = self.tracked.contains(&param.id);
        param.map(|value| value.autodiff().set_require_grad(is_tracked))
    }
}

/// Appends the gradients of the tracked parameters of a module, in the order of a visit.
struct Found<'a> {
    ids: &'a BTreeSet<ParamId>,
    gradients: &'a mut Gradients,
    tensors: Vec<Option<DispatchTensor>>,
}

impl ModuleVisitor for Found<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.ids.contains(&param.id) {
            self.tensors.push(param.val().grad_remove(self.gradients).map(Tensor::into_dispatch));
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::linear::{Epilogue, linear};
    use burn::tensor::{Device, TensorData};
    use std::cell::Cell;

    /// A layer that reads a memory, and gives two outputs.
    #[derive(Module, Debug)]
    struct Layer {
        query: Param<Tensor<2>>,
        memory: Param<Tensor<2>>,
        output: Param<Tensor<2>>,
        bias: Param<Tensor<1>>,
        scores: Param<Tensor<2>>,
    }

    fn numbers<const D: usize>(shape: [usize; D], seed: f32, device: &Device) -> Tensor<D> {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.7 + seed).sin()).collect();
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    fn layer(seed: f32, device: &Device) -> Layer {
        let matrix = |more: f32| Param::from_tensor(numbers([4, 4], seed + more, device));
        let bias = Param::from_tensor(numbers([4], seed, device));
        Layer { query: matrix(0.1), memory: matrix(0.2), output: matrix(0.3), bias, scores: matrix(0.4) }
    }

    impl Layer {
        fn forward(&self, Inputs { x, memory, .. }: Inputs, mode: Mode) -> Outputs {
            let [rows, time, width] = x.dims();
            let plain = |x: Tensor<3>, weight: &Param<Tensor<2>>| {
                linear(x, weight.val(), false, Epilogue::default(), mode)
            };
            let mut inner = plain(x.clone(), &self.query);
            if let Some(memory) = memory {
                inner = inner * plain(memory, &self.memory).mean_dim(1);
            }
            let epilogue = Epilogue { bias: Some(self.bias.val()), residual: Some(x), ..Epilogue::default() };
            let x = linear(inner, self.output.val(), false, epilogue, mode);
            let flat: Tensor<2> = x.clone().tanh().reshape([rows * time, width]);
            let scores = linear(flat.clone(), self.scores.val(), false, Epilogue::default(), mode);
            let y = x + flat.reshape([rows, time, width]);
            Outputs { y, beside: Some(scores) }
        }
    }

    fn bits<const D: usize>(x: Tensor<D>) -> Vec<u32> {
        x.into_data().try_into_vec_as::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
    }

    /// Bits of the loss and of all gradients of some layers, and how often a layer was computed.
    fn outcome(layers: &[Layer], [x, memory]: [bool; 2], again: bool, mode: Mode) -> (Vec<Vec<u32>>, usize) {
        let device = Device::flex().autodiff();
        let first = numbers([2, 3, 4], 0.5, &device).set_require_grad(x);
        let memory = numbers([2, 5, 4], 0.6, &device).set_require_grad(memory);
        let (computed, mut x, mut loss) = (std::sync::Arc::new(Count::default()), first.clone(), None);
        for layer in layers {
            let inputs = Inputs { x, memory: Some(memory.clone()), bias: None };
            let counts = computed.clone();
            let compute = move |layer: &Layer, inputs: Inputs| {
                counts.add();
                layer.forward(inputs, mode)
            };
            let Outputs { y, beside } = match again {
                true => recompute(layer, inputs, mode, |layer, inputs| (compute(layer, inputs), compute)),
                false => compute(layer, inputs),
            };
            let more = beside.map(|beside| beside.square().sum());
            loss = loss.into_iter().chain(more).reduce(|sum: Tensor<1>, more| sum + more);
            x = y;
        }
        let loss = loss.into_iter().fold(x.square().sum(), |sum, more| sum + more);
        let gradients = loss.backward();
        let mut found = vec![bits(loss.inner())];
        found.extend([&first, &memory].into_iter().filter_map(|input| input.grad(&gradients)).map(bits));
        for layer in layers {
            let matrices = [&layer.query, &layer.memory, &layer.output, &layer.scores];
            found.extend(matrices.into_iter().filter_map(|matrix| matrix.val().grad(&gradients)).map(bits));
            found.extend(layer.bias.val().grad(&gradients).map(bits));
        }
        (found, computed.count())
    }

    #[derive(Default)]
    struct Count(std::sync::atomic::AtomicUsize);

    impl Count {
        fn add(&self) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }

        fn count(&self) -> usize {
            self.0.load(std::sync::atomic::Ordering::Relaxed)
        }
    }

    #[test]
    fn gradients_are_equal_to_the_bit() {
        let device = Device::flex().autodiff();
        for mode in [Mode::Fused, Mode::Reference] {
            let layers: Vec<Layer> = (0..4).map(|seed| layer(seed as f32, &device)).collect();
            let frozen: Vec<Layer> = layers.iter().cloned().map(Module::no_grad).collect();
            let mut mixed = layers.clone();
            mixed[1] = frozen[1].clone();
            mixed[2].output = mixed[2].output.clone().set_require_grad(false);
            for (layers, tracked, count) in [
                (&layers, [true, true], 8),
                (&layers, [false, true], 8),
                (&layers, [false, false], 8),
                (&mixed, [true, true], 8),
                (&mixed, [false, false], 8),
                (&frozen, [true, false], 8),
                (&frozen, [false, true], 8),
            ] {
                let (expected, once) = outcome(layers, tracked, false, mode);
                let (found, twice) = outcome(layers, tracked, true, mode);
                assert!(expected.len() > 1);
                assert_eq!(found, expected, "{mode:?}, tracked {tracked:?}");
                assert_eq!((once, twice), (4, count), "{mode:?}, tracked {tracked:?}");
            }
        }
    }

    #[test]
    fn what_is_not_tracked_is_computed_once() {
        let device = Device::flex().autodiff();
        let layer = layer(1.0, &device).no_grad();
        let times = Cell::new(0);
        let x = numbers([2, 3, 4], 0.5, &device);
        let Outputs { y, .. } =
            recompute(&layer, Inputs { x, memory: None, bias: None }, Mode::Fused, |layer, inputs| {
                times.set(times.get() + 1);
                (layer.forward(inputs, Mode::Fused), |layer: &Layer, inputs| {
                    layer.forward(inputs, Mode::Fused)
                })
            });
        assert!(!y.is_tracked());
        assert_eq!(times.get(), 1);
    }
}
