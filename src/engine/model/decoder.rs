//! The decoder-only transformer: embeddings, causal blocks, output projection.

use super::{
    Input, Pass,
    init::Initializer,
    layers::{
        attention::StackContext,
        embeddings::Embeddings,
        kv_cache::KvCache,
        moe::Routing,
        output::{Output, Projection, flat},
        stack::Stack,
    },
};
use crate::{
    config::{Head, ModelConfig},
    kernels::Mode,
};
use burn::{
    module::Module,
    tensor::{Bool, Device, Int, Tensor},
};

/// A decoder-only transformer, such as GPT and Llama.
#[derive(Module, Debug)]
pub struct Decoder {
    pub embeddings: Embeddings,
    pub stack: Stack,
    pub projection: Output,
    /// Whether the tokens of a prompt attend to each other in both directions (prefix attention).
    #[module(skip)]
    prefix_attention: bool,
    /// Whether the output is one number for the text, at its last token (a reward model).
    #[module(skip)]
    pub(super) gives_number: bool,
}

impl Decoder {
    /// Makes a model with weights drawn from `seed`. Training needs an autodiff device.
    pub fn init(config: &ModelConfig, mode: Mode, seed: u64, device: &Device) -> Self {
        Self::build(config, &mut Initializer::new(config, mode, seed, device))
    }

    pub(super) fn build(config: &ModelConfig, initializer: &mut Initializer) -> Self {
        Self {
            embeddings: Embeddings::init(config, initializer),
            stack: Stack::decoder(config, initializer),
            projection: Output::init(config, initializer),
            prefix_attention: config.attention.prefix,
            gives_number: config.head == Head::Regression,
        }
    }

    /// Prepares an input for generation: with prefix attention, the first input is marked as a prefix.
    pub fn prompt(&self, input: Input, cache: &KvCache) -> Input {
        let is_prefix = self.prefix_attention && cache.is_empty();
        let whole = || Tensor::<2, Int>::ones(input.tokens.dims(), &input.tokens.device()).equal_elem(1);
        Input { prefix: is_prefix.then(whole), ..input }
    }

    /// Computes logits `[B, T, vocab_size]` of tokens `[B, T]`; of a reward model, a number for the text up to
    /// each token, `[B, T, 1]`. With a cache, the tokens continue those in it.
    ///
    /// `T` plus the number of cached tokens must not exceed `block_size`, since there are no positions beyond
    /// it.
    pub fn forward(&self, input: impl Into<Input>, cache: Option<&mut KvCache>) -> Tensor<3> {
        self.forward_routed(input, cache).0
    }

    /// Like [`forward`](Self::forward), and also returns the routing of each layer, which is empty without
    /// experts.
    pub fn forward_routed(
        &self,
        input: impl Into<Input>,
        cache: Option<&mut KvCache>,
    ) -> (Tensor<3>, Vec<Routing>) {
        let input = input.into();
        let pass = input.pass();
        let (x, routings) = self.states(input, cache, &pass);
        (self.projection.forward(x, &self.embeddings), routings)
    }

    /// Computes the logits after the last of the tokens `[B, T]`, `[B, 1, vocab_size]`; those after the others are not
    /// computed. The tokens continue those in the cache.
    pub(crate) fn last_logits(&self, input: Input, cache: &mut KvCache) -> Tensor<3> {
        let (pass, [_, time]) = (input.pass(), input.tokens.dims());
        let (states, _) = self.states(input, Some(cache), &pass);
        self.projection.forward(states.narrow(1, time - 1, 1), &self.embeddings)
    }

    /// Output projection of single tokens of `[B, T]`, given by their indices in the B · T tokens. With a cache,
    /// the tokens continue those in it.
    pub(crate) fn project_at(
        &self,
        input: Input,
        cache: Option<&mut KvCache>,
        indices: Tensor<1, Int>,
    ) -> Projection {
        let pass = input.pass();
        let (states, _) = self.states(input, cache, &pass);
        self.projection.project(states, &self.embeddings).select(indices)
    }

    /// Hidden states of the last block, behind the norm, for tokens `[B, T]`, `[B, T, n_embd]`.
    pub fn hidden_states(&self, input: Input) -> Tensor<3> {
        let pass = input.pass();
        self.states(input, None, &pass).0
    }

