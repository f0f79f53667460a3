//! What a model costs: parameters, floating-point operations, memory. All from the configuration,
//! before anything is built.

use crate::config::{Config, ModelConfig, Norm, NormPosition, OptimizerKind, Position};

/// Trainable parameters.
pub fn parameter_count(model: &ModelConfig) -> usize {
    let (width, inner, bias) = (model.n_embd, model.inner_size(), usize::from(model.bias));
    let qkv = (model.n_head + 2 * model.kv_heads()) * model.head_size();
    let attended = model.n_head * model.head_size();
    let up = if model.activation.is_gated() { 2 * inner } else { inner };
    let linear = |d_input: usize, d_output: usize| d_input * d_output + bias * d_output;
    let norm = width + if model.norm == Norm::Layernorm { bias * width } else { 0 };
    let block =
        linear(width, qkv) + linear(attended, width) + linear(width, up) + linear(inner, width) + 2 * norm;
    let table = model.vocab_size * width;
    let positions = if model.position == Position::Learned { model.block_size * width } else { 0 };
    let last_norm = if model.norm_position == NormPosition::Pre { norm } else { 0 };
    let head = if model.tie_embeddings { 0 } else { table };
    table + positions + model.n_layer * block + last_norm + head
}

/// Floating-point operations per token, forward and backward: 6 per parameter that takes part in a
/// matrix product plus 12 · layers · width · context for attention (PaLM, arXiv:2204.02311, appendix B).
pub fn flops_per_token(model: &ModelConfig) -> f64 {
    let table = model.vocab_size * model.n_embd;
    let positions = if model.position == Position::Learned { model.block_size * model.n_embd } else { 0 };
    // The embedding is looked up, not multiplied; a tied one is multiplied as output projection.
    let looked_up = positions + if model.tie_embeddings { 0 } else { table };
    let attention = model.n_layer * model.n_head * model.head_size() * model.block_size;
    6.0 * (parameter_count(model) - looked_up) as f64 + 12.0 * attention as f64
}

/// Bytes that training needs at least: weights, gradients, optimizer state, and the activations
/// kept for the backward pass of one micro-batch, all f32. A floor, not a promise.
pub fn training_bytes(config: &Config) -> u64 {
    let model = &config.model;
    let moments = match config.train.optimizer {
        OptimizerKind::Adam | OptimizerKind::Adamw => 2,
        OptimizerKind::Sgd | OptimizerKind::Lion | OptimizerKind::Muon => 1,
    };
    let ema = u64::from(config.train.ema_decay > 0.0);
    let weights = parameter_count(model) as u64 * (2 + moments + ema);
    let tokens = (config.train.batch_size * model.block_size) as u64;
    // Per token and block: the inputs of the norms, linear layers and the non-linearity, and the
    // attention weights of every head; then logits and their log-probabilities.
    let gated = if model.activation.is_gated() { 3 } else { 2 };
    let block = 6 * model.n_embd + gated * model.inner_size() + 2 * model.n_head * model.block_size;
    let activations = tokens * (model.n_layer * block + 2 * model.vocab_size) as u64;
    4 * (weights + activations)
}

/// Bytes of the largest single tensor of training, f32: the logits of a micro-batch, the attention
/// weights of a layer, what is inside the MLP, or the embedding. A device has a limit on it.
pub fn largest_tensor_bytes(config: &Config) -> u64 {
    let model = &config.model;
    let tokens = config.train.batch_size as u64 * model.block_size as u64;
    let widths = [
        model.vocab_size as u64,
        (model.n_head as u64).saturating_mul(model.block_size as u64),
        2 * model.inner_size() as u64,
    ];
    let activations = widths.into_iter().map(|width| tokens.saturating_mul(width));
    let table = model.vocab_size as u64 * model.n_embd as u64;
    activations.fold(table, u64::max).saturating_mul(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Activation, presets::Preset},
        model::Decoder,
    };
    use burn::module::Module;

    #[test]
    fn counts_what_the_model_has() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let base = ModelConfig { vocab_size: 65, ..Default::default() };
        let llama = ModelConfig {
            position: Position::Rotary,
            norm: Norm::Rmsnorm,
            activation: Activation::Swiglu,
            n_kv_head: 2,
            tie_embeddings: false,
            ..base.clone()
        };
        let post = ModelConfig { norm_position: NormPosition::Post, bias: true, ..base.clone() };
        for config in [base, llama, post] {
            assert_eq!(
                parameter_count(&config),
                Decoder::init(&config, 0, &device).num_params(),
                "{config:?}"
            );
        }
    }

    #[test]
    fn gpt2_has_124_million_parameters() {
        let mut config = Preset::find("gpt2-124m").unwrap().config().unwrap().model;
        config.vocab_size = 50257;
        assert_eq!(parameter_count(&config), 124_439_808);
    }
}
