//! `kiln merge MODEL --adapter DIR --out OUT`: makes a model with the changes of adapters in its weights.

use super::{
    convert::float_type,
    model::{AdapterOption, open_checkpoint},
    table::{bytes, parameters},
};
use crate::{
    checkpoint::{Export, Names, names, tensors::FloatType},
    device::Choice,
    error::{Error, hint},
    model::families::Family,
};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct MergeArguments {
    /// A run or checkpoint folder, or a folder of Hugging Face's: a model, or an adapter that names its model
    #[arg(value_name = "MODEL")]
    path: PathBuf,
    #[command(flatten)]
    adapters: AdapterOption,
    /// The folder to make; nothing is ever overwritten
    #[arg(long, value_name = "OUT")]
    out: PathBuf,
    /// f32, f16 or bf16; default: the type that the weights are in
    #[arg(long, value_name = "TYPE", value_parser = float_type)]
    dtype: Option<FloatType>,
}

/// Largest size of a weight file, in bytes.
pub(super) const MAX_SHARD_SIZE: u64 = 5_000_000_000;

pub(super) fn run(arguments: MergeArguments) -> anyhow::Result<()> {
    let MergeArguments { path, adapters, out, dtype } = arguments;
    let out = new_folder(&out, "a merged model")?;
    let mut checkpoint = open_checkpoint(&path)?;
    adapters.add_to(&mut checkpoint)?;
    if checkpoint.adapters().is_empty() {
        return Err(Error::InvalidValue {
            key: "--adapter".into(),
            value: String::new(),
            message: format!("there is nothing to merge into `{}`", path.display()),
            hint: Some(hint!["name adapters with ", hint::command("--adapter DIR")]),
        }
        .into());
    }
    // A model that no other family has keeps Kiln's names.
    let is_own = checkpoint.family == Family::KILN && Family::of(&checkpoint.model) == Family::KILN;
    let names = if is_own { Names::Kiln } else { Names::HuggingFace };
    let export = Export { names, float: dtype, max_shard_size: MAX_SHARD_SIZE };
    let written = export.write_merged(&checkpoint, &out, &Choice::cpu().open()?)?;
    println!("{}", out.display());
    for adapter in checkpoint.adapters() {
        let share = if adapter.share == 1.0 { String::new() } else { format!(", times {}", adapter.share) };
        println!("adapter     {}{share}", adapter.path.display());
    }
    println!("family      {}", written.family.name());
    println!("parameters  {}", parameters(usize::try_from(written.parameters).unwrap_or(usize::MAX)));
    println!("weights     {} in {}, files: {}", bytes(written.bytes), written.number_type, written.shards);
    Ok(())
}

/// Absolute path of the folder that a command makes; `what` names what it makes.
///
/// # Errors
/// [`Error::InvalidValue`] for the name of a GGUF file.
pub(super) fn new_folder(out: &Path, what: &str) -> crate::Result<PathBuf> {
    let out = std::path::absolute(out).map_err(|e| Error::io("find", out, e))?;
    if out.file_name().and_then(|name| name.to_str()).is_some_and(names::is_gguf) {
        return Err(Error::InvalidValue {
            key: "--out".into(),
            value: out.display().to_string(),
            message: format!("{what} is a folder"),
            hint: Some(hint![
                "name a folder, then make the file of it with ",
                hint::command("kiln convert FOLDER MODEL.gguf")
            ]),
        });
    }
    Ok(out)
}
