//! The model that a command uses: its path, which of its weights to load, and the device.

use super::DeviceOption;
use crate::{
    checkpoint::{Checkpoint, Weights},
    error::Error,
    kernels::{Precision, precision},
    model::Model,
    tokenizer::Tokenizer,
    transform,
};
use burn::tensor::Device;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(crate) struct ModelArguments {
    /// A run or checkpoint folder, a folder of Hugging Face's or one .safetensors file of it, or a .gguf file
    #[arg(value_name = "RUN")]
    path: PathBuf,
    /// Use the moving average of the weights
    #[arg(long)]
    ema: bool,
    #[command(flatten)]
    adapters: AdapterOption,
    #[command(flatten)]
    dtype: DtypeOption,
    #[command(flatten)]
    device: DeviceOption,
}

/// The `--dtype` option of commands that compute with a model.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(crate) struct DtypeOption {
    /// Type that matrix products round to, and in which keys and values are cached: f32, tf32, bf16 or f16
    #[arg(long, value_name = "TYPE", default_value_t)]
    dtype: Precision,
}

impl DtypeOption {
    /// The type, if the device computes in it.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] if it does not.
    pub(super) fn on(self, device: &Device) -> crate::Result<Precision> {
        precision::check("--dtype", self.dtype, device)?;
        Ok(self.dtype)
    }
}

/// The `--adapter` option of commands that take a model.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct AdapterOption {
    /// Put an adapter into the model: a folder of PEFT's, or a run that trained one; with =WEIGHT only that share of
    /// its changes (repeatable)
    #[arg(long = "adapter", value_name = "DIR[=WEIGHT]", value_parser = adapter)]
    adapters: Vec<(PathBuf, f64)>,
}

impl AdapterOption {
    /// Adds the adapters to a checkpoint.
    pub(super) fn add_to(&self, checkpoint: &mut Checkpoint) -> crate::Result<()> {
        self.adapters.iter().try_for_each(|(path, share)| checkpoint.add_adapter(path, *share))
    }
}

/// Reads the path of an adapter, and the share of its changes that counts after the last `=`.
fn adapter(text: &str) -> Result<(PathBuf, f64), String> {
    match text.rsplit_once('=').and_then(|(path, share)| Some((path, share.parse::<f64>().ok()?))) {
        Some((_, share)) if !share.is_finite() => {
            Err("expected a folder, or FOLDER=WEIGHT with a finite number".into())
        }
        Some((path, share)) => Ok((path.into(), share)),
        None => Ok((text.into(), 1.0)),
    }
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
        let mut checkpoint = open_checkpoint(&self.path)?;
        self.adapters.add_to(&mut checkpoint)?;
        let tokenizer = checkpoint.tokenizer()?;
        Ok((checkpoint, tokenizer))
    }

    /// Loads the weights onto the device.
    pub(super) fn load(&self, (checkpoint, tokenizer): (Checkpoint, Tokenizer)) -> crate::Result<OpenModel> {
        let device = self.device.choice()?.open()?;
        let weights = if self.ema { Weights::Averaged } else { Weights::Latest };
        let model = build(&checkpoint, weights, self.dtype.on(&device)?, &device)?;
        Ok(OpenModel { checkpoint, tokenizer, device, model })
    }

    pub(super) fn open(&self) -> crate::Result<OpenModel> {
        self.load(self.checkpoint()?)
    }
}

/// Builds the model of a checkpoint for its outputs, in a precision that the device has, with its adapters merged into
/// the weights.
pub(super) fn build(
    checkpoint: &Checkpoint,
    weights: Weights,
    precision: Precision,
    device: &Device,
) -> crate::Result<Model> {
    let model = checkpoint.build_in_precision(weights, precision, device)?;
    let model = if checkpoint.adapters().is_empty() { model } else { transform::adapter::fold(&model) };
    Ok(transform::reduce_weights(model, precision))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_may_have_a_weight() {
        assert_eq!(adapter("runs/lora"), Ok(("runs/lora".into(), 1.0)));
        assert_eq!(adapter("runs/lora=0.5"), Ok(("runs/lora".into(), 0.5)));
        assert_eq!(adapter("runs/lora=-1"), Ok(("runs/lora".into(), -1.0)));
        assert_eq!(adapter("runs/r=16=2"), Ok(("runs/r=16".into(), 2.0)));
        assert_eq!(adapter("runs/r=x"), Ok(("runs/r=x".into(), 1.0)));
        assert!(adapter("runs/lora=inf").is_err());
    }
}
