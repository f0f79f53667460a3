//! Shape and settings of attention, and the window of keys that a query attends to.

use crate::{Precision, dropout::Dropout};
use std::ops::Range;

/// Shape and settings of one attention. H is the number of query heads, G that of key and value heads, D the
/// head size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionSpec {
    /// Number of query heads, H.
    pub heads: usize,
    /// Number of key and value heads, G.
    pub kv_heads: usize,
    /// Size of a head, D.
    pub head_size: usize,
    /// Factor that the scores are multiplied by.
    pub scale: f32,
    /// Soft cap of the scores; 0 disables it.
    pub softcap: f32,
    pub window: Window,
    pub dropout: Dropout,
    /// Precision of the products of queries, keys, weights and values.
    pub precision: Precision,
}

/// Window of keys that a query may attend to, in tokens; the last query is at the position of the last key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Number of keys before the query.
    pub left: usize,
    /// Number of keys after the query.
    pub right: usize,
}

impl Window {
    /// Window of bidirectional attention: every key.
    pub const FULL: Self = Self { left: usize::MAX, right: usize::MAX };
    /// Window of causal attention: no later key.
    pub const CAUSAL: Self = Self { left: usize::MAX, right: 0 };
}

impl AttentionSpec {
    /// Range of the keys in the window of query number `query`, where there are `time` queries and `seen`
    /// keys.
    pub fn visible(&self, query: usize, time: usize, seen: usize) -> Range<usize> {
        let position = (query + seen).saturating_sub(time);
        let start = position.saturating_sub(self.window.left).min(seen);
        start..position.saturating_add(self.window.right).saturating_add(1).min(seen)
    }
}

/// Strides of heads in a tensor: the elements of token `t` of head `h` of sample `b` begin at `first + b *
/// batch + h * head + t * token`.
#[derive(Debug, Clone, Copy)]
pub struct Strides {
    pub first: usize,
    pub batch: usize,
    pub head: usize,
    pub token: usize,
}

impl Strides {
    /// Strides of heads in a tensor `[B, time, heads * size]`, starting at head `first`.
    pub fn packed(time: usize, heads: usize, size: usize, first: usize) -> Self {
        let token = heads * size;
        Self { first: first * size, batch: time * token, head: size, token }
    }

    pub fn offset(&self, batch: usize, head: usize, token: usize) -> usize {
        self.first + batch * self.batch + head * self.head + token * self.token
    }
}

/// Number of padding among the numbers of packed documents.
pub const PADDING: i32 = i32::MAX;
