//! `kiln fill RUN TEXT`: shows the most likely tokens for the masks of a text.

use super::{
    model::{ModelArguments, OpenModel, of_model},
    texts::note_cut,
};
use crate::predict::{Filled, Predictor};

#[derive(Debug, clap::Args)]
pub struct FillArguments {
    #[command(flatten)]
    model: ModelArguments,
    /// A text with `[MASK]` (or the tokenizer's own mask) where something is to be filled in
    #[arg(value_name = "TEXT")]
    text: String,
    /// Number of predictions to show for each mask
    #[arg(long, default_value_t = 5, value_name = "K")]
    top_k: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: FillArguments) -> anyhow::Result<()> {
    let OpenModel { checkpoint, tokenizer, device, model } = arguments.model.open()?;
    let predictor = Predictor::new(&model, &checkpoint.model, &tokenizer, &device)?;
    let filled = pollster::block_on(predictor.fill(&arguments.text, arguments.top_k));
    let Filled { masks, tokens_cut } = filled.map_err(of_model(&checkpoint))?;
    note_cut("the text", &[tokens_cut]);
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&masks)?);
        return Ok(());
    }
    for (number, guesses) in masks.iter().enumerate() {
        println!("mask {}", number + 1);
        for guess in guesses {
            println!("  {:<16} {:.4}", format!("{:?}", guess.label), guess.probability);
        }
    }
    Ok(())
}
