//! `kiln prune MODEL --out OUT`: makes weights of a model zero, or removes heads, neurons and layers, and says what the
//! perplexity of a text was before and after.

use super::{
    DeviceOption,
    calibration::{CalibrationOption, CalibrationText},
    convert::float_type,
    merge::{MAX_SHARD_SIZE, new_folder},
    model::{of_model, open_checkpoint},
    table::{bytes, parameters},
};
use crate::{
    checkpoint::{Checkpoint, Export, Names, Weights, check_free, tensors::FloatType},
    config::{ModelConfig, PruningScope},
    error::{Error, hint},
    eval::{Evaluation, evaluate},
    model::{
        Model,
        families::Family,
        parameters::{self as named, NamedData},
    },
    transform::pruning::{self, Calibration, CalibrationRun, Method, Pattern, Units},
};
use burn::tensor::Device;
use indicatif::ProgressBar;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct PruneArguments {
    /// A run or checkpoint folder, a folder of Hugging Face's or one .safetensors file of it, or a .gguf file
    #[arg(value_name = "MODEL")]
    path: PathBuf,
    /// The folder to make; nothing is ever overwritten
    #[arg(long, value_name = "OUT")]
    out: PathBuf,
    /// Share of the weights of the blocks' matrices that become zero, for example 0.5
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with_all = ["pattern", "heads", "neurons", "layers"])]
    sparsity: Option<f64>,
    /// Make two of every four neighbouring inputs zero
    #[arg(long, value_name = "N:M", value_parser = ["2:4"], conflicts_with_all = ["heads", "neurons", "layers"])]
    pattern: Option<String>,
    /// How the weights that become zero are chosen; wanda and sparsegpt need --calibrate
    #[arg(long, value_enum, default_value = "magnitude")]
    method: Choice,
    /// The share is that of all matrices together, not of each; with --method magnitude
    #[arg(long, requires = "sparsity")]
    global: bool,
    /// Query heads to remove from every layer; those that share keys and values go together
    #[arg(long, value_name = "N", default_value_t = 0)]
    heads: usize,
    /// Share of the neurons to remove from the MLP of every layer
    #[arg(long, value_name = "SHARE", value_parser = share)]
    neurons: Option<f64>,
    /// Layers to remove, those that the loss on the calibration text depends on least
    #[arg(long, value_name = "N", default_value_t = 0)]
    layers: usize,
    #[command(flatten)]
    calibration: CalibrationOption,
    /// f32, f16 or bf16; default: the type that the weights are in
    #[arg(long, value_name = "TYPE", value_parser = float_type)]
    dtype: Option<FloatType>,
    #[command(flatten)]
    device: DeviceOption,
}

/// Names of the methods that choose single weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Choice {
    /// By the magnitude of the weights
    Magnitude,
    /// By magnitude times the norm of the input (arXiv:2306.11695)
    Wanda,
    /// By the error that it makes, which the other weights make up for (arXiv:2301.00774)
    Sparsegpt,
}

pub(super) fn run(arguments: PruneArguments) -> anyhow::Result<()> {
    let out = new_folder(&arguments.out, "a pruned model")?;
    // Before the work, which may take minutes.
    check_free(&out)?;
    arguments.check()?;
    let checkpoint = open_checkpoint(&arguments.path)?;
    let mut weights = checkpoint.weights(Weights::Latest)?;
    let text = arguments.calibration.read(&checkpoint)?;
    let before = checkpoint.model.clone();
    arguments.check_calibration(text.is_some())?;
    let rows = |text: &CalibrationText| {
        Calibration::of(&text.calibration, text.layout.block_size, arguments.calibration.rows)
    };
    let calibration = text.as_ref().map(rows).transpose()?;
    let device = arguments.device.choice()?.open()?;
    let work = Work {
        checkpoint: &checkpoint,
        device: &device,
        text: text.as_ref(),
        calibration: calibration.as_ref(),
    };

    let loss_before = work.loss(&before, &weights)?;
    let count_before = count(&weights);
    let after = match arguments.pattern() {
        Some(pattern) => {
            work.zero(&arguments, &mut weights, pattern)?;
            before.clone()
        }
        None => work.shrink(&arguments, &mut weights)?,
    };
    let loss_after = work.loss(&after, &weights)?;
    let (count_after, sparsity) = (count(&weights), pruning::sparsity(&weights, &after));

    // A model that keeps its sizes keeps its family.
    let is_free = checkpoint.family == Family::KILN || after != before;
    let is_own = is_free && Family::of(&after) == Family::KILN;
    if is_own && checkpoint.family != Family::KILN {
        eprintln!("note: no model of transformers has such heads, so that the model keeps kiln's own names");
    }
    let names = if is_own { Names::Kiln } else { Names::HuggingFace };
    let export = Export { names, float: arguments.dtype, max_shard_size: MAX_SHARD_SIZE };
    let written = export.write_changed(&checkpoint, &after, weights, &out)?;
    println!("{}", out.display());
    println!("family      {}", written.family.name());
    println!("parameters  {}, before {}", parameters(count_after), parameters(count_before));
    println!("layers      {}, before {}", after.n_layer, before.n_layer);
    println!(
        "heads       {} and {} of keys and values, before {} and {}",
        after.n_head,
        after.kv_heads(),
        before.n_head,
        before.kv_heads()
    );
    println!("neurons     {}, before {}", after.inner_size(), before.inner_size());
    println!("zeros       {:.2} % of the weights of the blocks' matrices", 100.0 * sparsity);
    println!("weights     {} in {}, files: {}", bytes(written.bytes), written.number_type, written.shards);
    if let (Some(before), Some(after)) = (loss_before, loss_after) {
        let change = 100.0 * ((after.loss - before.loss).exp() - 1.0);
        println!(
            "perplexity  {:.4}, {:.4} before ({change:+.2} %) on {} tokens",
            after.loss.exp(),
            before.loss.exp(),
            after.tokens
        );
    }
    Ok(())
}

