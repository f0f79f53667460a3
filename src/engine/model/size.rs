//! Cost of a model: parameters, floating-point operations, memory. Everything is derived from the
//! configuration, before anything is built.

use super::layout::{self, Layout, Shape, StackLayout};
use crate::config::{Architecture, Config, Head, ModelConfig, Position};

/// Number of parameters; tables of fixed positions are not included.
pub fn parameter_count(model: &ModelConfig) -> usize {
    count(model).try_into().unwrap_or(usize::MAX)
}

/// Number of active parameters per token: of the experts, only those that the token is routed to.
pub fn active_parameter_count(model: &ModelConfig) -> usize {
    let active = model.moe.n_experts.min(model.moe.experts_per_token);
    count_parameters(model, active).try_into().unwrap_or(usize::MAX)
}

/// Number of positions in one optimizer step, padding included.
pub fn tokens_per_step(config: &Config) -> usize {
    let train = &config.train;
    train.batch_size * train.gradient_accumulation_steps * config.model.block_size
}

/// Floating-point operations per token, forward and backward: 6 per parameter that takes part in a matrix
/// product (of the experts, only those that a token is routed to), plus 12 · layers · width · context for
/// attention (PaLM, arXiv:2204.02311, appendix B).
pub fn flops_per_token(model: &ModelConfig) -> f64 {
    let sizes = Sizes::of(model);
    let table = sizes.vocab * sizes.width;
    let positions = if model.position == Position::Learned { sizes.context * sizes.width } else { 0 };
    // The embedding is looked up, not multiplied; a tied one is multiplied as output projection.
    let is_tied = model.tie_embeddings && model.head == Head::LanguageModel;
    let looked_up = positions + if is_tied { 0 } else { table };
    let attention = sizes.layers * sizes.heads * sizes.head_size * sizes.context;
    6.0 * (count_parameters(model, model.moe.n_experts.min(model.moe.experts_per_token)) - looked_up) as f64
        + 12.0 * attention as f64
}

/// Size of the weights in f32, in bytes.
pub fn weight_bytes(model: &ModelConfig) -> u64 {
    clamp(4 * count(model))
}

/// Size of the KV cache for generating one sequence of the longest context in f32, in bytes. With an encoder,
/// this includes the keys and values of an input of the same length.
pub fn kv_cache_bytes(model: &ModelConfig) -> u64 {
    clamp(4 * cached_numbers(model) * model.block_size as u128)
}

/// Number of keys and values that the KV cache keeps for each token of a sequence.
pub(crate) fn cached_numbers(model: &ModelConfig) -> u128 {
    let sizes = Sizes::of(model);
    let kept = match model.architecture {
        Architecture::Encoder => 0,
        Architecture::Decoder => sizes.layers,
        Architecture::EncoderDecoder => 2 * model.decoder_layers() as u128,
    };
    2 * kept * sizes.kv_heads * sizes.head_size
}

/// Size of the tables of fixed positions in f32, in bytes. Learned positions are parameters.
pub fn position_table_bytes(model: &ModelConfig) -> u64 {
    let sizes = Sizes::of(model);
    clamp(match model.position {
        Position::Learned | Position::Relative | Position::Alibi => 0,
        Position::Sinusoidal => 4 * sizes.context * sizes.width,
        // Half as many sines, and as many cosines.
        Position::Rotary => 4 * sizes.context * sizes.head_size,
    })
}

/// Sizes of a validated model, each at most 2²⁴, in a type in which none of the products below overflows.
struct Sizes {
    vocab: u128,
    context: u128,
    layers: u128,
    heads: u128,
    kv_heads: u128,
    head_size: u128,
    width: u128,
}

impl Sizes {
    fn of(model: &ModelConfig) -> Self {
        Self {
            vocab: model.vocab_size as u128,
            context: model.block_size as u128,
            layers: layout::layers(model),
            heads: model.n_head as u128,
            kv_heads: model.kv_heads() as u128,
            head_size: model.head_size() as u128,
            width: model.n_embd as u128,
        }
    }
}

/// Number of parameters, in a type in which sums over several models do not overflow.
pub(crate) fn count(model: &ModelConfig) -> u128 {
    count_parameters(model, model.moe.n_experts)
}

/// Number of parameters that are in tensors of at least `numbers` elements.
pub(crate) fn count_in_tensors(model: &ModelConfig, numbers: u128) -> u128 {
    sum_over_parameters(model, |shape| if shape.count() < numbers { 0 } else { shape.count() })
}

/// Number of parameters if each layer had only `experts` experts.
fn count_parameters(model: &ModelConfig, experts: usize) -> u128 {
    sum_over_parameters(model, |shape| match shape.is_of_experts() {
        true => shape.count() / model.moe.n_experts.max(1) as u128 * experts as u128,
        false => shape.count(),
    })
}

/// Sum of a number of each parameter.
fn sum_over_parameters(model: &ModelConfig, of: impl Fn(&Shape) -> u128) -> u128 {
    // All layers but the first are alike.
    let of_stack = |stack: &StackLayout| {
        let layer = |layer| stack.shapes(layer).iter().map(&of).sum::<u128>();
        layer(0) + layer(1) * (stack.layers as u128).saturating_sub(1)
    };
    let Layout { beside_blocks, stacks } = Layout::of(model);
    beside_blocks.iter().map(&of).sum::<u128>() + stacks.iter().map(of_stack).sum::<u128>()
}

