//! Configuration of rotary positions.

use crate::section::Range;
use kiln_base::section;
use serde::{Deserialize, Serialize};

section! {
    /// Rotary positions (arXiv:2104.09864).
    #["model.rope"]
    #[derive(Copy)]
    pub struct RopeConfig {
        /// Base of the wavelengths.
        theta: f64 = 10_000.0, Range::Positive;
        /// Base of the wavelengths in layers with a sliding window; absent: `theta`.
        local_theta: Option<f64> = None, Range::Positive;
        /// Components of a head that rotate together: `half` (Hugging Face) or `interleaved` (Meta).
        layout: RopeLayout = RopeLayout::Half;
        /// Stretching of wavelengths beyond the context that they were made for: `none`, `linear` or `llama3`.
        scaling: RopeScaling = RopeScaling::None;
        /// Factor by which wavelengths are stretched.
        factor: f64 = 1.0, Range::Positive;
        /// Llama 3's scaling: the context that wavelengths were made for.
        original_context: Option<usize> = None, Range::SIZE;
        /// Llama 3's scaling: wavelengths longer than the original context divided by this are stretched whole.
        low_freq_factor: f64 = 1.0, Range::Positive;
        /// Llama 3's scaling: wavelengths shorter than the original context divided by this are left alone.
        high_freq_factor: f64 = 4.0, Range::Positive;
    }
}

/// Pairs of a head's components that rotate together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RopeLayout {
    /// Components `i` and `i + d/2` (Hugging Face, GPT-NeoX).
    Half,
    /// Components `2i` and `2i + 1` (the paper, Meta's Llama).
    Interleaved,
}

/// Ways to stretch rotary wavelengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RopeScaling {
    None,
    /// All wavelengths are stretched alike (arXiv:2306.15595).
    Linear,
    /// Long wavelengths are stretched by the whole factor, short ones not at all, those between partly (Llama
    /// 3.1).
    Llama3,
}