impl PruneArguments {
    /// Where single weights become zero; `None` if heads, neurons or layers are removed.
    fn pattern(&self) -> Option<Pattern> {
        match (self.sparsity, &self.pattern) {
            (Some(share), _) => Some(Pattern::Share(share)),
            (None, Some(_)) => Some(Pattern::TwoOfFour),
            (None, None) => None,
        }
    }

    /// Refuses options that ask for nothing, or that contradict each other.
    fn check(&self) -> crate::Result<()> {
        let removes = self.heads > 0 || self.layers > 0 || self.neurons.is_some_and(|share| share > 0.0);
        if self.pattern().is_none() && !removes {
            return Err(Error::InvalidValue {
                key: "--sparsity".into(),
                value: String::new(),
                message: "there is nothing to prune".into(),
                hint: Some(hint![
                    "name a share of the weights, ",
                    hint::command("--sparsity 0.5"),
                    ", or ",
                    hint::command("--pattern 2:4"),
                    ", ",
                    hint::command("--heads N"),
                    ", ",
                    hint::command("--neurons SHARE"),
                    ", ",
                    hint::command("--layers N")
                ]),
            });
        }
        if self.method != Choice::Magnitude && (self.global || removes) {
            return Err(Error::InvalidValue {
                key: "--method".into(),
                value: self.method.name().into(),
                message: if self.global {
                    "it prunes every layer by itself, and --global is for magnitudes".into()
                } else {
                    "it is for single weights".into()
                },
                hint: Some(hint!["leave it out"]),
            });
        }
        Ok(())
    }

    /// Refuses options that need a text where there is none.
    fn check_calibration(&self, has_text: bool) -> crate::Result<()> {
        let needing = match self.method {
            Choice::Magnitude if self.layers > 0 => ("--layers", self.layers.to_string()),
            Choice::Magnitude => return Ok(()),
            method => ("--method", method.name().to_owned()),
        };
        if has_text {
            return Ok(());
        }
        Err(Error::InvalidValue {
            key: needing.0.into(),
            value: needing.1,
            message: "it needs a text to see what the model does with it".into(),
            hint: Some(hint!["name one with ", hint::command("--calibrate TEXT")]),
        })
    }
}

impl Choice {
    fn name(self) -> &'static str {
        match self {
            Self::Magnitude => "magnitude",
            Self::Wanda => "wanda",
            Self::Sparsegpt => "sparsegpt",
        }
    }
}

/// A model that is pruned, and everything that this takes.
struct Work<'a> {
    checkpoint: &'a Checkpoint,
    device: &'a Device,
    text: Option<&'a CalibrationText>,
    /// The rows of the text that the model is pruned for.
    calibration: Option<&'a Calibration>,
}

