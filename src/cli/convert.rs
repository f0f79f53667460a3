//! `kiln convert SRC DST`: writes a model with another type of numbers, layout or number of files.

use super::{
    model::open_checkpoint,
    table::{bytes, parameters},
};
use crate::{
    checkpoint::{
        Export, Names,
        gguf::{GgufExport, TensorType},
        names,
        tensors::FloatType,
    },
    error::{Error, hint},
};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct ConvertArguments {
    /// A run or checkpoint folder, a folder of Hugging Face's or one .safetensors file of it, or a .gguf file
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// The folder to make, or the .gguf file; nothing is ever overwritten
    #[arg(value_name = "DST")]
    destination: PathBuf,
    /// f32, f16, bf16 or, in a .gguf file, q8_0; default: the type that the weights are in
    #[arg(long, value_name = "TYPE", value_parser = number_type)]
    dtype: Option<NumberType>,
    /// Weights over this size go into several files with an index
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = size)]
    max_shard_size: u64,
    /// huggingface (what transformers loads), kiln (kiln's own names, for every model) or gguf (one file for
    /// llama.cpp); default: gguf if DST ends with .gguf, otherwise huggingface
    #[arg(long, value_name = "LAYOUT", value_parser = layout)]
    layout: Option<Layout>,
}

#[derive(Debug, Clone, Copy)]
enum Layout {
    Folder(Names),
    Gguf,
}

/// Type of the weights to be written.
#[derive(Debug, Clone, Copy)]
enum NumberType {
    Float(FloatType),
    /// Blocks of 32 signed bytes with a scale, in GGUF alone.
    Q8_0,
}

pub(super) fn run(arguments: ConvertArguments) -> anyhow::Result<()> {
    let ConvertArguments { source, destination, dtype, max_shard_size, layout } = arguments;
    let destination = std::path::absolute(&destination).map_err(|e| Error::io("find", &destination, e))?;
    let is_gguf = destination.file_name().and_then(|name| name.to_str()).is_some_and(names::is_gguf);
    let written =
        match layout.unwrap_or(if is_gguf { Layout::Gguf } else { Layout::Folder(Names::HuggingFace) }) {
            Layout::Gguf => {
                let export = GgufExport { kind: dtype.map(tensor_type) };
                export.write(&open_checkpoint(&source)?, &destination)?
            }
            Layout::Folder(names) => {
                let float = dtype.map(folder_type).transpose()?;
                let export = Export { names, float, max_shard_size };
                export.write(&open_checkpoint(&source)?, &destination)?
            }
        };
    println!("{}", destination.display());
    println!("family      {}", written.family.name());
    println!("parameters  {}", parameters(usize::try_from(written.parameters).unwrap_or(usize::MAX)));
    println!("weights     {} in {}, files: {}", bytes(written.bytes), written.number_type, written.shards);
    Ok(())
}

/// Parses a number type of weights: `f32`, `f16` or `bf16`.
pub(super) fn float_type(name: &str) -> Result<FloatType, String> {
    let types = [FloatType::F32, FloatType::F16, FloatType::Bf16];
    types.into_iter().find(|float| float.name() == name).ok_or_else(|| "f32, f16 or bf16".into())
}

fn number_type(name: &str) -> Result<NumberType, String> {
    match name {
        "q8_0" => Ok(NumberType::Q8_0),
        _ => float_type(name)
            .map(NumberType::Float)
            .map_err(|message| format!("{message}, or q8_0 in a .gguf file")),
    }
}

/// Type of the weights in a folder.
fn folder_type(number: NumberType) -> crate::Result<FloatType> {
    match number {
        NumberType::Float(float) => Ok(float),
        NumberType::Q8_0 => Err(Error::InvalidValue {
            key: "--dtype".into(),
            value: "q8_0".into(),
            message: "only GGUF files have it".into(),
            hint: Some(hint![
                "name a new file that ends with `.gguf`, or write ",
                hint::command("--dtype bf16")
            ]),
        }),
    }
}

/// Type of the matrices in a GGUF file.
fn tensor_type(number: NumberType) -> TensorType {
    match number {
        NumberType::Float(FloatType::F32) => TensorType::F32,
        NumberType::Float(FloatType::F16) => TensorType::F16,
        NumberType::Float(FloatType::Bf16) => TensorType::Bf16,
        NumberType::Q8_0 => TensorType::Q8_0,
    }
}

fn layout(name: &str) -> Result<Layout, String> {
    match name {
        "huggingface" => Ok(Layout::Folder(Names::HuggingFace)),
        "kiln" => Ok(Layout::Folder(Names::Kiln)),
        "gguf" => Ok(Layout::Gguf),
        _ => Err("huggingface, kiln or gguf".into()),
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
