//! `kiln bench train`: measures how fast a device trains, compared with its own measured peak.

use super::{
    super::{
        config::ConfigSource,
        table::{Align, Table, bytes, duration, parameters, short},
        train::fit_memory,
    },
    own_process,
};
use crate::{
    config::Config,
    data::Dataset,
    device::{Choice, device_failed},
    error::Error,
    kernels::{Precision, peak::measure_peak},
    platform::{Instant, peak_memory_bytes},
    train::Trainer,
};
use serde::{Deserialize, Serialize};
use std::path::Path;

#[derive(Debug, clap::Args)]
pub struct TrainingArguments {
    #[command(flatten)]
    source: ConfigSource,
    /// A size that is often measured, instead of a preset or a file (repeatable, side by side)
    #[arg(long, value_enum, value_name = "SIZE", conflicts_with_all = ["preset", "config"])]
    size: Vec<Size>,
    /// Type that matrix products round their factors to, instead of the configuration's `train.dtype` (repeatable, side
    /// by side)
    #[arg(long, value_name = "TYPE")]
    dtype: Vec<Precision>,
    /// Device to measure (repeatable, side by side)
    #[arg(long, value_name = "D", default_value = "auto")]
    device: Vec<String>,
    /// Steps that are timed; each is waited for, and their median counts
    #[arg(long, default_value_t = 20, value_name = "N")]
    steps: usize,
    /// Steps before that, for compiling and tuning
    #[arg(long, default_value_t = 3, value_name = "N")]
    warmup: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Model sizes that are often measured, as in nanoGPT's configurations but without dropout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Size {
    /// 4 layers, 4 heads, width 128, 12 rows of 64 tokens
    #[value(name = "0.8M")]
    Tiny,
    /// 6 layers, 6 heads, width 384, 8 rows of 256 tokens
    #[value(name = "10.7M")]
    Small,
    /// GPT-2: 12 layers, 12 heads, width 768, 1 row of 1,024 tokens
    #[value(name = "124M")]
    Gpt2,
    /// GPT-2 medium: 24 layers, 16 heads, width 1,024, 1 row of 1,024 tokens
    #[value(name = "350M")]
    Gpt2Medium,
}

impl Size {
    fn name(self) -> &'static str {
        match self {
            Self::Tiny => "0.8M",
            Self::Small => "10.7M",
            Self::Gpt2 => "124M",
            Self::Gpt2Medium => "350M",
        }
    }

    /// Arguments that choose this size, with the keys in `set` on top.
    fn source(self, set: &[String]) -> ConfigSource {
        let (preset, keys): (_, &[&str]) = match self {
            Self::Tiny => ("shakespeare-char-cpu", &[]),
            Self::Small => ("shakespeare-char", &["train.batch_size=8", "model.dropout=0"]),
            // The embedded text, whose characters are some of the vocabulary.
            Self::Gpt2 | Self::Gpt2Medium => (
                "gpt2-124m",
                &[
                    "tokenizer.kind=char",
                    "data.val_fraction=0.1",
                    "model.activation=gelu",
                    "train.batch_size=1",
                    "train.gradient_accumulation_steps=1",
                ],
            ),
        };
        let wider: &[&str] = match self {
            Self::Gpt2Medium => &["model.n_layer=24", "model.n_head=16", "model.n_embd=1024"],
            _ => &[],
        };
        let keys = keys.iter().chain(wider).map(|key| String::from(*key));
        let set = keys.chain(set.iter().cloned()).collect();
        ConfigSource { preset: Some(preset.into()), config: None, set }
    }
}

/// Measurements of one device.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Figures {
    /// Name of the size; empty if a configuration was given.
    size: String,
    device: String,
    /// Type that matrix products round their factors to.
    dtype: Precision,
    /// Description of the device; for a CPU its name, generation and threads.
    description: String,
    /// Vector instructions that a CPU computes with.
    instruction_set: Option<String>,
    parameters: usize,
    tokens_per_step: usize,
    /// Steps a second, from the median of the timed steps.
    steps_per_second: f64,
    tokens_per_second: f64,
    flops_per_second: f64,
    /// Measured peak of f32 matrix products in FLOP/s; not measured on software adapters.
    peak_flops: Option<f64>,
    mfu: Option<f64>,
    /// Peak memory of the process, in bytes.
    peak_memory_bytes: Option<u64>,
    /// Seconds from the start of the command to the end of step 1.
    seconds_to_first_step: f64,
    fastest_step_seconds: f64,
    slowest_step_seconds: f64,
}

impl Figures {
    fn summary(&self) -> String {
        self.instruction_set.iter().fold(self.description.clone(), |text, name| text + ", " + name)
    }
}

const DEFAULT_PRESET: &str = "shakespeare-char-cpu";

pub(super) fn run(arguments: TrainingArguments) -> anyhow::Result<()> {
    let start = Instant::now();
    if arguments.steps == 0 {
        return Err(Error::invalid_value("--steps", 0, "must be at least 1").into());
    }
    let choices = arguments.device.iter().map(|name| name.parse()).collect::<crate::Result<Vec<Choice>>>()?;
    let sizes = arguments.size.iter().copied().map(Some).collect::<Vec<_>>();
    let sizes = if sizes.is_empty() { vec![None] } else { sizes };
    let dtypes = arguments.dtype.iter().copied().map(Some).collect::<Vec<_>>();
    let dtypes = if dtypes.is_empty() { vec![None] } else { dtypes };
    let figures = match (&choices[..], &sizes[..], &dtypes[..]) {
        ([choice], [size], [dtype]) => vec![measure(&arguments, *size, *dtype, choice, start)?],
        // A process each, so that memory and start-up time are each one's own.
        _ => {
            let mut figures = Vec::new();
            for (size, choice) in
                sizes.iter().flat_map(|size| choices.iter().map(move |choice| (*size, choice)))
            {
                for dtype in &dtypes {
                    figures.push(in_own_process(&arguments, size, *dtype, choice)?);
                }
            }
            figures
        }
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&figures)?);
    } else {
        print_table(&figures);
    }
    Ok(())
}

