//! The encoder: bidirectional blocks and a head over their hidden states, which predicts masked tokens, a
//! class of the text or of each token, or a number.

use super::{
    Input, Pass,
    init::Initializer,
    layers::{embeddings::Embeddings, linear::Linear, moe::Routing, norm::Norm, stack::Stack},
};
use crate::{
    config::{Activation, Head as HeadKind, ModelConfig, NormPosition, Pooling},
    kernels::{Mode, activation::pointwise, dropout::dropout},
};
use burn::{
    module::{Module, Param},
    tensor::{Bool, Tensor},
};

/// An encoder-only transformer (BERT, ModernBERT).
#[derive(Module, Debug)]
pub struct Encoder {
    pub embeddings: Embeddings,
    pub stack: Stack,
    pub head: Head,
}

/// Head over the encoder's hidden states.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "one a model, and Burn has no modules in boxes")]
pub enum Head {
    LanguageModel(LanguageHead),
    Classifier(Classifier),
}

/// Head that computes logits of the whole vocabulary at each position.
#[derive(Module, Debug)]
pub struct LanguageHead {
    pub transform: Transform,
    /// Output projection, `[n_embd, vocab_size]`; `None` if it is tied to the embedding.
    pub output: Option<Linear>,
    /// Bias of the output projection, `[vocab_size]`.
    pub bias: Param<Tensor<1>>,
}

/// Head that computes logits of classes, or a number, for the text or for each token.
#[derive(Module, Debug)]
pub struct Classifier {
    /// Layer before the output projection.
    pub transform: Option<Transform>,
    #[module(skip)]
    dropout: f64,
    /// Output projection, `[n_embd, classes]`.
    pub output: Linear,
    /// Pooling, for one output for the whole text; `None` for one output per token.
    #[module(skip)]
    pooling: Option<Pooling>,
    #[module(skip)]
    mode: Mode,
}

/// A layer between the last block and the output projection.
#[derive(Module, Debug)]
pub struct Transform {
    /// `[n_embd, n_embd]`
    pub dense: Linear,
    /// Norm after the activation; `None` in BERT's pooler, which ends with a hyperbolic tangent.
    pub norm: Option<Norm>,
    #[module(skip)]
    activation: Activation,
}

impl Encoder {
    pub(super) fn build(config: &ModelConfig, initializer: &mut Initializer) -> Self {
        Self {
            embeddings: Embeddings::init(config, initializer),
            stack: Stack::encoder(config, initializer),
            head: Head::init(config, initializer),
        }
    }

    /// Computes logits of tokens `[B, T]`: `[B, T, vocab_size]`, `[B, T, classes]` or, for the text as a
    /// whole, `[B, 1, classes]`. Also returns the routing of each layer.
    pub fn forward(&self, input: Input) -> (Tensor<3>, Vec<Routing>) {
        let (pass, padding) = (&input.pass(), input.padding.clone());
        let (x, routings) = self.states(input, pass);
        let logits = match &self.head {
            Head::Classifier(classifier) => classifier.forward(x, padding, pass),
            Head::LanguageModel(LanguageHead { transform, output, bias }) => {
                let x = transform.forward(x);
                let logits = match output {
                    Some(output) => output.forward(x),
                    None => self.embeddings.tied_logits(x),
                };
                logits + bias.val().unsqueeze()
            }
        };
        (logits, routings)
    }

    /// Hidden states of the last block for tokens `[B, T]`, `[B, T, n_embd]`, for use as text embeddings.
    pub fn hidden_states(&self, input: Input) -> Tensor<3> {
        let pass = input.pass();
        self.states(input, &pass).0
    }

    fn states(&self, input: Input, pass: &Pass) -> (Tensor<3>, Vec<Routing>) {
        let (positions, mask_inputs) = (input.positions(0), input.mask_inputs());
        let x = self.embeddings.forward(input.tokens, input.token_types, &positions, pass);
        self.stack.forward(x, &positions, &mask_inputs, None, None, pass)
    }
}

impl Head {
    fn init(config: &ModelConfig, initializer: &mut Initializer) -> Self {
        let sizes = |outputs| [config.n_embd, outputs];
        let std = config.init_std;
        let pooling = match config.head {
            HeadKind::LanguageModel => {
                return Self::LanguageModel(LanguageHead {
                    transform: Transform::init(config, true, initializer),
                    output: (!config.tie_embeddings)
                        .then(|| Linear::init(sizes(config.vocab_size), false, std, initializer)),
                    bias: initializer.constant([config.vocab_size], 0.0),
                });
            }
            HeadKind::TokenClassification => None,
            HeadKind::SequenceClassification | HeadKind::Regression => Some(config.pooling),
        };
        Self::Classifier(Classifier {
            transform: has_transform(config)
                .then(|| Transform::init(config, config.norm_position != NormPosition::Post, initializer)),
            dropout: config.dropout,
            output: Linear::init(sizes(config.classes()), true, std, initializer),
            pooling,
            mode: initializer.mode,
        })
    }
}

/// Whether there is a layer between the last block and a classifier's output projection. BERT's token
/// classifier has none.
pub(super) fn has_transform(config: &ModelConfig) -> bool {
    config.norm_position != NormPosition::Post || config.head != HeadKind::TokenClassification
}

impl Classifier {
    /// Computes `[B, T, n_embd]` -> `[B, T or 1, classes]`. `padding`, `[B, T]`, is true for padding.
    fn forward(&self, mut x: Tensor<3>, padding: Option<Tensor<2, Bool>>, pass: &Pass) -> Tensor<3> {
        match self.pooling {
            None => {}
            Some(Pooling::First) => x = x.narrow(1, 0, 1),
            Some(Pooling::Mean) => {
                let [batch, time, _] = x.dims();
                let real = match padding {
                    Some(padding) => padding.bool_not().float(),
                    None => Tensor::ones([batch, time], &x.device()),
                };
                let count = real.clone().sum_dim(1).clamp_min(1.0); // [B, 1]
                let share: Tensor<3> = (real / count).unsqueeze_dim(1); // [B, 1, T]
                x = share.matmul(x);
            }
        }
        if let Some(transform) = &self.transform {
            x = transform.forward(x);
        }
        let x = dropout(x, None, pass.dropout(self.dropout), self.mode);
        self.output.forward(x)
    }
}

impl Transform {
    fn init(config: &ModelConfig, has_norm: bool, initializer: &mut Initializer) -> Self {
        let width = config.n_embd;
        Self {
            dense: Linear::init([width, width], config.bias, config.init_std, initializer),
            norm: has_norm.then(|| Norm::init(config, initializer)),
            activation: config.activation,
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = self.dense.forward(x);
        match &self.norm {
            Some(norm) => norm.forward(pointwise(x, self.activation)),
            None => x.tanh(),
        }
    }
}
