//! One layer of a transformer: attention, then an MLP or a mixture of experts.

use super::{
    attention::{Attention, Context},
    kv_cache::KvCache,
    mlp::Mlp,
    moe::{Moe, Routing},
    norm::Norm,
};
use crate::{
    config::{ModelConfig, NormPosition},
    model::init::Initializer,
};
use burn::{
    module::Module,
    nn::{Dropout, DropoutConfig},
    tensor::{Bool, Tensor},
};

/// Attention and MLP, each with a norm and a residual connection.
#[derive(Module, Debug)]
pub struct Block {
    pub attention_norm: Norm,
    pub attention: Attention,
    /// Of what attention gives, where blocks normalize on both sides.
    pub attention_output_norm: Option<Norm>,
    pub mlp_norm: Norm,
    pub mlp: FeedForward,
    /// Of what the MLP gives, where blocks normalize on both sides.
    pub mlp_output_norm: Option<Norm>,
    dropout: Dropout,
    #[module(skip)]
    pub(crate) norm_position: NormPosition,
    #[module(skip)]
    slides: bool,
}

/// What follows attention.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "one a layer, and Burn has no modules in boxes")]
pub enum FeedForward {
    Dense(Mlp),
    Experts(Moe),
}

impl Block {
    pub(crate) fn init(config: &ModelConfig, layer: usize, initializer: &mut Initializer) -> Self {
        let both = config.norm_position == NormPosition::Both;
        Self {
            attention_norm: Norm::init(config, initializer),
            attention: Attention::init(config, initializer),
            attention_output_norm: both.then(|| Norm::init(config, initializer)),
            mlp_norm: Norm::init(config, initializer),
            mlp: if config.has_experts() {
                FeedForward::Experts(Moe::init(config, initializer))
            } else {
                FeedForward::Dense(Mlp::init(config, initializer))
            },
            mlp_output_norm: both.then(|| Norm::init(config, initializer)),
            dropout: DropoutConfig::new(config.dropout).init(),
            norm_position: config.norm_position,
            slides: config.slides(layer),
        }
    }

    /// What the queries of this block must not look at.
    pub(crate) fn hidden(&self, context: &Context) -> Option<Tensor<4, Bool>> {
        if self.slides { context.hidden_by_window.clone() } else { context.hidden.clone() }
    }

    /// `[B, T, E]` -> `[B, T, E]`, and what the router decided, if there is one.
    pub fn forward(
        &self,
        x: Tensor<3>,
        context: &Context,
        cache: Option<(&mut KvCache, usize)>,
    ) -> (Tensor<3>, Option<Routing>) {
        let mut routing = None;
        let attention = |x| {
            let y = self.attention.forward(x, context.rotation.as_ref(), self.hidden(context), cache);
            self.dropout.forward(normalized(&self.attention_output_norm, y))
        };
        let mut mlp = |x| {
            let y = match &self.mlp {
                FeedForward::Dense(mlp) => mlp.forward(x),
                FeedForward::Experts(moe) => {
                    let (y, decided) = moe.forward(x);
                    routing = Some(decided);
                    y
                }
            };
            self.dropout.forward(normalized(&self.mlp_output_norm, y))
        };
        let x = match self.norm_position {
            NormPosition::Pre | NormPosition::Both => {
                let x = x.clone() + attention(self.attention_norm.forward(x));
                x.clone() + mlp(self.mlp_norm.forward(x))
            }
            NormPosition::Post => {
                let x = self.attention_norm.forward(x.clone() + attention(x));
                self.mlp_norm.forward(x.clone() + mlp(x))
            }
        };
        (x, routing)
    }
}

fn normalized(norm: &Option<Norm>, x: Tensor<3>) -> Tensor<3> {
    match norm {
        Some(norm) => norm.forward(x),
        None => x,
    }
}
