//! A mixture of experts in place of the MLP (arXiv:1701.06538, arXiv:2101.03961).
//!
//! Only the chosen experts are computed, with shapes that do not depend on the choice, so that nothing is
//! read from the device. Assignments of tokens to experts are sorted by expert into blocks of equal height,
//! each of which belongs to one expert (the idea of MegaBlocks, arXiv:2211.15841). With a capacity, each
//! expert has one block, and assignments that do not fit are dropped.
//!
//! Shape suffixes: N tokens, K experts per token, X experts, A = N K assignments, J blocks, R rows of a
//! block, E width of the residual stream, F width inside an expert.
#![allow(non_snake_case)]

use super::{adapter::StackAdapter, linear::Linear, mlp::Mlp};
use crate::{
    config::{Activation, ModelConfig},
    kernels::{Mode, activation::activate, linear::Prologue, precision::stacked_product, trace::layer},
    model::{Pass, init::Initializer},
};
use burn::{
    module::{Module, Param},
    tensor::{IndexingUpdateOp, Int, Tensor, activation::sigmoid, activation::softmax},
};

/// Maximum number of rows in a block; blocks are smaller if there are few tokens.
const LARGEST_BLOCK: usize = 64;

/// Experts and the router that chooses among them.
#[derive(Module, Debug)]
pub struct Moe {
    /// Projection to the experts' logits, `[E, X]`.
    pub router: Linear,
    /// Up projections of the experts, `[X, E, 2 F]`, the gate's columns first.
    pub up: Param<Tensor<3>>,
    /// Down projections of the experts, `[X, F, E]`.
    pub down: Param<Tensor<3>>,
    /// Changes of the up projections from outside.
    pub up_adapter: Option<StackAdapter>,
    /// Changes of the down projections from outside.
    pub down_adapter: Option<StackAdapter>,
    /// Expert that every token passes through.
    pub shared: Option<Mlp>,
    /// Gate of the shared expert, `[E, 1]`.
    pub shared_gate: Option<Linear>,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    per_token: usize,
    #[module(skip)]
    normalize: bool,
    /// Maximum number of tokens per expert, as a multiple of an equal share; `None` for no limit.
    #[module(skip)]
    capacity: Option<f64>,
    #[module(skip)]
    mode: Mode,
}

/// Decision of a router.
pub struct Routing {
    /// Logits of all experts, `[N, X]`.
    pub logits: Tensor<2>,
    /// Chosen experts, `[N, K]`, the most likely first.
    pub chosen: Tensor<2, Int>,
}

/// Assignment of the tokens' choices to rows of blocks.
struct Plan {
    /// Row of each assignment in the concatenated blocks, `[A]`; dropped assignments have the row after the
    /// last one.
    slots_A: Tensor<1, Int>,
    /// 1 for each assignment that is kept, 0 for one that is dropped, `[A]`.
    kept_A: Option<Tensor<1>>,
    /// Expert of each block, `[J]`; `None` if block j belongs to expert j.
    experts_J: Option<Tensor<1, Int>>,
    blocks: usize,
    rows: usize,
}

impl Moe {
    pub(crate) fn init(config: &ModelConfig, initializer: &mut Initializer) -> Self {
        let (experts, width, inner) = (config.moe.n_experts, config.n_embd, config.inner_size());
        let (std, residual_std) = (initializer.std, initializer.residual_std);
        let shared = config.moe.shared_expert_inner;
        Self {
            // Small differences decide which experts are chosen.
            router: Linear::init([width, experts], false, std, initializer).in_f32(),
            up: initializer.normal([experts, width, inner.saturating_mul(2)], std),
            down: initializer.normal([experts, inner, width], residual_std),
            up_adapter: None,
            down_adapter: None,
            shared: shared.map(|inner| Mlp::of_width(inner, config, initializer)),
            shared_gate: shared.map(|_| Linear::init([width, 1], false, std, initializer)),
            activation: config.activation,
            per_token: config.moe.experts_per_token,
            normalize: config.moe.normalize,
            capacity: config.moe.capacity,
            mode: initializer.mode,
        }
    }

