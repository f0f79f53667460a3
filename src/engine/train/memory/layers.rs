//! The tape of a model: what each layer saves for the backward pass and computes there, as the fused kernels and the
//! autodiff operations around them do it (`src/kernels/autodiff`). Norms, non-linearities and dropout are computed
//! again and save nothing of their own.
//!
//! Letters: T tokens of a row, N tokens of all rows, E width of the residual stream, H query heads, G key/value heads,
//! D head width, F width inside the MLP, X experts, A assignments of tokens to experts.
#![allow(non_snake_case)]

use super::{
    choices::Choices,
    tape::{Bytes, Group, Operation, Part},
};
use crate::{
    config::{Architecture, Config, Head, ModelConfig, NormPosition, ObjectiveKind, Position, Recompute},
    kernels::Mode,
};

/// Number of logits that the cross entropy has in memory at a time: on the CPU, and elsewhere.
const LOGITS: [u128; 2] = [3 << 20, 1 << 24];

/// Most blocks between two that are computed again that are counted.
const MOST_BLOCKS: u128 = 1 << 10;

/// A micro-batch in a model.
#[derive(Clone)]
pub struct Layers<'a> {
    model: &'a ModelConfig,
    choices: Choices,
    on_cpu: bool,
    is_fused: bool,
    T: u128,
    N: u128,
    E: u128,
    /// Tokens of all rows of the encoder that a decoder attends to.
    memory: u128,
    /// Tokens of a row of the decoder beside an encoder.
    decoder_T: u128,
    /// Width of queries, H D.
    queries: u128,
    /// Width of keys and of values, G D.
    keys: u128,
    F: u128,
    /// Outputs of the up projection: twice F if gated.
    up: u128,
    /// Share of the model's parameters that are trained.
    trained: f64,
    /// Whether the token embedding is trained, and with it a tied output projection.
    trains_output: bool,
}

impl<'a> Layers<'a> {
    /// Micro-batches of `rows` rows that are as long as the context.
    pub fn of(
        config: &Config,
        model: &'a ModelConfig,
        rows: u128,
        trained: f64,
        trains_output: bool,
        on_cpu: bool,
    ) -> Self {
        let [T, decoder_T] = lengths(config, model);
        let head = model.head_size() as u128;
        let F = model.inner_size() as u128;
        Self {
            model,
            choices: Choices::of(config),
            on_cpu,
            is_fused: config.kernels.mode() == Mode::Fused,
            T,
            N: rows * T,
            memory: rows * T,
            decoder_T,
            E: model.n_embd as u128,
            queries: model.n_head as u128 * head,
            keys: model.kv_heads() as u128 * head,
            F,
            up: if model.activation.is_gated() || model.has_experts() { 2 * F } else { F },
            trained,
            trains_output,
        }
    }

    /// All operations of a forward pass with its loss. Without an output projection they end with the hidden states.
    pub fn groups(&self, with_output: bool) -> Vec<Group> {
        let mut groups = vec![self.embedding()];
        groups.extend(self.stack(self.model.n_layer as u128, false));
        let decoder = self.decoder();
        let mut last = self;
        if self.model.architecture == Architecture::EncoderDecoder {
            groups.extend(self.end());
            groups.push(decoder.embedding());
            groups.extend(decoder.stack(self.model.decoder_layers() as u128, true));
            last = &decoder;
        }
        groups.extend(last.end());
        if with_output {
            groups.push(last.output());
        }
        groups
    }

    /// The decoder beside an encoder.
    fn decoder(&self) -> Self {
        let rows = self.N / self.T.max(1);
        Self { T: self.decoder_T, N: rows * self.decoder_T, ..self.clone() }
    }

    /// The norm at the end of a stack, if there is one.
    fn end(&self) -> Option<Group> {
        let has_norm = self.model.norm_position != NormPosition::Post;
        has_norm.then(|| Group::once(self.norm(self.E)))
    }

