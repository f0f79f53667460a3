//! Keys and values of earlier tokens, so that generating one more token only takes the work of one token.
//! Memory for a whole context is allocated with the first tokens, in the element type of their keys and values.

use crate::config::{Architecture, ModelConfig};
use burn::tensor::{Device, Int, Tensor};

/// Keys and values of all layers.
pub struct KvCache {
    layers: Vec<LayerCache>,
    /// Shape of the keys and of the values of a layer when they are allocated, `[B, G, allocated, D]`.
    shape: [usize; 4],
    device: Device,
    length: usize,
    capacity: usize,
}

/// Keys and values of one layer, each `[B, G, allocated, D]`. Both are absent before the first tokens, and present
/// from then on. During an update they are taken out, so that the buffer has one owner and is updated in place.
struct LayerCache {
    keys: Option<Tensor<4>>,
    values: Option<Tensor<4>>,
    /// Keys and values of an encoder's output, `[B, G, S, D]`, once they have been computed.
    memory: Option<(Tensor<4>, Tensor<4>)>,
}

impl KvCache {
    /// Makes an empty cache for `batch` sequences of up to `capacity` tokens, but no more than the context
    /// allows.
    pub fn new(config: &ModelConfig, batch: usize, capacity: usize, device: &Device) -> Self {
        let capacity = config.context_limit().map_or(capacity, |limit| capacity.min(limit));
        Self::with_capacity(config, batch, capacity, device)
    }

    /// Makes an empty cache of up to `capacity` tokens. This may be more than the context allows, if padded
    /// sequences share the cache.
    pub(crate) fn with_capacity(
        config: &ModelConfig,
        batch: usize,
        capacity: usize,
        device: &Device,
    ) -> Self {
        let layers = match config.architecture {
            Architecture::EncoderDecoder => config.decoder_layers(),
            _ => config.n_layer,
        };
        // More than a block is allocated once it is needed.
        let shape = [batch, config.kv_heads(), capacity.min(config.block_size), config.head_size()];
        let layer = || LayerCache { keys: None, values: None, memory: None };
        let layers = (0..layers).map(|_| layer()).collect();
        Self { layers, shape, device: device.clone(), length: 0, capacity }
    }

    /// Number of tokens in the cache.
    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Number of tokens that still fit.
    pub fn remaining(&self) -> usize {
        self.capacity - self.length
    }

    /// Drops all but the oldest `count` tokens.
    pub fn truncate(&mut self, count: usize) {
        self.length = self.length.min(count);
    }

    /// Clears all tokens, but keeps the keys and values of an encoder's output.
    pub fn clear(&mut self) {
        self.length = 0;
    }

    /// Selects rows: row `i` becomes the former row `rows[i]`. `rows` is `[N]`; afterwards the cache has N
    /// rows.
    pub fn select(&mut self, rows: Tensor<1, Int>) {
        [self.shape[0]] = rows.dims();
        for layer in &mut self.layers {
            for buffer in [&mut layer.keys, &mut layer.values] {
                *buffer = buffer.take().map(|buffer| buffer.select(0, rows.clone()));
            }
            let of_rows = |tensor: Tensor<4>| tensor.select(0, rows.clone());
            layer.memory = layer.memory.take().map(|(keys, values)| (of_rows(keys), of_rows(values)));
        }
    }

    /// Replaces the newest tokens in row `rows[i]` by those in row `i` of another cache.
    pub(crate) fn replace(&mut self, rows: &[usize], other: &Self) {
        let columns = self.length - other.length..self.length;
        for (layer, from) in self.layers.iter_mut().zip(&other.layers) {
            for (buffer, new) in [(&mut layer.keys, &from.keys), (&mut layer.values, &from.values)] {
                let Some(new) = new else { continue };
                let [_, heads, _, size] = new.dims();
                for (index, &row) in rows.iter().enumerate() {
                    let new = new.clone().slice([index..index + 1, 0..heads, 0..other.length, 0..size]);
                    let target = [row..row + 1, 0..heads, columns.clone(), 0..size];
                    *buffer = buffer.take().map(|buffer| buffer.slice_assign(target, new));
                }
            }
        }
    }

    /// Drops all but the newest `count` tokens.
    pub(crate) fn keep_newest(&mut self, count: usize) {
        let start = self.length - count;
        for layer in &mut self.layers {
            for buffer in [&mut layer.keys, &mut layer.values] {
                *buffer = buffer.take().map(|buffer| {
                    let [batch, heads, _, size] = buffer.dims();
                    let kept = buffer.clone().narrow(2, start, count);
                    buffer.slice_assign([0..batch, 0..heads, 0..count, 0..size], kept)
                });
            }
        }
        self.length = count;
    }

    /// Advances the length by `time` tokens, after every layer has stored them.
    pub(crate) fn advance(&mut self, time: usize) {
        self.length += time;
    }

    /// Keys and values of an encoder's output in one layer, computed by `make` on the first call.
    pub(crate) fn of_memory(
        &mut self,
        layer: usize,
        make: impl FnOnce() -> (Tensor<4>, Tensor<4>),
    ) -> (Tensor<4>, Tensor<4>) {
        self.layers[layer].memory.get_or_insert_with(make).clone()
    }

    /// Stores keys and values `[B, G, T, D]` of one layer after those in the cache and returns all of them,
    /// each `[B, G, len + T, D]`.
    pub(crate) fn append(
        &mut self,
        layer: usize,
        keys: Tensor<4>,
        values: Tensor<4>,
    ) -> (Tensor<4>, Tensor<4>) {
        let (start, capacity, options) = (self.length, self.capacity, (&self.device, keys.dtype()));
        let shape = self.shape;
        let cache = &mut self.layers[layer];
        let store = |buffer: &mut Option<Tensor<4>>, new: Tensor<4>| {
            let old = buffer.take().unwrap_or_else(|| Tensor::zeros(shape, options));
            let [batch, heads, time, size] = new.dims();
            let end = start + time;
            let target = [0..batch, 0..heads, start..end, 0..size];
            let updated = grown(old, end, capacity).slice_assign(target, new);
            let seen = updated.clone().narrow(2, 0, end);
            *buffer = Some(updated);
            seen
        };
        (store(&mut cache.keys, keys), store(&mut cache.values, values))
    }
}

/// Enlarges a buffer if needed, so that `needed` tokens fit; it is never enlarged beyond `capacity`.
fn grown(buffer: Tensor<4>, needed: usize, capacity: usize) -> Tensor<4> {
    let [batch, heads, allocated, size] = buffer.dims();
    if needed <= allocated {
        return buffer;
    }
    // Twice as much, so that copying costs each token a constant share.
    let more = needed.saturating_mul(2).min(capacity).max(needed) - allocated;
    let unused = Tensor::zeros([batch, heads, more, size], (&buffer.device(), buffer.dtype()));
    Tensor::cat(vec![buffer, unused], 2)
}
