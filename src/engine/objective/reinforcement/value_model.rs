//! The value model of PPO, which predicts the return of an unfinished answer before each of its tokens. It is
//! a decoder of its own with a head, or a head on the policy's states.

use crate::model::{
    Decoder, Input, Output,
    layers::output::{Projection, flat},
};
use burn::{
    module::{Module, Param},
    tensor::{Int, Tensor},
};

/// Modules that an objective trains beside the model. Their parameters are named by field, for example
/// `value.head`.
#[derive(Module, Debug)]
pub struct Companion {
    pub value: ValueModel,
}

/// A value model.
#[derive(Module, Debug)]
pub struct ValueModel {
    /// Decoder of its own, whose output projection is not used; `None` for the states of the policy.
    pub body: Option<Decoder>,
    /// Projection of a state to its value, `[1, n_embd]`.
    pub head: Param<Tensor<2>>,
}

impl ValueModel {
    /// Makes a value model with the weights of its head, `[1, n_embd]` without autodiff. `body` may share its
    /// weights with another model: it gets gradients of its own.
    pub fn new(body: Option<Decoder>, head: Tensor<2>) -> Self {
        let body = body.map(|body| {
            let mut body = body.valid().train();
            // It would be saved and never be trained.
            body.projection.head = None;
            body
        });
        Self { body, head: Param::from_tensor(Tensor::from_inner(head)) }
    }

    /// Values, `[N, 1]`, at `positions`, `[N]`, counted through all rows of the input. `output` is that of the
    /// policy for the input, whose states a value model without a body reads.
    pub fn values(&self, input: Input, output: &Output, positions: &Tensor<1, Int>) -> Tensor<2> {
        let states = match (&self.body, output) {
            (Some(body), _) => flat(body.hidden_states(input)),
            (None, Output::Projection(Projection { states, .. }) | Output::Logits(states)) => states.clone(),
        };
        states.select(0, positions.clone()).matmul(self.head.val().transpose())
    }
}
