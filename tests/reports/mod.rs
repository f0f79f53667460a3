//! Inputs made after public bug reports of other tools, each with the right result, which came from Python's
//! tokenizers 0.23, transformers 5.23, warcio, trafilatura and zipfile. Each folder beside this file holds
//! the inputs of one report.

#[cfg(feature = "data")]
mod archives;
#[cfg(feature = "data")]
mod documents;
mod families;
#[cfg(feature = "data")]
mod formats;
mod generation;
mod tokenizers;
mod training;

use std::path::PathBuf;

/// Path of the folder with a report's inputs.
pub fn report(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/reports").join(name)
}
