//! Configuration of mixtures of experts.

use crate::section::Range;
use kiln_base::section;

section! {
    /// Experts in the place of the MLP (arXiv:1701.06538).
    #["model.moe"]
    #[derive(Copy)]
    pub struct MoeConfig {
        /// Experts per layer; 0: one plain MLP.
        n_experts: usize = 0, Range::COUNT;
        /// Experts that each token is sent to.
        experts_per_token: usize = 2;
        /// Width inside an expert that every token passes too, through a gate of its own (Qwen2-MoE); absent: there is none.
        shared_expert_inner: Option<usize> = None, Range::SIZE;
        /// Scale the chosen experts' weights to add up to 1.
        normalize: bool = true;
        /// Tokens of a micro-batch that an expert takes at most, as a multiple of an equal share, the rest being
        /// dropped; absent: any number.
        capacity: Option<f64> = None, Range::Positive;
        /// Weight of the load-balancing loss (arXiv:2101.03961), of each micro-batch for itself.
        aux_loss: f64 = 0.0, Range::FromZero;
        /// Weight of the router-z loss (arXiv:2202.08906).
        z_loss: f64 = 0.0, Range::FromZero;
    }
}