/// A size in bytes; one that no computer has becomes the largest.
pub(crate) fn clamp(size: u128) -> u64 {
    size.try_into().unwrap_or(u64::MAX)
}

/// Size in bytes of the largest single tensor in training, in f32: the logits of a micro-batch, the attention
/// weights of a layer, the activations inside the MLP or of the experts, or a parameter. Devices limit it.
pub fn largest_tensor_bytes(config: &Config) -> u64 {
    let model = &config.model;
    let tokens = config.train.batch_size as u64 * model.block_size as u64;
    let experts_per_token = if model.moe.n_experts > 0 { model.moe.experts_per_token as u64 } else { 1 };
    let widths = [
        model.vocab_size as u64,
        (model.n_head as u64).saturating_mul(model.block_size as u64),
        (2 * model.inner_size() as u64).saturating_mul(experts_per_token),
    ];
    let activations = widths.into_iter().map(|width| tokens.saturating_mul(width));
    activations.fold(largest_parameter(model), u64::max).saturating_mul(4)
}

/// Number of elements of the largest parameter.
fn largest_parameter(model: &ModelConfig) -> u64 {
    let Layout { beside_blocks, stacks } = Layout::of(model);
    let in_blocks = stacks.iter().flat_map(|stack| stack.shapes(0).iter().chain(stack.shapes(1)));
    clamp(beside_blocks.iter().chain(in_blocks).map(Shape::count).max().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Activation, AttentionConfig, MoeConfig, Norm, NormPosition, presets::Preset},
        kernels::Mode,
        model::Model,
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
            n_kv_head: Some(2),
            tie_embeddings: false,
            ..base.clone()
        };
        let gemma = ModelConfig {
            norm_position: NormPosition::Both,
            head_dim: Some(20),
            attention: AttentionConfig { qk_norm: true, qkv_bias: true, ..Default::default() },
            ..llama.clone()
        };
        let experts = ModelConfig {
            moe: MoeConfig { n_experts: 3, shared_expert_inner: Some(24), ..Default::default() },
            ..llama.clone()
        };
        let post = ModelConfig { norm_position: NormPosition::Post, bias: true, ..base.clone() };
        let both = ModelConfig {
            architecture: Architecture::EncoderDecoder,
            position: Position::Relative,
            n_decoder_layer: Some(2),
            ..base.clone()
        };
        let encoder =
            ModelConfig { architecture: Architecture::Encoder, skip_first_norm: true, ..base.clone() };
        for config in [base, llama, gemma, experts, post, both, encoder] {
            assert_eq!(
                parameter_count(&config),
                Model::init(&config, Mode::Fused, 0, &device).num_params(),
                "{config:?}"
            );
            assert_eq!(count_in_tensors(&config, 1), count(&config));
            // The largest is whole among those that count.
            let largest = u128::from(largest_parameter(&config));
            let of_largest = count_in_tensors(&config, largest);
            assert!(of_largest >= largest && of_largest.is_multiple_of(largest), "{config:?}");
        }
    }

    #[test]
    fn gpt2_has_124_million_parameters() {
        let mut config = Preset::find("gpt2-124m").unwrap().config().unwrap().model;
        config.vocab_size = 50257;
        assert_eq!(parameter_count(&config), 124_439_808);
        assert_eq!(weight_bytes(&config), 497_759_232);
        // 12 layers of 1024 keys and as many values, 768 wide.
        assert_eq!(kv_cache_bytes(&config), 75_497_472);
    }

    #[test]
    fn the_largest_sizes_that_are_valid_do_not_overflow() {
        const LARGEST: usize = 1 << 24;
        let model = ModelConfig {
            vocab_size: LARGEST,
            block_size: LARGEST,
            n_layer: LARGEST,
            n_head: LARGEST,
            n_embd: LARGEST,
            n_inner: Some(LARGEST),
            moe: MoeConfig { n_experts: LARGEST, ..Default::default() },
            head_dim: Some(LARGEST),
            ..Default::default()
        };
        assert_eq!(parameter_count(&model), usize::MAX);
        assert!(flops_per_token(&model) > 1e22);
        let model = ModelConfig { position: Position::Sinusoidal, ..model };
        assert_eq!(position_table_bytes(&model), 1 << 50);
    }

    #[test]
    fn the_largest_tensor_may_be_of_experts() {
        let mut config = Config::default();
        config.model.vocab_size = 65;
        config.model.activation = Activation::Swiglu;
        config.model.moe = MoeConfig { n_experts: 64, experts_per_token: 8, ..Default::default() };
        config.train.batch_size = 1;
        config.model.block_size = 8;
        let experts = 64 * config.model.n_embd * 2 * config.model.inner_size();
        assert_eq!(largest_tensor_bytes(&config), 4 * experts as u64);
        config.model.block_size = 64 * config.model.n_embd;
        let inner = 8 * 2 * config.model.inner_size();
        let heads = config.model.n_head * config.model.block_size;
        assert_eq!(largest_tensor_bytes(&config), 4 * (config.model.block_size * inner.max(heads)) as u64);
    }
}
