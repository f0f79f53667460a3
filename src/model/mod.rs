//! The transformer: layers, the three architectures made of them, and the mapping of their parameters to
//! the file formats of Hugging Face families.

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

/// What a model says.
#[allow(clippy::large_enum_variant, reason = "one a pass, and not kept")]
pub enum Answer {
    /// `[N, vocab_size or classes]`
    Logits(Tensor<2>),
    Projection(Projection),
}

/// What the routers of all layers decided; nothing where there are no experts.
pub struct Routings {
    /// Of the tokens that the model reads.
    pub of_input: Vec<Routing>,
    /// Of those that a decoder beside an encoder reads.
    pub of_written: Vec<Routing>,
}

impl Model {
    /// A new model with weights drawn from `seed`, which computes by `mode` whatever is asked of it.
    /// Training needs an autodiff device.
    pub fn init(config: &ModelConfig, mode: Mode, seed: u64, device: &Device) -> Self {
        Self::build(config, &mut Initializer::new(config, mode, seed, device))
    }

    /// A model to load weights into: parameters have their shapes, and take no memory before they are
    /// replaced or used.
    pub fn unloaded(config: &ModelConfig, mode: Mode, device: &Device) -> Self {
        Self::build(config, &mut Initializer::deferred(mode, device))
    }

    /// A model without any data, which says which parameters it has, and of which shapes. It cannot be run.
    pub fn meta(config: &ModelConfig) -> Self {
        Self::build(config, &mut Initializer::meta(&device::placeholder()))
    }

    /// The role of each parameter of such a model, as declared where it is made. Allocates none of them.
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

    /// Logits of everything that has a target, `[N, vocab_size or classes]`, and what the router of each
    /// layer decided. N is B · T, with an encoder and a decoder B · T', of whole texts B.
    pub fn forward(&self, input: Input) -> (Tensor<2>, Routings) {
        let (answer, routings) = self.answer(input);
        let logits = match answer {
            Answer::Logits(logits) => logits,
            Answer::Projection(projection) => projection.logits(),
        };
        (logits, routings)
    }

    /// The same with an output projection left to do, where there is one.
    pub fn answer(&self, mut input: Input) -> (Answer, Routings) {
        let pass = &input.pass();
        let none = Vec::new();
        match self {
            Self::Decoder(decoder) => {
                let (states, of_input) = decoder.states(input, None, pass);
                let answer = decoder.projection.project(states, &decoder.embeddings);
                (Answer::Projection(answer), Routings { of_input, of_written: none })
            }
            Self::Encoder(encoder) => {
                let (logits, of_input) = encoder.forward(input);
                (Answer::Logits(flat(logits)), Routings { of_input, of_written: none })
            }
            Self::EncoderDecoder(both) => {
                let written = input.decoder_tokens.take().unwrap_or_else(|| input.tokens.clone());
                let (memory, of_input) = both.encode_in(input, pass);
                let (states, of_written) = both.decoder_states(written, &memory, None, pass);
                let answer = both.projection.project(states, &both.embeddings);
                (Answer::Projection(answer), Routings { of_input, of_written })
            }
        }
    }

    /// How much each position of tokens `[1, T]` looks at each other one in block `layer`, of the encoder
    /// where there are both, `[H, T, T]`; for looking at, without dropout or autodiff (`Module::valid`).
    pub fn attention_weights(&self, tokens: Tensor<2, Int>, layer: usize) -> Tensor<3> {
        let input = Input::from(tokens);
        let (places, marks, pass) = (input.places(0), input.marks(), &input.pass());
        let (embeddings, stack) = match self {
            Self::Decoder(decoder) => (&decoder.embeddings, &decoder.stack),
            Self::Encoder(encoder) => (&encoder.embeddings, &encoder.stack),
            Self::EncoderDecoder(both) => (&both.embeddings, &both.encoder),
        };
        let x = embeddings.forward(input.tokens, None, &places, pass);
        stack.attention_weights(x, &places, &marks, layer, pass)
    }
}
