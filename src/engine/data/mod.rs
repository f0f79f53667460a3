//! From files to batches: [`Dataset::prepare`] reads text or token shards, splits them and encodes
//! them; a [`Loader`] cuts the rows of every training step; [`evaluation_batches`] goes over a split
//! in fixed windows.
//!
//! Which rows a step reads is a function of (seed, step, row) and of nothing else, so that a resumed
//! run reads what the uninterrupted one would have read, however steps are cut into micro-batches.

mod labels;
mod batch;
mod collate;
mod corpus;
mod cursor;
mod dataset;
mod decode;
mod evaluation;
mod loader;
mod permutation;
mod records;
pub mod shard;
pub mod signature;
mod sources;
mod split;
mod targets;
pub mod tasks;

pub use batch::{Example, HostBatch, IGNORE_INDEX, Width};
pub use collate::{CLS_TOKEN, Collator, SEP_TOKEN};
pub use cursor::Cursor;
pub use dataset::Dataset;
pub use evaluation::{EvaluationBatches, evaluation_batches};
pub use kiln_base::random;
pub use loader::{Loader, RowLayout};
pub use shard::{check_shard_path, write_shard};
pub use sources::EMBEDDED;
pub use split::{Labels, TokenSplit, Tokens};
