//! `kiln data`: from raw files to token shards. One TOML file ([`Pipeline`]) names sources and steps. Each
//! step is a stage of tasks; a task is a DataFusion plan over one part of the documents (about
//! [`Pipeline::part_mb`] of text) and writes one Parquet file. The input alone decides which tasks there are,
//! so that workers, ranks and clusters give the same bytes. A finished task is never run again.
//!
//! Documents pass the modules `sources` and `extract`, then for each step `rowwise` or `keys`, and at last
//! `shards`; `run` calls them in this order.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod blend;
pub mod clean;
#[cfg(feature = "cluster")]
pub mod cluster;
mod columnar;
mod download;
pub mod duplicates;
mod engine;
mod expression;
pub mod extract;
mod functions;
pub mod filters;
mod keys;
mod manifest;
mod memory_pool;
mod neural;
mod part_writer;
mod parts;
mod pipeline;
mod pool;
mod random;
mod rowwise;
pub mod rules;
mod run;
mod shards;
mod sources;
mod steps;
pub mod text;
mod work;
mod workspace;

// Names of lower crates that this one is written with.
use kiln_engine::{checkpoint, config, data, device, error, eval, model, platform, tokenizer};

pub use blend::{BlendConfig, BlendedSource};
pub use columnar::rows::{Row, read_rows};
pub use engine::{Engine, EngineConfig, Rank};
pub use keys::Groups;
pub use manifest::Manifest;
pub use parts::Counts;
pub use parts::{Count, Part};
pub use pipeline::{OnBadRecord, Pipeline, SourceConfig, TokenizeConfig};
pub use rowwise::{read_documents, split_words};
pub use run::{Progress, Run, StageSummary};
pub use shards::{ShardSummary, Split};
pub use steps::Step;
pub use workspace::Workspace;

use crate::error::{Error, Result};
use std::ops::Range;

/// Function that finds the words of a text, as byte ranges in ascending order.
pub type SplitWords<'a> = dyn FnMut(&str) -> Vec<Range<usize>> + 'a;

/// Splits a text at white space, for tests.
#[cfg(test)]
fn blank_separated(text: &str) -> Vec<Range<usize>> {
    let start = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
    text.split_whitespace().map(|word| start(word)..start(word) + word.len()).collect()
}
