//! `kiln distill --save-logits MODEL`: saves the most likely tokens of a teacher for the targets of a run's rows, so
//! that students learn from them without the teacher.

use super::{
    DeviceOption,
    config::ConfigSource,
    init_from::check_vocabulary,
    interrupt,
    model::{of_model, open_checkpoint},
    train::use_data,
};
use crate::{
    config::{Layout, ModelConfig},
    data::{Dataset, RowLayout, evaluation_batches},
    error::{Error, hint},
    objective::{Frozen, distill::LogitWriter},
};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct DistillArguments {
    /// The teacher: a run or checkpoint folder, a folder of Hugging Face's, or one .safetensors file of it
    #[arg(long, value_name = "MODEL")]
    save_logits: PathBuf,
    /// Folder of the logits
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Text, JSON or CSV files or folders of them (repeatable), as for the students' `kiln train`
    #[arg(long, value_name = "PATH")]
    data: Vec<PathBuf>,
    #[command(flatten)]
    source: ConfigSource,
    #[command(flatten)]
    device: DeviceOption,
}

/// Number of tokens that are saved for each target if `distill.top_k` says nothing.
const TOP_K: usize = 64;

/// Preset that is used if none is named.
const PRESET: &str = "distill";

pub(super) fn run(arguments: DistillArguments) -> anyhow::Result<()> {
    let checkpoint = open_checkpoint(&arguments.save_logits)?;
    let mut config = arguments.source.read(PRESET)?;
    use_data(&mut config, &arguments.data)?;
    let block_size = config.model.block_size;
    config.model = ModelConfig { block_size, ..checkpoint.model.clone() };
    if !config.model.supports_generation() {
        return Err(Error::InvalidValue {
            key: "--save-logits".into(),
            value: arguments.save_logits.display().to_string(),
            message: "it is no language model".into(),
            hint: Some(hint!["name a model that generates text"]),
        }
        .into());
    }
    if let Some(limit) = checkpoint.model.context_limit().filter(|&limit| limit < block_size) {
        let message = format!("the teacher reads {limit} tokens");
        return Err(Error::invalid_value("model.block_size", block_size, message).into());
    }
    if config.layout() == Layout::Stream {
        return Err(Error::InvalidValue {
            key: "data.layout".into(),
            value: "stream".into(),
            message: "rows that are cut anywhere have no logits that could be found again".into(),
            hint: Some(hint!["add ", hint::set("data.layout", "documents")]),
        }
        .into());
    }
    config.validate()?;
    let dataset = Dataset::prepare(&config, Some(checkpoint.tokenizer()?))?;
    check_vocabulary(&dataset.tokenizer, &checkpoint)?;
    super::show_notes(&dataset.notes);
    let device = arguments.device.choice()?.open()?;
    let teacher = Frozen::new(&checkpoint.build(crate::checkpoint::Weights::Latest, &device)?);
    let vocab_size = checkpoint.model.vocab_size;
    let top_k = config.distill.top_k.unwrap_or(TOP_K.min(vocab_size));
    let temperature = config.distill.temperature;
    let mut writer =
        LogitWriter::create(&arguments.out, top_k, temperature, vocab_size, &dataset.tokenizer, &device)?;
    interrupt::listen()?;
    let layout = RowLayout::of(&config, &dataset.tokenizer)?;
    for split in [&dataset.train, &dataset.val].into_iter().filter(|split| !split.is_empty()) {
        for host in evaluation_batches(split.clone(), layout.clone(), config.train.batch_size, 0) {
            if interrupt::asked() {
                eprintln!("note: interrupted; the logits are incomplete and are not used");
                return Ok(());
            }
            pollster::block_on(writer.add(&teacher, &host)).map_err(of_model(&checkpoint))?;
        }
    }
    let (rows, targets) = writer.finish()?;
    println!("saved the {top_k} most likely tokens for {targets} targets in {rows} rows");
    println!("{}", arguments.out.display());
    Ok(())
}
