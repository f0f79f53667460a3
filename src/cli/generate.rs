//! `kiln generate RUN`: generates text with a trained model and shows it as it is generated.

use super::{
    interrupt,
    model::{ModelArguments, OpenModel, of_model},
    texts::{note_cut, texts},
};
use crate::{
    config::{Config, SampleConfig},
    error::Error,
    generate::{Generated, Generator},
    model::Model,
    platform::Instant,
};
use serde_json::json;
use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
};

#[derive(Debug, clap::Args)]
pub struct GenerateArguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Text to continue; of an encoder-decoder, the text that it reads
    #[arg(long, short)]
    prompt: Option<String>,
    /// A file of prompts, one a line without blank ones, or JSONL with a field `text`; text is generated for
    /// all of them together
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    prompts: Option<PathBuf>,
    /// Number of tokens to add
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,
    /// Divides the logits; 0 takes the most likely token each time
    #[arg(long, value_name = "T")]
    temperature: Option<f64>,
    /// Keep only the k most likely tokens; 0: all
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Keep the smallest set of tokens whose probability reaches p
    #[arg(long, value_name = "P")]
    top_p: Option<f64>,
    /// Drop tokens less likely than this share of the most likely one
    #[arg(long, value_name = "P")]
    min_p: Option<f64>,
    /// Divides the logits of tokens that already occurred
    #[arg(long, value_name = "R")]
    repetition_penalty: Option<f64>,
    /// Take the most likely text, by beam search with so many candidates
    #[arg(long, value_name = "N")]
    num_beams: Option<usize>,
    /// Beam search: above 0 favours long text, below 0 short text
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    length_penalty: Option<f64>,
    /// Text at which to stop; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    #[arg(long)]
    seed: Option<u64>,
    /// Print JSON instead of streaming text
    #[arg(long)]
    json: bool,
}

impl GenerateArguments {
    /// Returns the run's settings for generation, changed by the arguments.
    fn sample(&self, config: Option<&Config>) -> crate::Result<SampleConfig> {
        let mut sample = config.map(|config| config.sample.clone()).unwrap_or_default();
        if let Some(prompt) = &self.prompt {
            sample.prompt.clone_from(prompt);
        }
        sample.max_new_tokens = self.max_new_tokens.unwrap_or(sample.max_new_tokens);
        sample.temperature = self.temperature.unwrap_or(sample.temperature);
        sample.top_k = self.top_k.unwrap_or(sample.top_k);
        sample.top_p = self.top_p.unwrap_or(sample.top_p);
        sample.min_p = self.min_p.unwrap_or(sample.min_p);
        sample.repetition_penalty = self.repetition_penalty.unwrap_or(sample.repetition_penalty);
        sample.num_beams = self.num_beams.unwrap_or(sample.num_beams);
        sample.length_penalty = self.length_penalty.unwrap_or(sample.length_penalty);
        sample.seed = self.seed.unwrap_or(sample.seed);
        if !self.stop.is_empty() {
            sample.stop.clone_from(&self.stop);
        }
        Config { sample: sample.clone(), ..Default::default() }.validate()?;
        Ok(sample)
    }
}

pub(super) fn run(arguments: GenerateArguments) -> anyhow::Result<()> {
    let opened = arguments.model.checkpoint()?;
    let sample = arguments.sample(opened.0.config.as_ref())?;
    let prompts = match &arguments.prompts {
        Some(file) => texts(&[], Some(file))?,
        None => Vec::new(),
    };
    let OpenModel { checkpoint, tokenizer, device, model } = arguments.model.load(opened)?;
    super::show_notes(&checkpoint.end_tokens(&tokenizer)?.notes);
    interrupt::listen()?;
    let generator =
        Generator { model: &model, config: &checkpoint.model, tokenizer: &tokenizer, device: &device };
    let of_model = of_model(&checkpoint);
    if !prompts.is_empty() {
        return many(&generator, &prompts, &sample, arguments.json, &of_model);
    }

    let mut stdout = std::io::stdout().lock();
    let mut broken = None;
    let mut show = |text: &str| {
        let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        broken = broken.take().or(written.err());
    };
    let start = Instant::now();
    // The output of an encoder-decoder does not continue the prompt.
    if !arguments.json && matches!(model, Model::Decoder(_)) {
        show(&sample.prompt);
    }
    let mut on_text = |text: &str| {
        if !arguments.json {
            show(text);
        }
    };
    let generated = pollster::block_on(generator.generate(&sample, &mut on_text, &interrupt::asked));
    // An error begins a line of its own.
    if generated.is_err() && !arguments.json {
        show("\n");
    }
    let generated = generated.map_err(of_model)?;
    if let Some(error) = broken {
        return Err(error.into());
    }
    let seconds = start.elapsed().as_secs_f64();
    let tokens_per_second = generated.tokens as f64 / seconds;
    if arguments.json {
        let mut result = json(&sample.prompt, &generated);
        result["seconds"] = seconds.into();
        result["tokens_per_second"] = tokens_per_second.into();
        writeln!(stdout, "{}", serde_json::to_string_pretty(&result)?)?;
    } else {
        writeln!(stdout)?;
        if std::io::stderr().is_terminal() {
            eprintln!("[{} tokens, {tokens_per_second:.0} tokens/s]", generated.tokens);
        }
    }
    note_cut("the prompt", &[generated.prompt_tokens_cut]);
    Ok(())
}

/// Number of prompts that are processed together.
const AT_ONCE: usize = 32;

/// Prints the text generated for each of many prompts, one a line.
fn many(
    generator: &Generator,
    prompts: &[String],
    sample: &SampleConfig,
    as_json: bool,
    of_model: &dyn Fn(Error) -> Error,
) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    let mut cut = Vec::new();
    for (number, prompts) in prompts.chunks(AT_ONCE).enumerate() {
        let texts: Vec<&str> = prompts.iter().map(String::as_str).collect();
        let generated = generator.generate_each(&texts, number * AT_ONCE, sample, &interrupt::asked);
        let generated = pollster::block_on(generated).map_err(of_model)?;
        cut.extend(generated.iter().map(|generated| generated.prompt_tokens_cut));
        for (prompt, generated) in texts.iter().zip(&generated) {
            if as_json {
                writeln!(stdout, "{}", json(prompt, generated))?;
            } else {
                writeln!(stdout, "{}", generated.text.replace('\n', "\\n"))?;
            }
        }
        if interrupt::asked() {
            break;
        }
    }
    note_cut("the prompt", &cut);
    Ok(())
}

fn json(prompt: &str, generated: &Generated) -> serde_json::Value {
    let mut json = json!({
        "prompt": prompt,
        "text": generated.text,
        "tokens": generated.tokens,
        "reason": generated.reason,
    });
    if generated.prompt_tokens_cut > 0 {
        json["prompt_tokens_cut"] = generated.prompt_tokens_cut.into();
    }
    json
}
