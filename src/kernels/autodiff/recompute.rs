//! A part of a model as one operation of the graph, whose backward pass computes the part again. The gradients of
//! its parameters go to their leaves directly: an operation has a fixed number of parents, a part any number of
//! parameters, and a leaf needs no step of its own.

use super::{Operation, given, record};
use crate::backend::{Kernels, Optional};
use burn::{
    backend::{
        Autodiff, Backend, BackendTensor, DispatchAutodiffContext, DispatchKindConversion, DispatchTensor,
        DispatchTensorKind, ExtensionType, TensorMetadata,
        autodiff::{
            NodeId,
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        backend_extension,
        tensor::FloatTensor,
    },
    tensor::Shape,
};
use std::{
    fmt::{self, Debug, Formatter},
    sync::{Arc, Mutex, PoisonError},
};

/// Number of parents of a part in the graph.
pub const PARENTS: usize = 4;

/// Float tensors of any number and shapes.
#[derive(Debug, Clone)]
pub struct Tensors<B: Backend>(pub Vec<FloatTensor<B>>);

impl<B: Backend> ExtensionType<B> for Tensors<B> {
    type Target = Tensors<burn::backend::Dispatch>;

    fn map_to_dispatch<F>(self, map_kind: F, autodiff: DispatchAutodiffContext) -> Self::Target
    where
        F: Fn(BackendTensor<B>) -> DispatchTensorKind,
    {
        let mapped = |tensor| DispatchTensor { kind: map_kind(BackendTensor::Float(tensor)), autodiff };
        Tensors(self.0.into_iter().map(mapped).collect())
    }

    fn map_from_dispatch<F>(target: Self::Target, unwrap_kind: F) -> Self
    where
        F: Fn(DispatchTensor) -> BackendTensor<B>,
    {
        Self(target.0.into_iter().map(|tensor| unwrap_kind(tensor).float()).collect())
    }

    fn routing_tensor(target: &Self::Target) -> Option<&DispatchTensor> {
        target.0.first()
    }

    fn routing_float_tensor(target: &Self::Target) -> Option<&DispatchTensor> {
        target.0.first()
    }

    fn autodiff_context(target: &Self::Target) -> DispatchAutodiffContext {
        let none = DispatchAutodiffContext::Disabled;
        target.0.iter().fold(none, |context, tensor| context.merge(tensor.autodiff))
    }
}

/// Backward pass of a part: takes the gradients of its output and of its second output, and returns those of its
/// inputs, in their order. All are tensors without autodiff.
pub type Replay =
    Box<dyn FnOnce(DispatchTensor, Option<DispatchTensor>) -> Vec<Option<DispatchTensor>> + Send>;

/// A part that is computed again.
#[derive(Clone)]
pub struct Part {
    /// Indices of the inputs that are its parents in the graph. An index may be there several times.
    parents: [usize; PARENTS],
    replay: Arc<Mutex<Option<Replay>>>,
    /// Gradient of the second output, which arrives before that of the first.
    beside: Arc<Mutex<Option<DispatchTensor>>>,
}

impl Debug for Part {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("parents", &self.parents).finish_non_exhaustive()
    }
}

impl Part {
    pub fn new(parents: [usize; PARENTS], replay: Replay) -> Self {
        Self { parents, replay: Arc::new(Mutex::new(Some(replay))), beside: Arc::default() }
    }

    /// Runs the backward pass, once.
    fn backward(&self, dy: DispatchTensor) -> Vec<Option<DispatchTensor>> {
        let replay = self.replay.lock().unwrap_or_else(PoisonError::into_inner).take();
        let beside = self.beside.lock().unwrap_or_else(PoisonError::into_inner).take();
        replay.map_or_else(Vec::new, |replay| replay(dy, beside))
    }
}

/// Operations that recomputation is made of.
#[backend_extension(Flex: cfg(feature = "flex"), Cube: cfg(feature = "cube"), Autodiff)]
pub trait Recompute: Backend {
    /// Returns `y`, the output of a part. Its gradient goes to `inputs` by the backward pass of `part`.
    fn recomputed(
        y: FloatTensor<Self>,
        #[extension_type] inputs: Tensors<Self>,
        part: Part,
    ) -> FloatTensor<Self> {
        let _ = (inputs, part);
        y
    }

    /// Returns the second output of `part`, whose first one is `y`.
    fn recomputed_beside(beside: FloatTensor<Self>, y: FloatTensor<Self>, part: Part) -> FloatTensor<Self> {
        let _ = (y, part);
        beside
    }

    /// Returns a number, `[1]`, whose backward pass gives `y` the gradient `dy`, and the second output its own.
    fn with_gradients(
        y: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        #[extension_type] beside: Optional<Self>,
        #[extension_type] d_beside: Optional<Self>,
    ) -> FloatTensor<Self> {
        let _ = (dy, beside, d_beside);
        Self::float_zeros(Shape::new([1]), &y.device(), y.dtype().into())
    }

