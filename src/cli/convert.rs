//! `kiln convert SRC DST`: writes a model with another floating-point type, layout or number of files.

use super::{
    model::open_checkpoint,
    table::{bytes, parameters},
};
use crate::{
    checkpoint::{Export, Names, tensors::FloatType},
    error::Error,
};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct ConvertArguments {
    /// A run or checkpoint folder, a folder of Hugging Face's, or one .safetensors file of it
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// The folder to make; nothing is ever overwritten
    #[arg(value_name = "DST")]
    destination: PathBuf,
    /// f32, f16 or bf16; default: the type that the weights are in
    #[arg(long, value_name = "TYPE", value_parser = float_type)]
    dtype: Option<FloatType>,
    /// Weights over this size go into several files with an index
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = size)]
    max_shard_size: u64,
    /// huggingface (what transformers loads) or kiln (kiln's own names, for every model)
    #[arg(long, value_name = "LAYOUT", default_value = "huggingface", value_parser = layout)]
    layout: Names,
}

pub(super) fn run(arguments: ConvertArguments) -> anyhow::Result<()> {
    let ConvertArguments { source, destination, dtype, max_shard_size, layout } = arguments;
    let destination = std::path::absolute(&destination).map_err(|e| Error::io("find", &destination, e))?;
    let export = Export { names: layout, float: dtype, max_shard_size };
    let written = export.write(&open_checkpoint(&source)?, &destination)?;
    println!("{}", destination.display());
    println!("family      {}", written.family.name());
    println!("parameters  {}", parameters(usize::try_from(written.parameters).unwrap_or(usize::MAX)));
    println!("weights     {} in {}, files: {}", bytes(written.bytes), written.float.name(), written.shards);
    Ok(())
}

fn float_type(name: &str) -> Result<FloatType, String> {
    let types = [FloatType::F32, FloatType::F16, FloatType::Bf16];
    types.into_iter().find(|float| float.name() == name).ok_or_else(|| "f32, f16 or bf16".into())
}

fn layout(name: &str) -> Result<Names, String> {
    match name {
        "huggingface" => Ok(Names::HuggingFace),
        "kiln" => Ok(Names::Kiln),
        _ => Err("huggingface or kiln".into()),
    }
}

/// Parses a size in bytes: `5GB`, `200MB`, `1.5GiB` or a plain number.
fn size(text: &str) -> Result<u64, String> {
    let wrong = || "expected a size such as 5GB, 200MB or 1GiB".to_owned();
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let number: f64 = number.trim().parse().map_err(|_| wrong())?;
    let unit = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 1.0,
        "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        "KIB" => 1024.0,
        "MIB" => 1_048_576.0,
        "GIB" => 1_073_741_824.0,
        _ => return Err(wrong()),
    };
    let bytes = number * unit;
    if (1.0..1e18).contains(&bytes) { Ok(bytes as u64) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in
            [("5GB", 5_000_000_000), ("200 MB", 200_000_000), ("1.5gib", 1_610_612_736), ("700", 700)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "GB", "0", "-1GB", "5XB", "nan", "1e300GB", "five"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