    /// Size of the logits that are in memory at a time, in bytes.
    pub fn logits(&self) -> u128 {
        4 * self.logit_rows() * self.outputs()
    }

    fn outputs(&self) -> u128 {
        self.model.outputs() as u128
    }

    fn logit_rows(&self) -> u128 {
        if !self.is_fused {
            // Logits, log-probabilities and the gradient of either.
            return 4 * self.N;
        }
        let [on_cpu, elsewhere] = LOGITS.map(|logits| logits / self.outputs().max(1));
        let most = if self.on_cpu { on_cpu.clamp(32, 4096) } else { elsewhere.max(1) };
        // As many chunks, but even ones.
        self.N.div_ceil(self.N.div_ceil(most.min(self.N).max(1)).max(1))
    }

    /// A saved tensor with `width` activations for each token, in the type of the products.
    fn activations(&self, width: u128) -> Bytes {
        Bytes::of(self.choices.activation_bytes(self.on_cpu) * self.N * width)
    }

    /// A tensor with `width` numbers in f32 for each token.
    fn numbers(&self, width: u128) -> Bytes {
        Bytes::of(4 * self.N * width)
    }

    /// The gradient of a matrix.
    fn gradient(&self, numbers: u128) -> Bytes {
        let all = Bytes::of(4 * numbers);
        let of = |bytes: u128| (bytes as f64 * self.trained) as u128;
        Bytes { large: of(all.large), small: of(all.small) }
    }

    /// The residual stream, or its gradient.
    fn stream(&self) -> Bytes {
        self.numbers(self.E)
    }

    fn embedding(&self) -> Group {
        Group::once(Operation { saved: self.numbers(1), backward: self.stream(), ..Default::default() })
    }

    fn norm(&self, width: u128) -> Operation {
        Operation {
            saved: self.numbers(width) + self.numbers(2),
            backward: self.numbers(width) * 2,
            ..Default::default()
        }
    }

    /// A linear layer that reads the residual stream: through its norm if that comes before, otherwise as it is.
    fn reads_stream(&self, outputs: u128) -> Operation {
        let normalizes = self.model.norm_position != NormPosition::Post;
        let statistics = if normalizes { self.numbers(2) } else { Bytes::default() };
        Operation {
            saved: self.stream() + statistics,
            // The gradient of the output; the normalized input, or its gradient and that of the stream.
            backward: self.numbers(outputs) + self.stream() * 3,
            gradients: self.gradient(self.E * outputs),
            ..Default::default()
        }
    }

    /// A linear layer whose input others save.
    fn linear(&self, inputs: u128, outputs: u128) -> Operation {
        Operation {
            backward: self.numbers(outputs) + self.numbers(inputs),
            gradients: self.gradient(inputs * outputs),
            ..Default::default()
        }
    }

    /// The output projection of attention.
    fn projects_values(&self) -> Operation {
        // Attention saves what this reads; in a small type it is another copy.
        let is_copied = self.choices.activation_bytes(self.on_cpu) < 4;
        let saved = if is_copied { self.activations(self.queries) } else { Bytes::default() };
        Operation { saved, ..self.linear(self.queries, self.E) }
    }

    /// Attention, of whose inputs and their gradients the sizes are given. With a bias, which the kernel does not have,
    /// it is made of several operations.
    fn attend(&self, inputs: Bytes, gradient: Bytes, has_bias: bool) -> Operation {
        let heads = self.model.n_head as u128;
        if self.is_fused && !has_bias {
            return Operation {
                saved: inputs + self.activations(self.queries) + self.numbers(heads),
                backward: self.numbers(self.queries) + gradient + self.stream(),
                ..Default::default()
            };
        }
        // The exponentials of the scores and the weights are saved.
        let scores = Bytes::of(4 * self.N * heads * self.T);
        Operation {
            saved: inputs * 2 + scores * 2,
            forward: scores * 2,
            backward: scores * 3 + gradient * 2,
            ..Default::default()
        }
    }

