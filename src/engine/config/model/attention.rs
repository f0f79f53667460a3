//! Configuration of attention.

use crate::section::Range;
use kiln_base::section;

section! {
    /// Positions that a token attends to, and computation of the scores.
    #["model.attention"]
    #[derive(Copy)]
    pub struct AttentionConfig {
        /// Factor of queries times keys; absent: 1 / √(head width).
        scale: Option<f64> = None, Range::Positive;
        /// Soft limit of attention scores to within ± this (`s·tanh(x/s)`, Gemma 2); absent: no limit.
        softcap: Option<f64> = None, Range::Positive;
        /// Normalize each head's queries and keys (Qwen3, arXiv:2302.05442).
        qk_norm: bool = false;
        /// Biases of queries, keys and values even without `model.bias` (Qwen2).
        qkv_bias: bool = false;
        /// Sliding window of tokens, itself included, that a position attends to; absent: no window. In encoders
        /// half of it, rounded down, on each side.
        sliding_window: Option<usize> = None, Range::AT_LEAST_ONE;
        /// With a sliding window, one in so many layers attends to everything; absent: none does.
        full_attention_every: Option<usize> = None, Range::AT_LEAST_ONE;
        /// With a sliding window, the index of the first layer that attends to everything.
        full_attention_offset: usize = 0;
        /// Let the text before the targets (`data.answer_after`), or a prompt, attend to all of itself (prefix
        /// language model, arXiv:1910.10683).
        prefix: bool = false;
        /// Block-sparse attention: tokens of a block (arXiv:1904.10509, arXiv:2007.14062); absent: attention is not
        /// sparse.
        sparse_block: Option<usize> = None, Range::SIZE;
        /// Block-sparse attention: blocks on each side of its own that a position attends to.
        sparse_local_blocks: usize = 1, Range::COUNT;
        /// Block-sparse attention: first tokens that attend to all and that all attend to.
        sparse_global_tokens: usize = 0, Range::COUNT;
    }
}
