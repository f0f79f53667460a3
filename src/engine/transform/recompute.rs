//! Recomputation of activations, which a model does not know of: [`train.recompute`](crate::config::Recompute) says
//! which blocks save only their input, and the stacks of the model compute them so.

use crate::{config::Recompute, model::Model};

/// Lets a model in training compute some activations again in the backward pass.
pub(super) fn recompute(mut model: Model, recompute: Recompute) -> Model {
    match &mut model {
        Model::Decoder(decoder) => decoder.stack.recompute = recompute,
        Model::Encoder(encoder) => encoder.stack.recompute = recompute,
        Model::EncoderDecoder(both) => {
            both.encoder.recompute = recompute;
            both.decoder.recompute = recompute;
        }
    }
    model
}