    /// Adds the operations between a layer and its sum with the residual stream, or after the sum.
    fn after(&self, operations: &mut Vec<Operation>) {
        if self.model.norm_position != NormPosition::Pre {
            let norm = self.norm(self.E);
            operations.push(Operation { backward: norm.backward + self.stream(), ..norm });
        }
    }

    fn attention(&self) -> Vec<Operation> {
        let qkv = self.queries + 2 * self.keys;
        let mut operations = vec![self.reads_stream(qkv)];
        let gradient = self.numbers(qkv);
        let turning = Operation { backward: gradient * 2 + self.stream(), ..Default::default() };
        if self.model.attention.qk_norm {
            // Copies of queries and keys, each with its statistics.
            let normed = self.queries + self.keys;
            let heads = (self.model.n_head + self.model.kv_heads()) as u128;
            operations.push(Operation {
                saved: self.numbers(self.queries) + self.numbers(self.keys) + self.numbers(2 * heads),
                backward: self.numbers(normed) * 2 + gradient + self.stream(),
                ..Default::default()
            });
        }
        if self.model.position == Position::Rotary {
            operations.push(turning);
        }
        let has_bias = matches!(self.model.position, Position::Alibi | Position::Relative);
        operations.push(self.attend(self.activations(qkv), gradient, has_bias));
        operations.push(self.projects_values());
        self.after(&mut operations);
        operations
    }

    fn cross_attention(&self) -> Vec<Operation> {
        let of_memory = |bytes: u128, width: u128| Bytes::of(bytes * self.memory * width);
        let keys_and_values = of_memory(self.choices.activation_bytes(self.on_cpu), 2 * self.keys);
        let gradient = of_memory(4, 2 * self.keys);
        let projection = Operation {
            // The gradient of the encoder's output, and what is added to it.
            backward: gradient + of_memory(4, self.E) * 2 + self.stream(),
            gradients: self.gradient(2 * self.E * self.keys),
            ..Default::default()
        };
        let inputs = self.activations(self.queries) + keys_and_values;
        let attend = self.attend(inputs, self.numbers(self.queries) + gradient, false);
        let output = self.projects_values();
        let mut operations = vec![self.reads_stream(self.queries), projection, attend, output];
        self.after(&mut operations);
        operations
    }

    fn mlp(&self) -> Vec<Operation> {
        let mut operations = vec![self.reads_stream(self.up)];
        let down = self.linear(self.F, self.E);
        let mut saved = self.activations(self.up);
        if !self.is_fused {
            // The non-linearity, made of several operations.
            saved += self.numbers(self.F) * 4;
        }
        operations.push(Operation { saved, ..down });
        self.after(&mut operations);
        operations
    }

