//! `kiln generate RUN`: let a trained model write, shown as it writes.

use super::{DeviceOption, interrupt};
use crate::{
    checkpoint::{Checkpoint, Weights},
    config::{Config, SampleConfig},
    generate::Generator,
    platform::Instant,
};
use serde_json::json;
use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
};

#[derive(Debug, clap::Args)]
pub struct GenerateArguments {
    /// A run or checkpoint folder, a folder of Hugging Face's, or one .safetensors file of it
    #[arg(value_name = "RUN")]
    path: PathBuf,
    /// Text to continue
    #[arg(long, short)]
    prompt: Option<String>,
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
    /// Use the moving average of the weights
    #[arg(long)]
    ema: bool,
    /// Print JSON instead of streaming text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceOption,
}

impl GenerateArguments {
    /// The run's own settings, changed by what was asked for.
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
    let checkpoint = Checkpoint::open_model(&arguments.path)?;
    let tokenizer = checkpoint.tokenizer()?;
    let sample = arguments.sample(checkpoint.config.as_ref())?;
    let device = arguments.device.choice()?.open()?;
    let weights = if arguments.ema { Weights::Averaged } else { Weights::Latest };
    let model = checkpoint.build(weights, &device)?;
    interrupt::listen()?;

    let mut stdout = std::io::stdout().lock();
    let mut broken = None;
    let mut show = |text: &str| {
        let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        broken = broken.take().or(written.err());
    };
    let start = Instant::now();
    if !arguments.json {
        show(&sample.prompt);
    }
    let mut on_text = |text: &str| {
        if !arguments.json {
            show(text);
        }
    };
    let generator =
        Generator { model: &model, config: &checkpoint.model, tokenizer: &tokenizer, device: &device };
    let written = pollster::block_on(generator.generate(&sample, &mut on_text, &interrupt::asked))?;
    if let Some(error) = broken {
        return Err(error.into());
    }
    let seconds = start.elapsed().as_secs_f64();
    let tokens_per_second = written.tokens as f64 / seconds;
    if arguments.json {
        let result = json!({
            "prompt": sample.prompt,
            "text": written.text,
            "tokens": written.tokens,
            "reason": written.reason,
            "seconds": seconds,
            "tokens_per_second": tokens_per_second,
        });
        writeln!(stdout, "{}", serde_json::to_string_pretty(&result)?)?;
    } else {
        writeln!(stdout)?;
        if std::io::stderr().is_terminal() {
            eprintln!("[{} tokens, {tokens_per_second:.0} tokens/s]", written.tokens);
        }
    }
    Ok(())
}
