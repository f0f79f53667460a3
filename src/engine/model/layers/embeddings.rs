//! Token embeddings, and learned or fixed embeddings of positions and segments.

use super::{
    adapter::Adapter,
    norm::Norm,
    position::{Positions, sinusoidal_table},
};
use crate::{
    config::{ModelConfig, Position},
    kernels::{
        Mode,
        dropout::dropout,
        embedding::embedding,
        linear::{Epilogue, linear},
    },
    model::{Pass, init::Initializer},
};
use burn::{
    module::{Module, Param},
    tensor::{Int, Tensor},
};

/// Token, position and segment embeddings.
#[derive(Module, Debug)]
pub struct Embeddings {
    /// Token embeddings, `[vocab_size, n_embd]`.
    pub embedding: Param<Tensor<2>>,
    /// Changes of the token embeddings from outside.
    pub embedding_adapter: Option<Adapter>,
    /// Position embeddings, `[block_size, n_embd]`; only if positions are learned.
    pub position: Option<Param<Tensor<2>>>,
    /// Segment embeddings, `[token_types, n_embd]`.
    pub token_type: Option<Param<Tensor<2>>>,
    pub embedding_norm: Option<Norm>,
    sinusoidal: Option<Tensor<2>>,
    #[module(skip)]
    dropout: f64,
    /// Factor that the token embeddings are multiplied by.
    #[module(skip)]
    scale: f64,
    #[module(skip)]
    mode: Mode,
}

impl Embeddings {
    pub(crate) fn init(config: &ModelConfig, initializer: &mut Initializer) -> Self {
        let (width, std) = (config.n_embd, config.init_std);
        Self {
            embedding: initializer.normal([config.vocab_size, width], std),
            embedding_adapter: None,
            position: (config.position == Position::Learned)
                .then(|| initializer.normal([config.block_size, width], std)),
            token_type: (config.token_types > 0)
                .then(|| initializer.normal([config.token_types, width], std)),
            embedding_norm: config.embedding_norm.then(|| Norm::init(config, initializer)),
            sinusoidal: (config.position == Position::Sinusoidal)
                .then(|| sinusoidal_table(config, initializer))
                .flatten(),
            dropout: config.dropout,
            scale: if config.scale_embeddings { (width as f64).sqrt() } else { 1.0 },
            mode: initializer.mode,
        }
    }

    /// Embeds tokens `[B, T]` at `positions` -> `[B, T, n_embd]`. `token_types`, `[B, T]`, contains the
    /// segment of each token; with `None` all belong to the first.
    pub(crate) fn forward(
        &self,
        tokens: Tensor<2, Int>,
        token_types: Option<Tensor<2, Int>>,
        positions: &Positions,
        pass: &Pass,
    ) -> Tensor<3> {
        let mut x = match &self.embedding_adapter {
            None => embedding(self.embedding.val(), tokens, self.mode),
            Some(adapter) => adapter.lookup(self.embedding.val(), tokens, self.mode),
        };
        if let Some(noise) = &pass.noise {
            x = x + noise.clone();
        }
        if self.scale != 1.0 {
            x = x.mul_scalar(self.scale);
        }
        if let Some(table) = &self.token_type {
            let table = table.val();
            x = x + match token_types {
                Some(token_types) => embedding(table, token_types, self.mode),
                None => table.narrow(0, 0, 1).unsqueeze(), // [1, 1, n_embd]
            };
        }
        let table = self.position.as_ref().map(|table| table.val()).or_else(|| self.sinusoidal.clone());
        if let Some(table) = table {
            x = x + match positions {
                Positions::Each(positions) => embedding(table, positions.clone(), self.mode),
                range => range.rows_of(table), // [1, T, n_embd]
            };
        }
        if let Some(norm) = &self.embedding_norm {
            x = norm.forward(x);
        }
        dropout(x, None, pass.dropout(self.dropout), self.mode)
    }

    /// Computes logits of hidden states with the tied embedding, `[B, T, n_embd]` -> `[B, T, vocab_size]`.
    pub(crate) fn tied_logits(&self, x: Tensor<3>) -> Tensor<3> {
        linear(x, self.output_table(), true, Epilogue::default(), self.mode)
    }

    /// Table of a tied output projection, `[vocab_size, n_embd]`.
    pub(crate) fn output_table(&self) -> Tensor<2> {
        match &self.embedding_adapter {
            Some(adapter) if adapter.changes_tied_output => adapter.effective(self.embedding.val()),
            _ => self.embedding.val(),
        }
    }
}
