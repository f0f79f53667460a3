//! The transformer: layers, the three architectures built from them, and the conversion of their parameters
//! to the file formats of Hugging Face families.

pub mod decoder;
pub mod encoder;
pub mod encoder_decoder;
pub mod families;
mod init;
mod input;
pub mod layers;
pub mod layout;
pub mod parameters;
pub mod size;

pub use decoder::Decoder;
pub use encoder::Encoder;
pub use encoder_decoder::EncoderDecoder;
pub(crate) use init::{normal_pair, uniform};
pub(crate) use input::mask;
pub use input::{DropoutSource, Input, Pass, Side};
pub use layers::kv_cache::KvCache;

use crate::{
    config::{Architecture, ModelConfig},
    device,
    kernels::Mode,
};
use burn::{
    module::Module,
    tensor::{Device, Int, Tensor},
};
use init::Initializer;
use layers::{
    moe::Routing,
    output::{Projection, flat},
};
use parameters::ParameterRoles;

/// A transformer of any architecture.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "one a run, and Burn has no modules in boxes")]
pub enum Model {
    Decoder(Decoder),
    Encoder(Encoder),
    EncoderDecoder(EncoderDecoder),
}

/// Output of a model: logits, or hidden states with the output projection that has not been applied yet.
#[allow(clippy::large_enum_variant, reason = "one a pass, and not kept")]
pub enum Output {
    /// Logits, `[N, vocab_size or classes]`.
    Logits(Tensor<2>),
    Projection(Projection),
}

/// Routings of all layers; empty without experts.
pub struct Routings {
    /// Routing of the input tokens, by layer.
    pub of_input: Vec<Routing>,
    /// Routing of the decoder's tokens in an encoder-decoder model, by layer.
    pub of_decoder: Vec<Routing>,
}

impl Model {
    /// Makes a model with weights drawn from `seed`. `mode` selects fused kernels or their reference.
    /// Training needs an autodiff device.
    pub fn init(config: &ModelConfig, mode: Mode, seed: u64, device: &Device) -> Self {
        Self::build(config, &mut Initializer::new(config, mode, seed, device))
    }

    /// Makes a model to load weights into. Its parameters have their shapes, but take no memory before they
    /// are replaced or used.
    pub fn uninitialized(config: &ModelConfig, mode: Mode, device: &Device) -> Self {
        Self::build(config, &mut Initializer::deferred(mode, device))
    }

    /// Makes a model on the meta device: its parameters have names and shapes, but no data. It cannot be run.
    pub fn meta(config: &ModelConfig) -> Self {
        Self::build(config, &mut Initializer::meta(&device::placeholder()))
    }

    /// Roles of a model's parameters, by name. Does not allocate parameters.
    pub fn roles(config: &ModelConfig) -> ParameterRoles {
        let device = device::placeholder();
        let mut initializer = Initializer::meta(&device);
        let model = Self::build(config, &mut initializer);
        parameters::by_name(&model, &initializer.into_roles())
    }

    fn build(config: &ModelConfig, initializer: &mut Initializer) -> Self {
        match config.architecture {
            Architecture::Decoder => Self::Decoder(Decoder::build(config, initializer)),
            Architecture::Encoder => Self::Encoder(Encoder::build(config, initializer)),
            Architecture::EncoderDecoder => Self::EncoderDecoder(EncoderDecoder::build(config, initializer)),
        }
    }

    /// Computes the logits, `[N, vocab_size or classes]`, and the routing of each layer. N is B · T, B · T'
    /// for an encoder-decoder, or B if there is one output for the whole text.
    pub fn forward(&self, input: Input) -> (Tensor<2>, Routings) {
        let (output, routings) = self.forward_unprojected(input);
        let logits = match output {
            Output::Logits(logits) => logits,
            Output::Projection(projection) => projection.logits(),
        };
        (logits, routings)
    }

    /// Computes the output before the output projection, if there is one, and the routing of all layers.
    pub fn forward_unprojected(&self, mut input: Input) -> (Output, Routings) {
        let pass = &input.pass();
        let none = Vec::new();
        match self {
            Self::Decoder(decoder) if decoder.gives_number => {
                let (numbers, of_input) = decoder.numbers(input, pass);
                (Output::Logits(numbers), Routings { of_input, of_decoder: none })
            }
            Self::Decoder(decoder) => {
                let (states, of_input) = decoder.states(input, None, pass);
                let output = decoder.projection.project(states, &decoder.embeddings);
                (Output::Projection(output), Routings { of_input, of_decoder: none })
            }
            Self::Encoder(encoder) => {
                let (logits, of_input) = encoder.forward(input);
                (Output::Logits(flat(logits)), Routings { of_input, of_decoder: none })
            }
            Self::EncoderDecoder(both) => {
                let decoder_tokens = input.decoder_tokens.take().unwrap_or_else(|| input.tokens.clone());
                let (memory, of_input) = both.encode_in(input, pass);
                let (states, of_decoder) = both.decoder_states(decoder_tokens, &memory, None, pass);
                let output = both.projection.project(states, &both.embeddings);
                (Output::Projection(output), Routings { of_input, of_decoder })
            }
        }
    }

    /// Attention weights of block `layer` for tokens `[1, T]`, `[H, T, T]`; in an encoder-decoder model,
    /// those of the encoder. For inspection, on a model without autodiff (`Module::valid`).
    pub fn attention_weights(&self, tokens: Tensor<2, Int>, layer: usize) -> Tensor<3> {
        let input = Input::from(tokens);
        let (positions, mask_inputs, pass) = (input.positions(0), input.mask_inputs(), &input.pass());
        let (embeddings, stack) = match self {
            Self::Decoder(decoder) => (&decoder.embeddings, &decoder.stack),
            Self::Encoder(encoder) => (&encoder.embeddings, &encoder.stack),
            Self::EncoderDecoder(both) => (&both.embeddings, &both.encoder),
        };
        let x = embeddings.forward(input.tokens, None, &positions, pass);
        stack.attention_weights(x, &positions, &mask_inputs, layer, pass)
    }
}
