//! Blocks, or their feed-forward layers, that are computed again in the backward pass: with the same random numbers
//! of dropout, and the same choice of experts. `transform` says which.

use super::{
    attention::StackContext,
    block::{Block, Memory},
    moe::Routing,
};
use crate::{
    config::PartOfBlock,
    kernels::{
        Mode,
        recompute::{Inputs, Outputs, recompute},
    },
    model::Pass,
};
use burn::tensor::Tensor;

/// Computes a block like [`Block::forward`], of which `part` is computed again in the backward pass.
pub(super) fn forward(
    part: PartOfBlock,
    block: &Block,
    x: Tensor<3>,
    context: &StackContext,
    memory: Option<&Memory>,
    pass: &Pass,
    mode: Mode,
) -> (Tensor<3>, Option<Routing>) {
    if part == PartOfBlock::FeedForward {
        let x = block.attend(x, context, memory, None, pass);
        let inputs = Inputs { x, memory: None, bias: None };
        return again(block, inputs, pass, mode, |block, inputs, pass| block.feed_forward(inputs.x, pass));
    }
    let states = memory.map(|memory| memory.states.clone());
    let padding = memory.and_then(|memory| memory.padding.clone());
    let inputs = Inputs { x, memory: states, bias: context.bias.clone() };
    let context = context.without_bias();
    again(block, inputs, pass, mode, move |block, Inputs { x, memory, bias }, pass| {
        let context = context.clone().with_bias(bias);
        let memory = memory.map(|states| Memory { states, padding: padding.clone() });
        block.forward(x, &context, memory.as_ref(), None, pass)
    })
}

/// Computes something of a block, and lets it be computed again.
fn again(
    block: &Block,
    inputs: Inputs,
    pass: &Pass,
    mode: Mode,
    compute: impl Fn(&Block, Inputs, &Pass) -> (Tensor<3>, Option<Routing>) + Send + 'static,
) -> (Tensor<3>, Option<Routing>) {
    let at_start = pass.again();
    let mut chosen = None;
    let Outputs { y, beside } = recompute(block, inputs, mode, |block, inputs| {
        let (y, routing) = compute(block, inputs, pass);
        let (logits, experts) = routing.map(|routing| (routing.logits, routing.chosen)).unzip();
        chosen = experts.clone();
        let replay = move |block: &Block, inputs: Inputs| {
            let (y, routing) = compute(block, inputs, &at_start.with_chosen_experts(experts));
            Outputs { y, beside: routing.map(|routing| routing.logits) }
        };
        (Outputs { y, beside: logits }, replay)
    });
    (y, beside.zip(chosen).map(|(logits, chosen)| Routing { logits, chosen }))
}