    /// Experts whose tokens lie in blocks of rows; each block has a copy of its expert's matrices.
    fn experts(&self) -> Vec<Operation> {
        const LARGEST_BLOCK: u128 = 64;
        let moe = &self.model.moe;
        let (X, A) = (moe.n_experts as u128, self.N * moe.experts_per_token as u128);
        let (blocks, rows) = match moe.capacity {
            Some(capacity) => {
                (X, ((capacity * A as f64 / X.max(1) as f64).ceil() as u128).clamp(1, A.max(1)))
            }
            None => {
                let rows = A.div_ceil(X.max(1)).next_power_of_two().min(LARGEST_BLOCK);
                (A / rows + X, rows)
            }
        };
        let copies = if moe.capacity.is_some() { 0 } else { blocks };
        let numbers = |count: u128| Bytes::of(4 * count);
        let matrices = [self.E * self.up, self.F * self.E];
        let [in_rows, up_rows, inner_rows] =
            [self.E, self.up, self.F].map(|width| numbers(blocks * rows * width));
        let norm = self.norm(self.E);
        let router = Operation {
            saved: self.stream() + self.numbers(3 * X),
            backward: self.stream() * 3,
            ..Default::default()
        };
        let product = |saved: Bytes, output: Bytes, input: Bytes, matrix: u128| Operation {
            saved: saved + numbers(copies * matrix),
            backward: output + input + numbers(copies.max(X) * matrix) + self.stream(),
            gradients: self.gradient(X * matrix),
            ..Default::default()
        };
        let up = product(in_rows, up_rows, in_rows, matrices[0]);
        let activation = Operation { saved: up_rows, backward: up_rows + inner_rows, ..Default::default() };
        let down = product(inner_rows, in_rows, inner_rows, matrices[1]);
        let gathered = numbers(A * self.E);
        let sum = Operation {
            saved: gathered + numbers(2 * A),
            backward: gathered * 3 + in_rows + self.stream(),
            ..Default::default()
        };
        let mut operations = vec![norm, router, up, activation, down, sum];
        if let Some(shared) = moe.shared_expert_inner {
            let inner = shared as u128;
            let gated = if self.model.activation.is_gated() { 2 * inner } else { inner };
            operations.push(Operation {
                saved: self.stream() * 2 + self.activations(gated) + self.numbers(2),
                backward: self.stream() * 3 + self.numbers(gated) + self.numbers(inner),
                gradients: self.gradient(self.E * (gated + inner)),
                ..Default::default()
            });
        }
        self.after(&mut operations);
        operations
    }

    /// The blocks of a stack.
    fn stack(&self, layers: u128, crosses: bool) -> Vec<Group> {
        let mut attention = self.attention();
        if crosses {
            attention.extend(self.cross_attention());
        }
        let feed_forward = if self.model.has_experts() { self.experts() } else { self.mlp() };
        let stream = self.stream();
        let every = match self.choices.recompute {
            Recompute::None => {
                let parts = vec![Part::kept([attention, feed_forward].concat())];
                return vec![Group { parts, count: layers }];
            }
            Recompute::Selective => {
                let parts = vec![Part::kept(attention), Part::recomputed(feed_forward, stream)];
                return vec![Group { parts, count: layers }];
            }
            Recompute::Blocks => 1,
            Recompute::Every(n) => (n as u128).clamp(1, layers.max(1)),
        };
        let block = [attention, feed_forward].concat();
        let of = |blocks: u128| {
            let kept = block.repeat((blocks - 1).min(MOST_BLOCKS) as usize);
            vec![Part::recomputed(block.clone(), stream), Part::kept(kept)]
        };
        let rest = (!layers.is_multiple_of(every)).then(|| Group { parts: of(layers % every), count: 1 });
        [Group { parts: of(every), count: layers / every }].into_iter().chain(rest).collect()
    }

    /// The output projection with its loss. Its gradients are computed in the forward pass.
    fn output(&self) -> Group {
        let projects = self.model.head == Head::LanguageModel;
        let gradients =
            if self.trains_output { Bytes::of(4 * self.E * self.outputs()) } else { Bytes::default() };
        let states = self.stream();
        Group::once(Operation {
            saved: states,
            forward: states + Bytes::of(self.logits()),
            backward: states,
            gradients: if projects { gradients } else { Bytes::default() },
            gradients_are_early: projects,
        })
    }
}

/// Tokens of a row of the encoder or the only stack, and of a decoder beside an encoder.
fn lengths(config: &Config, model: &ModelConfig) -> [u128; 2] {
    let T = model.block_size;
    if config.objective_kind() != ObjectiveKind::SpanCorruption {
        return [T as u128; 2];
    }
    // In the place of each span that is cut out stands a token, which stands before the span in the target, too.
    let cut_out = config.objective.mask_fraction * T as f64;
    let spans = cut_out / config.objective.mean_span_length.max(1.0);
    [T as f64 - cut_out + spans, cut_out + spans].map(|tokens| (tokens.ceil() as u128 + 1).min(T as u128))
}
