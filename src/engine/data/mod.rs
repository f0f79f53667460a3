//! Reads files into batches: [`Dataset::prepare`] reads text or token shards, splits and tokenizes them; a
//! [`Loader`] selects the rows of every training step; [`evaluation_batches`] reads a split in fixed windows.
//!
//! The rows that a step reads depend on (seed, step, row) and on nothing else, so that a resumed run reads
//! what the uninterrupted one would have read, however steps are divided into micro-batches.

mod labels;
mod answers;
mod batch;
mod canaries;
mod collate;
mod corpus;
mod cursor;
mod dataset;
mod decode;
pub mod dialogues;
mod evaluation;
mod loader;
mod packing;
mod permutation;
mod records;
mod rows;
pub mod shard;
pub mod signature;
mod sources;
mod split;
mod targets;
pub mod tasks;

pub use answers::Answers;
pub use batch::{Example, HostBatch, IGNORE_INDEX, Width};
pub use canaries::Canary;
pub use collate::{CLS_TOKEN, Collator, SEP_TOKEN};
pub use cursor::Cursor;
pub use dataset::Dataset;
pub use dialogues::{DialogueLabels, Dialogues};
pub use evaluation::{EvaluationBatches, evaluation_batches};
pub use kiln_base::random;
pub use loader::{Loader, RowLayout};
pub use shard::{check_shard_path, write_shard};
pub use sources::EMBEDDED;
pub use split::{Labels, TokenSplit, Tokens};
