//! The model that a command uses: its path, which of its weights to load, and the device.

use super::DeviceOption;
use crate::{
    checkpoint::{Checkpoint, Weights},
    error::Error,
    model::Model,
    tokenizer::Tokenizer,
};
use burn::tensor::Device;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(crate) struct ModelArguments {
    /// A run or checkpoint folder, a folder of Hugging Face's, or one .safetensors file of it
    #[arg(value_name = "RUN")]
    path: PathBuf,
    /// Use the moving average of the weights
    #[arg(long)]
    ema: bool,
    #[command(flatten)]
    device: DeviceOption,
}

/// A model with its weights loaded.
pub(super) struct OpenModel {
    pub checkpoint: Checkpoint,
    pub tokenizer: Tokenizer,
    pub device: Device,
    pub model: Model,
}

impl ModelArguments {
    /// Opens the checkpoint and its tokenizer, so that errors are reported before weights are loaded.
    pub(super) fn checkpoint(&self) -> crate::Result<(Checkpoint, Tokenizer)> {
        let checkpoint = open_checkpoint(&self.path)?;
        let tokenizer = checkpoint.tokenizer()?;
        Ok((checkpoint, tokenizer))
    }

    /// Loads the weights onto the device.
    pub(super) fn load(&self, (checkpoint, tokenizer): (Checkpoint, Tokenizer)) -> crate::Result<OpenModel> {
        let device = self.device.choice()?.open()?;
        let weights = if self.ema { Weights::Averaged } else { Weights::Latest };
        let model = checkpoint.build(weights, &device)?;
        Ok(OpenModel { checkpoint, tokenizer, device, model })
    }

    pub(super) fn open(&self) -> crate::Result<OpenModel> {
        self.load(self.checkpoint()?)
    }
}

/// Opens a checkpoint, and shows its notes on standard error.
pub(super) fn open_checkpoint(path: &Path) -> crate::Result<Checkpoint> {
    let checkpoint = Checkpoint::open_model(path)?;
    super::show_notes(checkpoint.note.as_slice());
    Ok(checkpoint)
}

/// Adds the name of the model to an error about outputs that are not finite.
pub(super) fn of_model(checkpoint: &Checkpoint) -> impl Fn(Error) -> Error {
    move |error| error.with_origin(format!("model `{}`", checkpoint.path().display()))
}