    /// Computes `[B, T, E]` -> `[B, T, E]`. Also returns the routing.
    pub(crate) fn forward(&self, x: impl Into<Prologue<3>>, pass: &Pass) -> (Tensor<3>, Routing) {
        let x = x.into().resolve(self.mode);
        let [batch, time, width] = x.dims();
        let flat = |x: Tensor<3>| -> Tensor<2> { x.reshape([batch * time, width]) };
        let whole = |x_NE: &Tensor<2>| -> Tensor<3> { x_NE.clone().reshape([batch, time, width]) };
        let x_NE = flat(x);
        // A shared expert reads the tokens at another place of the graph than the others: so every gradient is a sum
        // of two, which does not depend on the order in which Burn adds.
        let own_NE = if self.shared.is_some() { flat(whole(&x_NE)) } else { x_NE.clone() };
        let (weights_NK, routing) = self.route(own_NE.clone(), pass.chosen_experts());
        let mut y_NE = self.sparse(own_NE, weights_NK, routing.chosen.clone());
        if let (Some(shared), Some(shared_gate)) = (&self.shared, &self.shared_gate) {
            let x = whole(&x_NE);
            let share = sigmoid(shared_gate.forward(flat(x.clone()))); // [N, 1]
            y_NE = y_NE + flat(shared.forward(x, None, pass)) * share;
        }
        (y_NE.reshape([batch, time, width]), routing)
    }

    /// Chooses experts, unless they have been `chosen` before. Returns the weight of each chosen expert, `[N, K]`,
    /// and the choice.
    fn route(&self, x_NE: Tensor<2>, chosen: Option<Tensor<2, Int>>) -> (Tensor<2>, Routing) {
        let logits = layer("router", None, || self.router.forward(x_NE));
        let probabilities_NX = softmax(logits.clone(), 1);
        let chosen = chosen.unwrap_or_else(|| self.choose(probabilities_NX.clone().detach()));
        let mut weights_NK = probabilities_NX.gather(1, chosen.clone());
        if self.normalize {
            weights_NK = weights_NK.clone() / weights_NK.sum_dim(1);
        }
        (weights_NK, Routing { logits, chosen })
    }

    /// Chooses the experts with the highest probabilities, `[N, X]` -> `[N, K]`.
    fn choose(&self, mut left: Tensor<2>) -> Tensor<2, Int> {
        // One after another: a sort would leave the device.
        let mut chosen = Vec::with_capacity(self.per_token);
        for _ in 0..self.per_token {
            let best = left.clone().argmax(1); // [N, 1]
            let taken = left.zeros_like().scatter(1, best.clone(), best.ones_like().float(), ADD);
            left = left - taken.mul_scalar(2.0);
            chosen.push(best);
        }
        Tensor::cat(chosen, 1)
    }

    fn sparse(&self, x_NE: Tensor<2>, weights_NK: Tensor<2>, chosen_NK: Tensor<2, Int>) -> Tensor<2> {
        let [tokens, width] = x_NE.dims();
        let [_, per_token] = chosen_NK.dims();
        let assignments = tokens * per_token;
        let plan = self.plan(chosen_NK.reshape([assignments]));
        let (blocks, rows) = (plan.blocks, plan.rows);

        // Which token fills each row; a row that none fills takes token 0, and nobody reads it.
        let device = x_NE.device();
        let token_A = Tensor::<1, Int>::arange(0..assignments as i64, &device).div_scalar(per_token as i64);
        let filler = Tensor::<1, Int>::zeros([blocks * rows + 1], &device);
        let token_JR = filler.scatter(0, plan.slots_A.clone(), token_A, ADD).narrow(0, 0, blocks * rows);
        let x_JRE: Tensor<3> = x_NE.select(0, token_JR).reshape([blocks, rows, width]);

        let of_blocks = |stack: Tensor<3>| match &plan.experts_J {
            Some(experts_J) => stack.select(0, experts_J.clone()),
            None => stack,
        };
        let product = |x: Tensor<3>, weight: Tensor<3>, adapter: &Option<StackAdapter>| match adapter {
            None => stacked_product(x, of_blocks(weight), self.mode.precision),
            Some(adapter) => adapter.forward(x, weight, of_blocks, self.mode.precision),
        };
        let inner_JRF = activate(product(x_JRE, self.up.val(), &self.up_adapter), self.activation, self.mode);
        let y_JRE = product(inner_JRF, self.down.val(), &self.down_adapter);

        let slots_A = plan.slots_A.clamp_max((blocks * rows - 1) as i64);
        let y_AE: Tensor<2> = y_JRE.reshape([blocks * rows, width]).select(0, slots_A);
        let mut weights_A: Tensor<1> = weights_NK.reshape([assignments]);
        if let Some(kept_A) = plan.kept_A {
            weights_A = weights_A * kept_A;
        }
        let y_AE = y_AE * weights_A.reshape([assignments, 1]);
        y_AE.reshape([tokens, per_token, width]).sum_dim(1).squeeze_dim(1)
    }