    /// Returns `x` as a new place of the graph.
    fn link(x: FloatTensor<Self>) -> FloatTensor<Self> {
        x
    }
}

#[cfg(feature = "flex")]
impl Recompute for burn::backend::Flex {}
#[cfg(feature = "cube")]
impl Recompute for burn::backend::Cube {}

impl<B: Kernels, C: CheckpointStrategy> Recompute for Autodiff<B, C>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    fn recomputed(y: FloatTensor<Self>, inputs: Tensors<Self>, part: Part) -> FloatTensor<Self> {
        let Tensors(inputs) = inputs;
        let parents = part.parents.map(|index| inputs[index].node());
        let tracked = inputs.iter().map(|input| input.is_tracked().then(|| input.id())).collect();
        let y = y.into_primitive();
        match Backward::<B, PARENTS>::prepare::<C>(Recomputed, parents).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(Saved { inputs: tracked, part }, y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }

    fn recomputed_beside(beside: FloatTensor<Self>, y: FloatTensor<Self>, part: Part) -> FloatTensor<Self> {
        let beside = beside.into_primitive();
        match Backward::<B, 1>::prepare::<C>(Beside, [y.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(part, beside),
            OpsKind::UnTracked(prepared) => prepared.finish(beside),
        }
    }

    fn with_gradients(
        y: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        beside: Optional<Self>,
        d_beside: Optional<Self>,
    ) -> FloatTensor<Self> {
        let gradients =
            (dy.into_primitive(), d_beside.into_option().map(|gradient| gradient.into_primitive()));
        record::<B, C, WithGradients, 2>(
            y,
            |y| [Some(y), beside.into_option()],
            |[y, _], _| {
                let y = given(y);
                (B::float_zeros(Shape::new([1]), &y.device(), y.dtype().into()), gradients)
            },
        )
    }

    fn link(x: FloatTensor<Self>) -> FloatTensor<Self> {
        record::<B, C, Link, 1>(x, |x| [Some(x)], |[x], _| (given(x), ()))
    }
}

#[derive(Debug)]
struct Recomputed;

#[derive(Debug, Clone)]
struct Saved {
    /// Nodes of the inputs that get a gradient.
    inputs: Vec<Option<NodeId>>,
    part: Part,
}

impl<B: Kernels> Backward<B, PARENTS> for Recomputed
where
    DispatchTensor: DispatchKindConversion<B>,
{
    type State = Saved;

    fn backward(self, ops: Ops<Saved, PARENTS>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let Saved { inputs, part } = ops.state;
        let dy = gradients.consume::<B>(&ops.node);
        for (input, gradient) in inputs.into_iter().zip(part.backward(to_dispatch::<B>(dy))) {
            if let (Some(input), Some(gradient)) = (input, gradient) {
                gradients.register::<B>(input, from_dispatch::<B>(gradient));
            }
        }
    }
}

/// The first output is the parent of the second, so that its step comes after this one.
#[derive(Debug)]
struct Beside;

impl<B: Kernels> Backward<B, 1> for Beside
where
    DispatchTensor: DispatchKindConversion<B>,
{
    type State = Part;

    fn backward(self, ops: Ops<Part, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = to_dispatch::<B>(gradients.consume::<B>(&ops.node));
        *ops.state.beside.lock().unwrap_or_else(PoisonError::into_inner) = Some(gradient);
    }
}

#[derive(Debug)]
struct WithGradients;

impl<B: Kernels> Operation<B, 2> for WithGradients {
    /// Gradients of both outputs.
    type Saved = (FloatTensor<B>, Option<FloatTensor<B>>);

    fn backward(
        (dy, d_beside): Self::Saved,
        _: FloatTensor<B>,
        needed: [bool; 2],
    ) -> [Option<FloatTensor<B>>; 2] {
        [needed[0].then_some(dy), d_beside.filter(|_| needed[1])]
    }
}

#[derive(Debug)]
struct Link;

impl<B: Kernels> Operation<B, 1> for Link {
    type Saved = ();

    fn backward((): (), dy: FloatTensor<B>, _: [bool; 1]) -> [Option<FloatTensor<B>>; 1] {
        [Some(dy)]
    }
}

fn to_dispatch<B: Backend>(tensor: FloatTensor<B>) -> DispatchTensor
where
    DispatchTensor: DispatchKindConversion<B>,
{
    <DispatchTensor as DispatchKindConversion<B>>::from_backend(BackendTensor::Float(tensor))
}

fn from_dispatch<B: Backend>(tensor: DispatchTensor) -> FloatTensor<B>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    match <DispatchTensor as DispatchKindConversion<B>>::try_into_backend(tensor) {
        Ok(tensor) => tensor.float(),
        Err(message) => unreachable!("a gradient is on the device of its tensor: {message}"),
    }
}
