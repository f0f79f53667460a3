//! `kiln inspect`: shows a model's tensors and the memory that it needs, from file headers alone.

use super::table::{Align, Table, bytes, grouped, parameters};
use crate::{
    checkpoint::{Checkpoint, Files, Location, StoredTensor, WeightFiles, names},
    config::{Architecture, Config, ModelConfig, TrainConfig},
    error::Result,
    model::size,
};
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct InspectArguments {
    /// A run or checkpoint folder, a folder of Hugging Face's, or one .safetensors file
    #[arg(value_name = "DIR|FILE")]
    path: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    folder: PathBuf,
    files: Vec<String>,
    tensors: Vec<Row>,
    /// Number of elements in all tensors.
    parameters: u64,
    bytes_on_disk: u64,
    /// The model; `None` if Kiln does not know it.
    model: Option<Model>,
    /// Reason why there is no model.
    unknown: Option<String>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    shape: Vec<usize>,
    dtype: String,
    parameters: u64,
}

#[derive(Serialize)]
struct Model {
    family: &'static str,
    parameters: usize,
    /// Parameters that compute each token: all, without the experts that a token does not use.
    active_parameters: usize,
    architecture: Architecture,
    layers: usize,
    /// Layers of the decoder beside an encoder.
    decoder_layers: Option<usize>,
    heads: usize,
    kv_heads: usize,
    width: usize,
    inner_width: usize,
    context: usize,
    vocabulary: usize,
    /// Number of classes; 0 if the model predicts tokens.
    classes: usize,
    tied: bool,
    /// Patterns of the parameters that the run does not train (`train.freeze`).
    frozen: Vec<String>,
    /// Note about how the files were read.
    note: Option<String>,
    weight_bytes: u64,
    kv_cache_bytes: u64,
    inference_bytes: u64,
    training_bytes: u64,
    training_batch_size: usize,
}

pub(super) fn run(arguments: InspectArguments) -> anyhow::Result<()> {
    let report = inspect(&arguments.path)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}\n{}", tensor_table(&report.tensors), totals(&report));
    }
    Ok(())
}

fn inspect(path: &Path) -> Result<Report> {
    let location = locate(path)?;
    let files = location.open()?;
    // Checksums would read every tensor.
    files.check(|name| location.wants(name) && !names::holds_tensors(name))?;
    let weights = WeightFiles::open(&files, location.named.as_deref())?;
    let row = |StoredTensor { name, shape, dtype, .. }| {
        let parameters = shape.iter().map(|&size| size as u64).product();
        Row { name, shape, dtype, parameters }
    };
    let tensors: Vec<Row> = weights.list().into_iter().map(row).collect();
    let (model, unknown) = match known(&files, location.named.clone()) {
        Ok(model) => (Some(model), None),
        Err(reason) => (None, Some(reason)),
    };
    Ok(Report {
        files: weights.names().map(str::to_owned).collect(),
        parameters: tensors.iter().map(|tensor| tensor.parameters).sum(),
        bytes_on_disk: weights.bytes(),
        tensors,
        model,
        unknown,
        folder: location.folder,
    })
}

/// Finds a model as [`Location::find`] does, or in a folder that has nothing but weights.
fn locate(path: &Path) -> Result<Location> {
    match path.join(names::MODEL).is_file() || path.join(names::INDEX).is_file() {
        true => Ok(Location { folder: path.into(), named: None }),
        false => Location::find(path),
    }
}