    /// Assigns rows of blocks to assignments, which are given by their experts, `[A]`.
    fn plan(&self, experts_A: Tensor<1, Int>) -> Plan {
        let device = experts_A.device();
        let [assignments] = experts_A.dims();
        let experts = self.up.dims()[0];
        let one_hot_AX = {
            let all = Tensor::<1, Int>::arange(0..experts as i64, &device).unsqueeze::<2>();
            let own: Tensor<2, Int> = experts_A.clone().reshape([assignments, 1]);
            own.equal(all).int()
        };
        // Index of each assignment among those of its expert, from 0.
        let counted_AX = one_hot_AX.clone().cumsum(0);
        let index_A: Tensor<1, Int> =
            (counted_AX.clone() * one_hot_AX).sum_dim(1).sub_scalar(1).reshape([assignments]);

        if let Some(capacity) = self.capacity {
            let rows = (capacity * assignments as f64 / experts as f64).ceil() as usize;
            let rows = rows.clamp(1, assignments);
            let fits = index_A.clone().lower_elem(rows as i64);
            let slots = experts_A.mul_scalar(rows as i64) + index_A;
            let slots_A = slots.mask_fill(fits.clone().bool_not(), (experts * rows) as i64);
            let kept_A = Some(fits.float());
            return Plan { slots_A, kept_A, experts_J: None, blocks: experts, rows };
        }
        let rows = assignments.div_ceil(experts).next_power_of_two().min(LARGEST_BLOCK);
        // However the assignments fall, at most one block of each expert is not full.
        let blocks = assignments / rows + experts;
        let counts_X: Tensor<1, Int> = counted_AX.narrow(0, assignments - 1, 1).reshape([experts]);
        let blocks_X = counts_X.add_scalar(rows as i64 - 1).div_scalar(rows as i64);
        let ends_X = blocks_X.clone().cumsum(0);
        let first_X = (ends_X.clone() - blocks_X).mul_scalar(rows as i64);
        let slots_A = first_X.select(0, experts_A) + index_A;
        let ended_JX = {
            let all: Tensor<2, Int> =
                Tensor::<1, Int>::arange(0..blocks as i64, &device).reshape([blocks, 1]);
            ends_X.unsqueeze::<2>().lower_equal(all).int()
        };
        let experts_J = ended_JX.sum_dim(1).reshape([blocks]).clamp_max(experts as i64 - 1);
        Plan { slots_A, kept_A: None, experts_J: Some(experts_J), blocks, rows }
    }
}

