//! `kiln classify RUN TEXT`: predicts the class or the number of each text.

use super::{
    model::{ModelArguments, OpenModel, of_model},
    texts::{note_cut, texts},
};
use crate::predict::{Classified, Prediction, Predictor};
use serde_json::json;
use std::{io::Write, path::PathBuf};

/// Number of texts that are processed together.
const AT_ONCE: usize = 16;

#[derive(Debug, clap::Args)]
pub struct ClassifyArguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Texts to classify
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,
    /// A file with one text a line, without blank ones, or JSONL with a field `text`; `-` is the standard
    /// input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print JSON, one line a text
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: ClassifyArguments) -> anyhow::Result<()> {
    let texts = texts(&arguments.texts, arguments.file.as_deref())?;
    let OpenModel { checkpoint, tokenizer, device, model } = arguments.model.open()?;
    let predictor = Predictor::new(&model, &checkpoint.model, &tokenizer, &device)?;
    let mut stdout = std::io::stdout().lock();
    let mut cut = Vec::new();
    for texts in texts.chunks(AT_ONCE) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let classified = pollster::block_on(predictor.classify(&texts));
        let classified = classified.map_err(of_model(&checkpoint))?;
        for (text, Classified { prediction, tokens_cut }) in texts.iter().zip(classified) {
            cut.push(tokens_cut);
            if arguments.json {
                let mut json = json!({ "text": text, "prediction": prediction });
                if tokens_cut > 0 {
                    json["tokens_cut"] = tokens_cut.into();
                }
                writeln!(stdout, "{json}")?;
            } else {
                show(&mut stdout, &prediction)?;
            }
        }
    }
    note_cut("the text", &cut);
    Ok(())
}

fn show(stdout: &mut impl Write, prediction: &Prediction) -> std::io::Result<()> {
    match prediction {
        Prediction::Number { value } => writeln!(stdout, "{value}"),
        Prediction::Classes(guesses) => {
            let shown =
                guesses.iter().take(3).map(|guess| format!("{} {:.4}", guess.label, guess.probability));
            writeln!(stdout, "{}", shown.collect::<Vec<_>>().join("  "))
        }
        Prediction::Words(words) => {
            for found in words {
                writeln!(stdout, "{}\t{}\t{:.4}", found.word, found.class.label, found.class.probability)?;
            }
            writeln!(stdout)
        }
    }
}
