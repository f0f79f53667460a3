//! `kiln inspect`: shows a model's tensors and the memory that it needs, from file headers alone.

use super::{
    model::AdapterOption,
    table::{Align, Table, bytes, grouped, parameters},
};
use crate::{
    checkpoint::{Checkpoint, Location, StoredAdapter, StoredTensor, WeightFiles, names},
    config::{Architecture, Config, ModelConfig, TrainConfig},
    error::Result,
    model::size,
    train::memory::{self, ModelsBeside},
};
use serde::Serialize;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

#[derive(Debug, clap::Args)]
pub struct InspectArguments {
    /// A run or checkpoint folder, a folder of Hugging Face's, or one .safetensors or .gguf file
    #[arg(value_name = "DIR|FILE")]
    path: PathBuf,
    #[command(flatten)]
    adapters: AdapterOption,
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
    adapters: Vec<Adapter>,
}

#[derive(Serialize)]
struct Adapter {
    folder: PathBuf,
    /// Share of its changes that counts.
    weight: f64,
    /// `lora` or `dora`.
    kind: &'static str,
    rank: usize,
    alpha: f64,
    rslora: bool,
    /// Number of modules that are changed.
    modules: usize,
    /// Ends of their names, each once.
    names: BTreeSet<String>,
    /// Names of the tensors that are replaced as a whole.
    saved: Vec<String>,
    parameters: usize,
    /// Model that it changes, as its settings name it.
    base: Option<String>,
}

impl From<&StoredAdapter> for Adapter {
    fn from(StoredAdapter { path, share, settings, adapter, .. }: &StoredAdapter) -> Self {
        let modules = adapter.changes.keys();
        let end = |module: &String| module.rsplit('.').next().unwrap_or_default().to_owned();
        Self {
            folder: path.clone(),
            weight: *share,
            kind: settings.kind().name(),
            rank: settings.rank,
            alpha: settings.alpha,
            rslora: settings.rslora,
            modules: modules.len(),
            names: modules.map(end).collect(),
            saved: adapter.saved.keys().cloned().collect(),
            parameters: adapter.parameters(),
            base: settings.base.clone(),
        }
    }
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
    let report = inspect(&arguments.path, &arguments.adapters)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}\n{}", tensor_table(&report.tensors), totals(&report));
    }
    Ok(())
}

fn inspect(path: &Path, adapters: &AdapterOption) -> Result<Report> {
    let location = locate(path)?;
    let files = location.open()?;
    // Checksums would read every tensor.
    files.check(|name| location.wants(name) && !names::holds_tensors(name))?;
    let is_adapter = files.get(names::CONFIG).is_none() && files.get(names::ADAPTER_CONFIG).is_some();
    let named = if is_adapter { Some(names::ADAPTER) } else { location.named.as_deref() };
    let weights = WeightFiles::open(&files, named)?;
    let row = |StoredTensor { name, shape, dtype, .. }| {
        let parameters = shape.iter().map(|&size| size as u64).product();
        Row { name, shape, dtype, parameters }
    };
    let tensors: Vec<Row> = weights.list().into_iter().map(row).collect();
    let (model, unknown, adapters) = match Checkpoint::from_named(files.clone(), location.named.clone()) {
        Ok(mut checkpoint) => {
            adapters.add_to(&mut checkpoint)?;
            let adapters = checkpoint.adapters().iter().map(Adapter::from).collect();
            (Some(known(&checkpoint)), None, adapters)
        }
        // An adapter shows what it is without its model.
        Err(reason) => {
            let own = if is_adapter { Some(StoredAdapter::read(&files, 1.0)?) } else { None };
            (None, Some(reason.to_string()), own.iter().map(Adapter::from).collect())
        }
    };
    Ok(Report {
        files: weights.names().map(str::to_owned).collect(),
        parameters: tensors.iter().map(|tensor| tensor.parameters).sum(),
        bytes_on_disk: weights.bytes(),
        tensors,
        model,
        unknown,
        adapters,
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

/// Describes the model of a checkpoint.
fn known(checkpoint: &Checkpoint) -> Model {
    let model = &checkpoint.model;
    // A run's own settings; otherwise the least that training takes.
    let train = match &checkpoint.config {
        Some(config) => config.train.clone(),
        None => TrainConfig { batch_size: 1, ..Default::default() },
    };
    let adapter = checkpoint.config.as_ref().map(|config| config.adapter.clone()).unwrap_or_default();
    let training = Config { model: model.clone(), train, adapter, ..Default::default() };
    let ModelConfig { n_layer, n_head, n_embd, block_size, vocab_size, tie_embeddings, .. } = *model;
    let (weight_bytes, kv_cache_bytes) = (size::weight_bytes(model), size::kv_cache_bytes(model));
    Model {
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
        training_bytes: memory::training_bytes(&training, &ModelsBeside::default()),
        training_batch_size: training.train.batch_size,
    }
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
    for adapter in &report.adapters {
        table.row(["adapter".into(), described(adapter)]);
    }
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

/// Describes an adapter in one line.
fn described(adapter: &Adapter) -> String {
    let Adapter { kind, rank, alpha, modules, parameters: count, .. } = adapter;
    let names = adapter.names.iter().cloned().collect::<Vec<_>>().join(", ");
    let scaled = if adapter.rslora { " over the root of the rank" } else { "" };
    let saved = match adapter.saved.len() {
        0 => String::new(),
        _ => format!(", whole {}", adapter.saved.join(", ")),
    };
    let weight = if adapter.weight == 1.0 { String::new() } else { format!(", times {}", adapter.weight) };
    let base = adapter.base.as_ref().map_or_else(String::new, |base| format!(", of `{base}`"));
    format!(
        "{kind} of rank {rank}, alpha {alpha}{scaled}: {} in {modules} modules ({names}){saved}{weight}{base}",
        parameters(*count)
    )
}