const ADD: IndexingUpdateOp = IndexingUpdateOp::Add;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Init, MoeConfig};
    use burn::tensor::{Device, Distribution, TensorData};

    fn config() -> ModelConfig {
        ModelConfig {
            n_embd: 12,
            n_head: 2,
            n_inner: Some(20),
            moe: MoeConfig { n_experts: 5, experts_per_token: 2, ..Default::default() },
            activation: Activation::Swiglu,
            init: Init::Llama,
            init_std: 0.5,
            ..Default::default()
        }
    }

    /// Reference that computes every expert for every token.
    fn dense_reference(moe: &Moe, x_NE: Tensor<2>) -> Tensor<2> {
        let (weights_NK, routing) = moe.route(x_NE.clone(), None);
        let [tokens, _] = x_NE.dims();
        let experts = moe.up.dims()[0];
        let mixed = Tensor::<2>::zeros([tokens, experts], &x_NE.device());
        let mixed = mixed.scatter(1, routing.chosen, weights_NK, ADD); // [N, X]
        let outputs = (0..experts).map(|expert| {
            let weights = |all: &Param<Tensor<3>>| all.val().narrow(0, expert, 1);
            let inner = activate(
                x_NE.clone().unsqueeze::<3>().matmul(weights(&moe.up)),
                moe.activation,
                Mode::Reference,
            );
            let output: Tensor<2> = inner.matmul(weights(&moe.down)).squeeze_dim(0);
            output * mixed.clone().narrow(1, expert, 1)
        });
        outputs.reduce(|sum, output| sum + output).unwrap()
    }

    fn difference(a: Tensor<2>, b: Tensor<2>) -> f32 {
        (a - b).abs().max().into_scalar::<f32>()
    }

    fn device() -> Device {
        crate::device::Choice::cpu().open().unwrap().autodiff()
    }

    #[test]
    fn sparse_is_dense_forward_and_backward() {
        let device = device();
        for (tokens, experts_per_token, normalize) in
            [(1, 1, false), (3, 2, true), (150, 2, true), (40, 5, false)]
        {
            let mut config = config();
            config.moe = MoeConfig { experts_per_token, normalize, ..config.moe };
            let moe = Moe::init(&config, &mut Initializer::new(&config, Mode::Fused, 7, &device));
            // The same numbers in each run: rounding of gradients of some thousands comes near the bound.
            let numbers: Vec<f32> = (0..tokens * 12).map(|i| 1.4 * (i as f32 * 0.7).sin()).collect();
            let x = Tensor::<2>::from_data(TensorData::new(numbers, [tokens, 12]), &device).require_grad();
            let (weights, routing) = moe.route(x.clone(), None);
            let sparse = moe.sparse(x.clone(), weights, routing.chosen);
            let reference = dense_reference(&moe, x.clone());
            assert!(difference(sparse.clone(), reference.clone()) < 1e-5);
            let ours = sparse.square().sum().backward();
            let theirs = reference.square().sum().backward();
            assert!(difference(x.grad(&ours).unwrap(), x.grad(&theirs).unwrap()) < 1e-3);
            for weights in [&moe.up, &moe.down] {
                let [ours, theirs] = [&ours, &theirs].map(|grads| weights.val().grad(grads).unwrap());
                assert!((ours - theirs).abs().max().into_scalar::<f32>() < 1e-3);
            }
            let router = moe.router.weight.val();
            assert!(difference(router.grad(&ours).unwrap(), router.grad(&theirs).unwrap()) < 1e-3);
        }
    }

    #[test]
    fn a_capacity_that_is_large_enough_drops_nothing_and_a_small_one_the_last_tokens() {
        let device = device();
        let x = Tensor::<2>::random([30, 12], Distribution::Normal(0.0, 1.0), &device);
        let with_capacity = |capacity| {
            let mut config = config();
            config.moe.capacity = Some(capacity);
            let moe = Moe::init(&config, &mut Initializer::new(&config, Mode::Fused, 7, &device));
            let (weights, routing) = moe.route(x.clone(), None);
            (moe.sparse(x.clone(), weights, routing.chosen), dense_reference(&moe, x.clone()))
        };
        let (sparse, reference) = with_capacity(5.0);
        assert!(difference(sparse, reference) < 1e-5);
        let (sparse, reference) = with_capacity(0.5);
        let first = |tensor: Tensor<2>| tensor.narrow(0, 0, 1);
        assert!(difference(first(sparse.clone()), first(reference.clone())) < 1e-5);
        assert!(difference(sparse, reference) > 1e-2);
    }

    #[test]
    fn the_most_likely_experts_are_chosen_in_order() {
        let device = device();
        let moe = Moe::init(&config(), &mut Initializer::new(&config(), Mode::Fused, 1, &device));
        let x = Tensor::<2>::random([9, 12], Distribution::Normal(0.0, 1.0), &device);
        let (_, routing) = moe.route(x, None);
        let logits = routing.logits.into_data().try_into_vec_as::<f32>().unwrap();
        let chosen = routing.chosen.into_data().try_into_vec_as::<i32>().unwrap();
        for (row, chosen) in logits.chunks(5).zip(chosen.chunks(2)) {
            let mut order: Vec<i32> = (0..5).collect();
            order.sort_by(|&a, &b| row[b as usize].total_cmp(&row[a as usize]));
            assert_eq!(order[..2], *chosen);
        }
    }
}
