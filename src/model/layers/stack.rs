//! The blocks of an encoder or a decoder, and what they share: positions, masks, the last norm.

use super::{
    attention::{Context, View},
    block::{Block, Memory, normalized},
    kv_cache::KvCache,
    mask::{Marks, Mask},
    moe::Routing,
    norm::Norm,
    position::{Bias, Places, Rope},
};
use crate::{
    config::{ModelConfig, NormPosition, Position},
    kernels::{
        Mode,
        attention::{Reach, beyond},
    },
    model::{Pass, init::Initializer},
};
use burn::{module::Module, tensor::Tensor};

/// Blocks, one after another.
#[derive(Module, Debug)]
pub struct Stack {
    rope: Option<Rope>,
    /// Of layers with a sliding window, where it differs.
    local_rope: Option<Rope>,
    /// What is added to attention scores by distance.
    pub distance_bias: Option<Bias>,
    pub blocks: Vec<Block>,
    /// Absent where blocks normalize last.
    pub norm: Option<Norm>,
    #[module(skip)]
    mask: Mask,
    #[module(skip)]
    mode: Mode,
}

impl Stack {
    /// That of an encoder.
    pub(crate) fn encoder(config: &ModelConfig, initializer: &mut Initializer) -> Self {
        Self::init(config, config.n_layer, false, false, initializer)
    }

    /// That of a decoder without an encoder.
    pub(crate) fn decoder(config: &ModelConfig, initializer: &mut Initializer) -> Self {
        Self::init(config, config.n_layer, true, false, initializer)
    }

    /// That of a decoder beside an encoder.
    pub(crate) fn decoder_beside_encoder(config: &ModelConfig, initializer: &mut Initializer) -> Self {
        Self::init(config, config.decoder_layers(), true, true, initializer)
    }

    fn init(
        config: &ModelConfig,
        layers: usize,
        causal: bool,
        crosses: bool,
        initializer: &mut Initializer,
    ) -> Self {
        let mask = Mask::init(config, causal);
        let rotary = config.position == Position::Rotary;
        let local_theta = config.rope.local_theta.filter(|_| rotary && mask.has_window());
        Self {
            rope: rotary.then(|| Rope::init(config, config.rope.theta, initializer)),
            local_rope: local_theta.map(|theta| Rope::init(config, theta, initializer)),
            distance_bias: Bias::init(config, causal, initializer),
            blocks: (0..layers).map(|layer| Block::init(config, layer, crosses, initializer)).collect(),
            norm: (config.norm_position != NormPosition::Post).then(|| Norm::init(config, initializer)),
            mask,
            mode: initializer.mode,
        }
    }

    /// Embeddings `[B, T, E]` -> states `[B, T, E]`, and what the router of each layer decided; nothing
    /// where there are no experts. With a cache, tokens continue those in it.
    pub(crate) fn forward(
        &self,
        mut x: Tensor<3>,
        places: &Places,
        marks: &Marks,
        memory: Option<&Memory>,
        mut cache: Option<&mut KvCache>,
        pass: &Pass,
    ) -> (Tensor<3>, Vec<Routing>) {
        let [_, time, _] = x.dims();
        let offset = cache.as_ref().map_or(0, |cache| cache.len());
        let context = self.context(&x, offset, places, marks);
        let mut routings = Vec::new();
        for (layer, block) in self.blocks.iter().enumerate() {
            let cache = cache.as_deref_mut().map(|cache| (cache, layer));
            let routing;
            (x, routing) = block.forward(x, &context, memory, cache, pass);
            routings.extend(routing);
        }
        if let Some(cache) = cache {
            cache.advance(time);
        }
        (normalized(&self.norm, x), routings)
    }

    /// How much each position of embeddings `[1, T, E]` looks at each other one in block `layer`,
    /// `[H, T, T]`.
    pub(crate) fn attention_weights(
        &self,
        mut x: Tensor<3>,
        places: &Places,
        marks: &Marks,
        layer: usize,
        pass: &Pass,
    ) -> Tensor<3> {
        let context = self.context(&x, 0, places, marks);
        for block in &self.blocks[..layer] {
            x = block.forward(x, &context, None, None, pass).0;
        }
        self.blocks[layer].attention_weights(x, &context).squeeze_dim(0)
    }

    /// What all blocks share, of tokens of which `offset` are in the cache.
    fn context(&self, x: &Tensor<3>, offset: usize, places: &Places, marks: &Marks) -> Context {
        let ([_, time, _], device) = (x.dims(), x.device());
        // Kernels know what is out of reach; otherwise it is one mask for all layers.
        let hides_all = !self.mode.fuses(x) || self.distance_bias.is_some();
        let view = |rope: &Option<Rope>, in_window| {
            let (mut reach, mut hidden) = self.mask.sight(time, offset, in_window, marks, &device);
            if hides_all {
                hidden = beyond(hidden, [time, offset + time], reach, x);
                reach = Reach::FULL;
            }
            View { rotation: rope.as_ref().map(|rope| rope.at(places)), reach, hidden }
        };
        let local = self.mask.has_window().then(|| {
            let rope = if self.local_rope.is_some() { &self.local_rope } else { &self.rope };
            view(rope, true)
        });
        Context {
            global: view(&self.rope, false),
            local,
            bias: self.distance_bias.as_ref().map(|bias| bias.at(time, offset, &device)),
        }
    }
}
