//! `kiln inspect DIR`: what a model folder holds, without building the model.

use super::table::{Align, Table, short};
use crate::{
    checkpoint::{Checkpoint, Files, resolve, tensors},
    config::{Config, ModelConfig},
    model::size,
};
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct InspectArguments {
    /// A run folder or a checkpoint folder, also one of transformers
    #[arg(value_name = "DIR")]
    path: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: InspectArguments) -> anyhow::Result<()> {
    let folder = resolve(&arguments.path)?;
    let files = Files::read_folder(&folder, Checkpoint::is_of_model)?;
    let mut found = Vec::new();
    for (name, bytes) in files.weights() {
        let listed = tensors::list(bytes).map_err(|message| files.error(format!("`{name}`: {message}")))?;
        found.extend(listed.into_iter().map(|tensor| (name, tensor)));
    }
    // A folder of another family still has tensors to list.
    let checkpoint = Checkpoint::from_files(files.clone());
    if arguments.json {
        let tensors: Vec<Value> = found
            .iter()
            .map(|(file, t)| json!({"name": t.name, "shape": t.shape, "dtype": t.dtype, "file": file}))
            .collect();
        let model = match &checkpoint {
            Ok(checkpoint) => {
                let mut figures = figures(&checkpoint.model);
                figures["family"] = checkpoint.family.name().into();
                figures["configuration"] = serde_json::to_value(&checkpoint.model)?;
                figures
            }
            Err(error) => json!({ "unknown": error.to_string() }),
        };
        println!("{}", serde_json::to_string_pretty(&json!({ "tensors": tensors, "model": model }))?);
        return Ok(());
    }
    let mut table = Table::new([
        ("tensor", Align::Left),
        ("shape", Align::Left),
        ("dtype", Align::Left),
        ("parameters", Align::Right),
    ]);
    for (_, tensor) in &found {
        let shape: Vec<String> = tensor.shape.iter().map(usize::to_string).collect();
        let count = tensor.shape.iter().product::<usize>();
        table.row([tensor.name.clone(), shape.join(" x "), tensor.dtype.clone(), count.to_string()]);
    }
    print!("{table}");
    let bytes: usize = files.weights().map(|(_, bytes)| bytes.len()).sum();
    println!("\n{} tensors in {} MiB", found.len(), bytes.div_ceil(1 << 20));
    match &checkpoint {
        Ok(checkpoint) => {
            let model = &checkpoint.model;
            let figures = figures(model);
            let mib = |key: &str| figures[key].as_u64().unwrap_or(0).div_ceil(1 << 20);
            println!("family       {}", checkpoint.family.name());
            println!(
                "shape        {} layers, width {}, {} heads ({} for keys and values), context {}, vocabulary {}",
                model.n_layer,
                model.n_embd,
                model.n_head,
                model.kv_heads(),
                model.block_size,
                model.vocab_size
            );
            let all = size::parameter_count(model);
            let active = size::active_parameter_count(model);
            let of_experts =
                if active < all { format!(", {} a token", short(active as f64)) } else { String::new() };
            println!("parameters   {}{of_experts}", short(all as f64));
            println!(
                "inference    {} MiB of weights, {} MiB of keys and values",
                mib("weight_bytes"),
                mib("kv_cache_bytes")
            );
            println!("training     {} MiB at least, one row a step, AdamW, f32", mib("training_bytes"));
        }
        Err(error) => println!("kiln cannot build this model: {error}"),
    }
    Ok(())
}

/// Sizes in bytes, of f32.
fn figures(model: &ModelConfig) -> Value {
    let mut training = Config { model: model.clone(), ..Default::default() };
    training.train.batch_size = 1;
    let parameters = size::parameter_count(model);
    json!({
        "parameters": parameters,
        "active_parameters": size::active_parameter_count(model),
        "weight_bytes": 4 * parameters as u64,
        "kv_cache_bytes": size::kv_cache_bytes(model),
        "training_bytes": size::training_bytes(&training),
    })
}