fn measure(
    arguments: &TrainingArguments,
    size: Option<Size>,
    dtype: Option<Precision>,
    choice: &Choice,
    start: Instant,
) -> anyhow::Result<Figures> {
    let source = size.map(|size| size.source(&arguments.source.set));
    let mut config: Config = source.as_ref().unwrap_or(&arguments.source).resolve(DEFAULT_PRESET)?;
    config.train.dtype = dtype.unwrap_or(config.train.dtype);
    let dtype = config.train.dtype;
    let device = choice.open()?;
    let info = choice.info();
    let dataset = Dataset::prepare(&config, None)?;
    let config = fit_memory(config.resolve(&dataset)?, info.as_ref(), &device)?;
    let mut trainer = Trainer::new(config, dataset, &device)?;
    let mut step = || -> crate::Result<f64> {
        let start = Instant::now();
        trainer.step();
        let (loss, _) = pollster::block_on(trainer.last_numbers())?;
        if !loss.is_finite() {
            return Err(device_failed(&device, "training", format!("the loss is {loss}")));
        }
        Ok(start.elapsed().as_secs_f64())
    };
    step()?;
    let seconds_to_first_step = start.elapsed().as_secs_f64();
    for _ in 1..arguments.warmup {
        step()?;
    }
    let mut seconds = (0..arguments.steps).map(|_| step()).collect::<crate::Result<Vec<f64>>>()?;
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    let peak_memory_bytes = peak_memory_bytes();
    let measurable = info.as_ref().is_none_or(|info| !info.software);
    let peak_flops = if measurable { Some(pollster::block_on(measure_peak(&device, 1.0))?) } else { None };
    let flops_per_second = trainer.flops_per_step() / median;
    Ok(Figures {
        size: size.map_or("", Size::name).into(),
        device: choice.to_string(),
        dtype,
        instruction_set: info.as_ref().and_then(|info| info.instruction_set).map(String::from),
        description: info.map(|info| info.description).unwrap_or_default(),
        parameters: trainer.parameters(),
        tokens_per_step: trainer.tokens_per_step(),
        steps_per_second: 1.0 / median,
        tokens_per_second: trainer.tokens_per_step() as f64 / median,
        flops_per_second,
        peak_flops,
        mfu: peak_flops.map(|peak| flops_per_second / peak),
        peak_memory_bytes,
        seconds_to_first_step,
        fastest_step_seconds: seconds[0],
        slowest_step_seconds: seconds[seconds.len() - 1],
    })
}

fn in_own_process(
    arguments: &TrainingArguments,
    size: Option<Size>,
    dtype: Option<Precision>,
    choice: &Choice,
) -> anyhow::Result<Figures> {
    let mut words: Vec<String> = ["train", "--json", "--device"].map(String::from).into();
    words.push(choice.to_string());
    let mut option = |name: &str, value: String| words.extend([name.into(), value]);
    option("--steps", arguments.steps.to_string());
    option("--warmup", arguments.warmup.to_string());
    let ConfigSource { preset, config, set } = &arguments.source;
    size.iter().for_each(|size| option("--size", size.name().into()));
    dtype.iter().for_each(|dtype| option("--dtype", dtype.to_string()));
    preset.iter().for_each(|preset| option("--preset", preset.clone()));
    config.iter().for_each(|config| option("--config", config.display().to_string()));
    set.iter().for_each(|set| option("--set", set.clone()));
    let figures: Vec<Figures> = own_process(&words)?;
    figures.into_iter().next().ok_or_else(|| anyhow::anyhow!("measuring device `{choice}` failed"))
}

/// Measures the tokens a second that training a configuration file reaches on a device, in a process of its own.
///
/// # Errors
/// An error if the process fails, which has said why.
pub(in crate::cli) fn tokens_per_second(config: &Path, device: &Choice) -> anyhow::Result<f64> {
    let words =
        ["train", "--json", "--steps", "10", "--device", &device.to_string(), "--config"].map(String::from);
    let words = [&words[..], &[config.display().to_string()]].concat();
    let figures: Vec<Figures> = own_process(&words)?;
    let speed = figures.first().map(|figures| figures.tokens_per_second);
    speed.ok_or_else(|| anyhow::anyhow!("measuring device `{device}` failed"))
}

fn print_table(figures: &[Figures]) {
    let mut table = Table::new([
        ("parameters", Align::Right),
        ("device", Align::Left),
        ("type", Align::Left),
        ("steps/s", Align::Right),
        ("tokens/s", Align::Right),
        ("GFLOP/s", Align::Right),
        ("f32 peak", Align::Right),
        ("MFU", Align::Right),
        ("memory", Align::Right),
        ("first step", Align::Right),
        ("", Align::Left),
    ]);
    for row in figures {
        table.row([
            parameters(row.parameters),
            row.device.clone(),
            row.dtype.to_string(),
            format!("{:.2}", row.steps_per_second),
            short(row.tokens_per_second),
            format!("{:.1}", row.flops_per_second / 1e9),
            row.peak_flops.map_or_else(|| "?".into(), |peak| format!("{:.1}", peak / 1e9)),
            row.mfu.map_or_else(|| "?".into(), |mfu| format!("{:.1} %", 100.0 * mfu)),
            row.peak_memory_bytes.map_or_else(|| "?".into(), bytes),
            duration(row.seconds_to_first_step),
            row.summary(),
        ]);
    }
    print!("{table}");
}
