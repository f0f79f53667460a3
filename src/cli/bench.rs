//! `kiln bench`: how fast a device trains, against its own measured peak, and `kiln bench generate`: how
//! fast it writes.

mod generate;

use super::{
    config::ConfigSource,
    table::{Align, Table, bytes, duration, short},
    train::check_memory,
};
use crate::{
    config::Config,
    data::Dataset,
    device::{self, Choice, device_failed},
    error::Error,
    platform::{Instant, peak_memory_bytes},
    train::{self, Trainer},
};
use serde::{Deserialize, Serialize};
use std::process::{Command, Stdio};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BenchArguments {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    train: TrainingArguments,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Measure writing, with and without the cache of keys and values
    Generate(generate::GenerationArguments),
}

#[derive(Debug, clap::Args)]
struct TrainingArguments {
    #[command(flatten)]
    source: ConfigSource,
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

/// Figures of one device.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Figures {
    device: String,
    description: String,
    parameters: usize,
    tokens_per_step: usize,
    /// Median of the timed steps.
    steps_per_second: f64,
    tokens_per_second: f64,
    flops_per_second: f64,
    /// Measured peak of f32 matrix products in FLOP/s; none is measured on software adapters.
    peak_flops: Option<f64>,
    mfu: Option<f64>,
    /// Of the process.
    peak_memory_bytes: Option<u64>,
    /// From the start of the command to the end of step 1.
    seconds_to_first_step: f64,
    fastest_step_seconds: f64,
    slowest_step_seconds: f64,
}

const DEFAULT_PRESET: &str = "shakespeare-char-cpu";

pub(super) fn run(arguments: BenchArguments) -> anyhow::Result<()> {
    match arguments.what {
        Some(What::Generate(arguments)) => generate::run(arguments),
        None => train(arguments.train),
    }
}

fn train(arguments: TrainingArguments) -> anyhow::Result<()> {
    let start = Instant::now();
    if arguments.steps == 0 {
        return Err(Error::invalid_value("--steps", 0, "must be at least 1").into());
    }
    let config = arguments.source.resolve(DEFAULT_PRESET)?;
    let choices = arguments.device.iter().map(|name| name.parse()).collect::<crate::Result<Vec<Choice>>>()?;
    let figures = match &choices[..] {
        [choice] => vec![measure(&arguments, config, choice, start)?],
        // A process each, so that memory and start-up time are each one's own.
        several => {
            several.iter().map(|choice| in_own_process(&arguments, choice)).collect::<anyhow::Result<_>>()?
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
    config: Config,
    choice: &Choice,
    start: Instant,
) -> anyhow::Result<Figures> {
    let device = choice.open()?;
    let info = choice.info();
    let dataset = Dataset::prepare(&config, None)?;
    let config = train::resolve(config, &dataset)?;
    check_memory(&config, info.as_ref())?;
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
    let peak_flops =
        if measurable { Some(pollster::block_on(device::measure_peak(&device, 1.0))?) } else { None };
    let flops_per_second = trainer.flops_per_step() / median;
    Ok(Figures {
        device: choice.to_string(),
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

fn in_own_process(arguments: &TrainingArguments, choice: &Choice) -> anyhow::Result<Figures> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bench", "--json", "--device", &choice.to_string()]);
    command.args(["--steps", &arguments.steps.to_string(), "--warmup", &arguments.warmup.to_string()]);
    let ConfigSource { preset, config, set } = &arguments.source;
    preset.iter().for_each(|preset| {
        command.args(["--preset", preset]);
    });
    config.iter().for_each(|config| {
        command.arg("--config").arg(config);
    });
    set.iter().for_each(|set| {
        command.args(["--set", set]);
    });
    let output = command.stderr(Stdio::inherit()).output()?;
    let figures: Vec<Figures> = serde_json::from_slice(&output.stdout).unwrap_or_default();
    figures.into_iter().next().ok_or_else(|| anyhow::anyhow!("measuring device `{choice}` failed"))
}

fn print_table(figures: &[Figures]) {
    let mut table = Table::new([
        ("device", Align::Left),
        ("steps/s", Align::Right),
        ("tokens/s", Align::Right),
        ("GFLOP/s", Align::Right),
        ("MFU", Align::Right),
        ("memory", Align::Right),
        ("first step", Align::Right),
        ("", Align::Left),
    ]);
    for row in figures {
        table.row([
            row.device.clone(),
            format!("{:.2}", row.steps_per_second),
            short(row.tokens_per_second),
            format!("{:.1}", row.flops_per_second / 1e9),
            row.mfu.map_or_else(|| "?".into(), |mfu| format!("{:.1} %", 100.0 * mfu)),
            row.peak_memory_bytes.map_or_else(|| "?".into(), bytes),
            duration(row.seconds_to_first_step),
            row.description.clone(),
        ]);
    }
    if let Some(row) = figures.first() {
        println!(
            "{} parameters, {} tokens a step",
            super::table::parameters(row.parameters),
            row.tokens_per_step
        );
    }
    print!("{table}");
}
