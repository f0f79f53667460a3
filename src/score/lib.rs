//! Metrics that compare texts with references, without a model.
//!
//! Each metric gives the numbers of the Python tool that is usually used for it; its file names the tool.
//! `kiln verify FOLDER` compares the metrics with numbers that the Python tools made.

pub mod error;
mod text;
mod ngrams;
pub mod corpus;
pub mod tokenize;
pub mod bleu;
pub mod chrf;
mod porter;
mod lcs;
pub mod rouge;
pub mod answers;
pub mod classification;
pub mod choice;
pub mod edit;
mod random;
pub mod bootstrap;
mod report;
pub mod fixture;

pub use answers::AnswerScore;
pub use bleu::{Bleu, BleuConfig, BleuScore, Smoothing};
pub use bootstrap::{BootstrapConfig, Interval, PairedTest};
pub use choice::{ChoiceSummary, Question};
pub use chrf::{Chrf, ChrfConfig};
pub use classification::Classification;
pub use edit::{EditCounts, Unit};
pub use error::{Error, Result};
pub use porter::stem;
pub use report::Outcome;
pub use rouge::{RougeScore, RougeScores};
pub use tokenize::Tokenizer;
