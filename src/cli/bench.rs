//! `kiln bench`: measures how fast a device trains (`kiln bench train`, the default), computes single
//! operations (`kiln bench kernels`) and generates text (`kiln bench generate`).

mod generate;
mod kernels;
pub(super) mod train;

use serde::de::DeserializeOwned;
use std::process::{Command, Stdio};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BenchArguments {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    train: train::TrainingArguments,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Measure training (as `kiln bench` without a word does)
    Train(train::TrainingArguments),
    /// Measure single operations, fused and unfused
    Kernels(kernels::KernelArguments),
    /// Measure generation, with and without the cache of keys and values
    Generate(generate::GenerationArguments),
}

pub(super) fn run(arguments: BenchArguments) -> anyhow::Result<()> {
    match arguments.what {
        Some(What::Train(arguments)) => train::run(arguments),
        Some(What::Kernels(arguments)) => kernels::run(arguments),
        Some(What::Generate(arguments)) => generate::run(arguments),
        None => train::run(arguments.train),
    }
}

/// Runs `kiln bench WORDS` as a separate process and parses the JSON that it prints.
fn own_process<T: DeserializeOwned>(words: &[String]) -> anyhow::Result<T> {
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.arg("bench").args(words).stderr(Stdio::inherit()).output()?;
    let measured = serde_json::from_slice(&output.stdout);
    measured.map_err(|_| anyhow::anyhow!("measuring with `kiln bench {}` failed", words.join(" ")))
}