    /// Embeddings of tokens `[B, T]`, `[B, T, n_embd]`, and the attention context of the blocks, for callers that run
    /// these one by one.
    pub(crate) fn embed(&self, input: Input) -> (Tensor<3>, StackContext) {
        let (pass, positions, mask_inputs) = (input.pass(), input.positions(0), input.mask_inputs());
        let x = self.embeddings.forward(input.tokens, input.token_types, &positions, &pass);
        let context = self.stack.context(&x, 0, &positions, &mask_inputs);
        (x, context)
    }

    /// Number of each text, at its last token that is not padding, `[B, 1]`, and the routing of each layer.
    pub(super) fn numbers(&self, input: Input, pass: &Pass) -> (Tensor<2>, Vec<Routing>) {
        let (padding, [rows, time]) = (input.padding.clone(), input.tokens.dims());
        let (states, routings) = self.states(input, None, pass);
        let last = last_tokens(padding.as_ref(), [rows, time], &states.device());
        let states = flat(states).select(0, last).unsqueeze_dim::<3>(1); // [B, 1, n_embd]
        (self.projection.project(states, &self.embeddings).logits(), routings)
    }

    /// Hidden states before the output projection, `[B, T, n_embd]`, and the routing of each layer.
    pub(super) fn states(
        &self,
        input: Input,
        cache: Option<&mut KvCache>,
        pass: &Pass,
    ) -> (Tensor<3>, Vec<Routing>) {
        let positions = input.positions(cache.as_ref().map_or(0, |cache| cache.len()));
        let mask_inputs = input.mask_inputs();
        let x = self.embeddings.forward(input.tokens, input.token_types, &positions, pass);
        self.stack.forward(x, &positions, &mask_inputs, None, cache, pass)
    }
}

/// Indices of the last token of each row that is not padding, in the B · T tokens, `[B]`. Padding may be on
/// either side.
fn last_tokens(
    padding: Option<&Tensor<2, Bool>>,
    [rows, time]: [usize; 2],
    device: &Device,
) -> Tensor<1, Int> {
    let first = Tensor::<1, Int>::arange(0..rows as i64, device).mul_scalar(time as i64); // [B]
    let last = match padding {
        None => return first.add_scalar(time as i64 - 1),
        Some(padding) => {
            let columns: Tensor<2, Int> = Tensor::<1, Int>::arange(0..time as i64, device).unsqueeze(); // [1, T]
            (padding.clone().bool_not().int() * columns).max_dim(1) // [B, 1]
        }
    };
    first + last.reshape([rows])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_text_is_the_value_at_its_last_token() {
        use crate::model::{Model, Side};
        let device = crate::device::Choice::cpu().open().unwrap();
        let config = ModelConfig {
            vocab_size: 11,
            n_embd: 8,
            n_head: 2,
            n_layer: 1,
            head: Head::Regression,
            ..Default::default()
        };
        let model = Model::init(&config, Mode::Fused, 3, &device);
        let Model::Decoder(decoder) = &model else { unreachable!() };
        let texts = [vec![1, 2, 3, 4], vec![5, 6]];
        let read = |numbers: Tensor<2>| numbers.into_data().try_into_vec_as::<f32>().unwrap();
        // A value head reads the same weights, before each token.
        let values = texts.clone().map(|text| {
            let values = decoder.forward(Input::padded(&[text], Side::Right, &device), None);
            read(flat(values))
        });
        for side in [Side::Right, Side::Left] {
            let numbers = read(model.forward(Input::padded(&texts, side, &device)).0);
            assert!((numbers[0] - values[0][3]).abs() < 1e-6 && (numbers[1] - values[1][1]).abs() < 1e-6);
        }
    }

    #[test]
    fn the_last_token_is_found_by_the_mask_on_either_side() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let padding = [[false, false, true], [true, true, false], [false, false, false], [true, true, true]];
        let padding = Tensor::<2, Bool>::from_data(padding, &device);
        let read = |indices: Tensor<1, Int>| indices.into_data().try_into_vec_as::<i32>().unwrap();
        assert_eq!(read(last_tokens(Some(&padding), [4, 3], &device)), [1, 5, 8, 9]);
        assert_eq!(read(last_tokens(None, [2, 3], &device)), [2, 5]);
    }
}