/// Describes the model of a configuration, or returns the reason why Kiln does not know it.
fn known(files: &Files, named: Option<String>) -> Result<Model, String> {
    let checkpoint = Checkpoint::from_named(files.clone(), named).map_err(|error| error.to_string())?;
    let model = &checkpoint.model;
    // A run's own settings; otherwise the least that training takes.
    let train = match &checkpoint.config {
        Some(config) => config.train.clone(),
        None => TrainConfig { batch_size: 1, ..Default::default() },
    };
    let training = Config { model: model.clone(), train, ..Default::default() };
    let ModelConfig { n_layer, n_head, n_embd, block_size, vocab_size, tie_embeddings, .. } = *model;
    let (weight_bytes, kv_cache_bytes) = (size::weight_bytes(model), size::kv_cache_bytes(model));
    Ok(Model {
        family: checkpoint.family.name(),
        parameters: size::parameter_count(model),
        active_parameters: size::active_parameter_count(model),
        architecture: model.architecture,
        layers: n_layer,
        decoder_layers: match model.architecture {
            Architecture::EncoderDecoder => Some(model.decoder_layers()),
            Architecture::Decoder | Architecture::Encoder => None,
        },
        heads: n_head,
        kv_heads: model.kv_heads(),
        width: n_embd,
        inner_width: model.inner_size(),
        context: block_size,
        vocabulary: vocab_size,
        classes: model.classes(),
        tied: tie_embeddings,
        frozen: training.train.freeze.clone(),
        note: checkpoint.note.clone(),
        weight_bytes,
        kv_cache_bytes,
        inference_bytes: weight_bytes.saturating_add(kv_cache_bytes),
        training_bytes: size::training_bytes(&training),
        training_batch_size: training.train.batch_size,
    })
}

fn tensor_table(tensors: &[Row]) -> Table {
    let mut table = Table::new([
        ("tensor", Align::Left),
        ("shape", Align::Left),
        ("dtype", Align::Left),
        ("parameters", Align::Right),
    ]);
    for Row { name, shape, dtype, parameters } in tensors {
        table.row([name.clone(), format!("{shape:?}"), dtype.clone(), grouped(*parameters)]);
    }
    table
}

fn totals(report: &Report) -> Table {
    let mut table = Table::new([("", Align::Left), ("", Align::Left)]);
    let files = match &report.files[..] {
        [one] => one.clone(),
        several => format!("{} files", several.len()),
    };
    let total = grouped(report.parameters);
    table.row(["folder", &report.folder.display().to_string()]);
    table.row(["weights".into(), format!("{} in {files}", bytes(report.bytes_on_disk))]);
    table.row(["tensors".into(), format!("{} of {total} numbers", report.tensors.len())]);
    let Some(model) = &report.model else {
        let reason = report.unknown.as_deref().unwrap_or_default();
        table.row(["family".into(), format!("unknown to kiln: {reason}")]);
        return table;
    };
    let shares = if model.kv_heads == model.heads {
        String::new()
    } else {
        format!(", {} of keys and values", model.kv_heads)
    };
    table.row(["family", model.family]);
    let active = match model.active_parameters < model.parameters {
        true => format!(", {} of them active for each token", parameters(model.active_parameters)),
        false => String::new(),
    };
    table.row(["parameters".into(), parameters(model.parameters) + &active]);
    let layers = match model.decoder_layers {
        Some(decoder) => format!("{} of the encoder, {decoder} of the decoder", model.layers),
        None => model.layers.to_string(),
    };
    table.row(["layers".into(), layers]);
    table.row(["heads".into(), format!("{}{shares}", model.heads)]);
    table.row(["width".into(), format!("{}, {} inside the MLP", model.width, model.inner_width)]);
    table.row(["context".into(), format!("{} tokens", grouped(model.context as u64))]);
    table.row(["vocabulary".into(), format!("{} tokens", grouped(model.vocabulary as u64))]);
    let output = match (model.classes, model.tied) {
        (0, true) => "tied to the token embedding".into(),
        (0, false) => "weights of its own".into(),
        (1, _) => "a number".into(),
        (classes, _) => format!("{classes} classes"),
    };
    table.row(["output".into(), output]);
    if !model.frozen.is_empty() {
        table.row(["frozen".into(), model.frozen.join(", ")]);
    }
    if let Some(note) = &model.note {
        table.row(["note", note]);
    }
    let (weights, cache) = (bytes(model.weight_bytes), bytes(model.kv_cache_bytes));
    let inference = bytes(model.inference_bytes);
    let cache = match model.kv_cache_bytes {
        0 => String::new(),
        _ => format!(", keys and values of a full context {cache}"),
    };
    table.row(["inference".into(), format!("{inference}: weights {weights} in f32{cache}")]);
    let (training, batch) = (bytes(model.training_bytes), model.training_batch_size);
    table.row(["training".into(), format!("{training} at least, in batches of {batch}")]);
    table
}