impl Work<'_> {
    fn build(&self, config: &ModelConfig, weights: &NamedData) -> crate::Result<Model> {
        let model = Model::uninitialized(config, self.checkpoint.mode(), self.device);
        named::load(model, weights.clone()).map_err(|message| Error::Checkpoint {
            path: self.checkpoint.path().into(),
            message,
            hint: None,
        })
    }

    /// Loss on the text that is held out; `None` without one.
    fn loss(&self, config: &ModelConfig, weights: &NamedData) -> crate::Result<Option<Evaluation>> {
        let Some(text) = self.text else { return Ok(None) };
        let model = self.build(config, weights)?;
        text.held_out_loss(self.checkpoint, &model, config, self.device).map(Some)
    }

    /// Makes single weights zero.
    fn zero(
        &self,
        arguments: &PruneArguments,
        weights: &mut NamedData,
        pattern: Pattern,
    ) -> crate::Result<()> {
        let config = &self.checkpoint.model;
        let scope = if arguments.global { PruningScope::Global } else { PruningScope::Layer };
        let model = match arguments.method {
            Choice::Magnitude => None,
            Choice::Wanda | Choice::Sparsegpt => Some(self.build(config, weights)?),
        };
        let method = match (arguments.method, self.run_of(model.as_ref())) {
            (Choice::Wanda, Some(run)) => Method::Wanda(run),
            (Choice::Sparsegpt, Some(run)) => Method::SparseGpt(run),
            _ => Method::Magnitude(scope),
        };
        let bar = ProgressBar::new(config.n_layer as u64);
        let pruned =
            pollster::block_on(pruning::prune(weights, config, method, pattern, &mut |_| bar.inc(1)));
        bar.finish_and_clear();
        pruned
    }

    /// A model with the text that it runs over; `None` if one of them is missing.
    fn run_of<'a>(&'a self, model: Option<&'a Model>) -> Option<CalibrationRun<'a>> {
        let (model, calibration) = model.zip(self.calibration)?;
        Some(CalibrationRun { model, calibration, device: self.device })
    }

    /// Removes layers, heads and neurons. Returns the smaller model's configuration.
    fn shrink(&self, arguments: &PruneArguments, weights: &mut NamedData) -> crate::Result<ModelConfig> {
        let mut config = self.checkpoint.model.clone();
        if let Some(calibration) = self.calibration.filter(|_| arguments.layers > 0) {
            let model = self.build(&config, weights)?;
            let bar = ProgressBar::new(trials(config.n_layer, arguments.layers));
            let loss = |model: &Model| -> crate::Result<f64> {
                bar.inc(1);
                let found = pollster::block_on(evaluate(model, &config, calibration.batches(), self.device))?;
                Error::check_finite("the losses", &[found.loss as f32]).map_err(of_model(self.checkpoint))?;
                Ok(found.loss)
            };
            let kept = pruning::drop_layers(&model, &config, arguments.layers, loss);
            bar.finish_and_clear();
            let kept = kept?;
            let removed = (0..config.n_layer).filter(|layer| !kept.contains(layer));
            let removed: Vec<String> = removed.map(|layer| layer.to_string()).collect();
            println!("removed     layers {}", removed.join(", "));
            config = pruning::remove_layers(weights, &config, &kept);
        }
        let share = arguments.neurons.unwrap_or(0.0);
        let neurons = (share * config.inner_size() as f64).round_ties_even() as usize;
        let units = Units { heads: arguments.heads, neurons };
        if units.is_empty() {
            return Ok(config);
        }
        let model = match self.calibration {
            Some(_) => Some(self.build(&config, weights)?),
            None => None,
        };
        pollster::block_on(pruning::remove_units(weights, &config, units, self.run_of(model.as_ref())))
    }
}

/// Number of models that are measured to remove `count` of `layers` layers.
fn trials(layers: usize, count: usize) -> u64 {
    (0..count.min(layers)).map(|removed| (layers - removed) as u64).sum()
}

/// Number of all weights.
fn count(weights: &NamedData) -> usize {
    weights.values().map(|tensor| tensor.values.len()).sum()
}

/// Parses a share of what is pruned: from 0 to below 1.
fn share(text: &str) -> Result<f64, String> {
    let share: Option<f64> = text.parse().ok().filter(|share| (0.0..1.0).contains(share));
    share.ok_or_else(|| "expected a number from 0 to below 1: something must be left".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_leave_something() {
        assert_eq!(share("0.5"), Ok(0.5));
        assert_eq!(share("0"), Ok(0.0));
        for text in ["1", "-0.1", "nan", "inf", "half", "50"] {
            assert!(share(text).is_err(), "{text}");
        }
        assert_eq!(trials(4, 2), 7);
        assert_eq!(trials(2, 5), 3);
    }
}
