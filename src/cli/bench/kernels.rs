//! `kiln bench kernels`: measures every fused operation and its unfused reference: time forward and backward,
//! memory, and the difference of their results; and the memory of attention by the length of the text.

use super::{
    super::{
        DeviceOption,
        plot::curve_svg,
        table::{Align, Table, bytes},
    },
    own_process,
};
use crate::{
    device::{Choice, device_failed},
    error::Error,
    kernels::{
        Mode, Precision,
        cases::{CASES, Case, Sizes},
        precision,
    },
    platform::{Instant, peak_memory_bytes, restart_peak_memory, storage},
};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct KernelArguments {
    /// Measure these operations only (repeatable)
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Runs that are timed; their median counts
    #[arg(long, default_value_t = 10, value_name = "N")]
    runs: usize,
    /// Type that the fused operations round the factors of matrix products to; the reference computes in f32
    #[arg(long, value_name = "TYPE", default_value_t)]
    dtype: Precision,
    /// Lengths at which the memory of attention is measured, in tokens
    #[arg(long, value_name = "T,..", value_delimiter = ',',
        default_values_t = [256, 512, 1024, 2048, 4096, 8192])]
    lengths: Vec<usize>,
    /// Draw the memory of attention by length (SVG)
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Measure one operation this way and print it (what the command runs itself)
    #[arg(long, value_name = "fused|reference", hide = true)]
    way: Option<Way>,
    #[command(flatten)]
    device: DeviceOption,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Way {
    Fused,
    Reference,
}

/// Measurements of one operation, fused or unfused, forward and backward.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Measured {
    seconds: f64,
    /// Memory in addition to that of the inputs, in bytes; `None` if the system does not tell.
    memory_bytes: Option<u64>,
}

/// Figures of one operation, fused and unfused.
#[derive(Debug, Clone, Serialize)]
struct Figures {
    operation: String,
    shapes: String,
    fused: Measured,
    reference: Measured,
    /// Largest difference of the outputs, relative to the largest number of the reference.
    forward_error: f64,
    gradient_error: f64,
}

/// Memory of attention over one row, forward and backward.
#[derive(Debug, Clone, Serialize)]
struct AttentionMemory {
    tokens: usize,
    fused_bytes: Option<u64>,
    /// Memory of the unfused reference; `None` also if it would not fit.
    reference_bytes: Option<u64>,
}

/// Maximum length at which the reference, which stores the attention weights of all queries, is measured.
const LONGEST_REFERENCE: usize = 2048;

pub(super) fn run(arguments: KernelArguments) -> anyhow::Result<()> {
    if arguments.runs == 0 {
        return Err(Error::invalid_value("--runs", 0, "must be at least 1").into());
    }
    let choice = arguments.device.choice()?;
    if let Some(way) = arguments.way {
        let [name] = &arguments.only[..] else {
            return Err(Error::invalid_value("--only", arguments.only.join(", "), "expected one name").into());
        };
        let (case, sizes) = known_of_length(name)?;
        let mode = match way {
            Way::Fused => Mode::Fused.with_precision(arguments.dtype),
            Way::Reference => Mode::Reference,
        };
        let measured = measure(case, sizes, &choice.open()?, mode, arguments.runs)?;
        println!("{}", serde_json::to_string(&measured)?);
        return Ok(());
    }
    for name in &arguments.only {
        known(name)?;
    }
    let asked =
        |case: &&Case| arguments.only.is_empty() || arguments.only.iter().any(|name| name == case.name);
    let device = choice.open()?;
    precision::check("--dtype", arguments.dtype, &device)?;
    let mut figures = Vec::new();
    for case in CASES.iter().filter(asked) {
        let one = |way| separately(case.name, way, arguments.dtype, arguments.runs, &choice);
        let difference = pollster::block_on(case.compare(&device, Sizes::MODEL, arguments.dtype))?;
        figures.push(Figures {
            operation: case.name.into(),
            shapes: case.shapes(Sizes::MODEL),
            fused: one("fused")?,
            reference: one("reference")?,
            forward_error: difference.forward,
            gradient_error: difference.gradient,
        });
    }
    let mut memory = Vec::new();
    if arguments.only.is_empty() || arguments.plot.is_some() {
        for &tokens in &arguments.lengths {
            let one = |way| separately(&format!("attention@{tokens}"), way, arguments.dtype, 1, &choice);
            let fused_bytes = one("fused")?.memory_bytes;
            let reference_bytes =
                if tokens <= LONGEST_REFERENCE { one("reference")?.memory_bytes } else { None };
            memory.push(AttentionMemory { tokens, fused_bytes, reference_bytes });
        }
    }
    if let Some(path) = &arguments.plot {
        let points: Vec<_> = memory
            .iter()
            .filter_map(|row| Some((row.tokens as f64, row.fused_bytes? as f64 / f64::from(1 << 20))))
            .collect();
        let title = "memory of attention, forward and backward, in MiB by tokens";
        storage::write_atomic(path, curve_svg(&[points], title, (720, 360))?.as_bytes())?;
    }
    if arguments.json {
        let info = choice.info();
        let all = serde_json::json!({
            "device": choice.to_string(),
            "dtype": arguments.dtype,
            "description": info.as_ref().map(|info| &info.description),
            "instruction_set": info.as_ref().and_then(|info| info.instruction_set),
            "operations": figures,
            "attention_memory": memory,
        });
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        let summary = choice.info().map(|info| format!(" ({})", info.summary())).unwrap_or_default();
        println!("{choice}{summary}\n");
        print_tables(&figures, &memory);
    }
    Ok(())
}

/// Finds an operation by its name.
fn known(name: &str) -> crate::Result<&'static Case> {
    Case::find(name).ok_or_else(|| {
        let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        Error::invalid_value("--only", name, format!("expected one of {}", names.join(", ")))
    })
}

/// Finds an operation by its name; `NAME@N` stands for one row of `N` tokens.
fn known_of_length(name: &str) -> crate::Result<(&'static Case, Sizes)> {
    let Some((word, length)) = name.split_once('@') else { return Ok((known(name)?, Sizes::MODEL)) };
    let refused = || Error::invalid_value("--only", name, "expected a number of tokens after `@`");
    let time = length.parse().map_err(|_| refused())?;
    Ok((known(word)?, Sizes { rows: 1, time, ..Sizes::MODEL }))
}

/// Measures an operation in a process of its own, so that its memory is not mixed with that of others.
fn separately(
    name: &str,
    way: &str,
    dtype: Precision,
    runs: usize,
    choice: &Choice,
) -> anyhow::Result<Measured> {
    let words = ["kernels", "--only", name, "--way", way, "--dtype", dtype.name(), "--runs"];
    let words = words.into_iter().map(String::from);
    let words: Vec<String> = words.chain([runs.to_string(), "--device".into(), choice.to_string()]).collect();
    own_process(&words)
}

fn measure(case: &Case, sizes: Sizes, device: &Device, mode: Mode, runs: usize) -> crate::Result<Measured> {
    let autodiff = device.clone().autodiff();
    let run = case.prepare(&autodiff, sizes);
    let wait = || device.sync().map_err(|error| device_failed(device, "measuring", error.to_string()));
    wait()?;
    let before = restart_peak_memory();
    let mut seconds = Vec::new();
    // The first run compiles and tunes.
    for _ in 0..=runs {
        let start = Instant::now();
        drop(run(mode));
        wait()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    let memory_bytes = peak_memory_bytes().zip(before).map(|(after, before)| after.saturating_sub(before));
    let timed = &mut seconds[1..];
    timed.sort_by(f64::total_cmp);
    Ok(Measured { seconds: timed[timed.len() / 2], memory_bytes })
}

fn print_tables(figures: &[Figures], memory: &[AttentionMemory]) {
    let size = |bytes_: Option<u64>| bytes_.map_or_else(|| "?".into(), bytes);
    let mut table = Table::new([
        ("operation", Align::Left),
        ("fused", Align::Right),
        ("reference", Align::Right),
        ("faster", Align::Right),
        ("memory", Align::Right),
        ("reference", Align::Right),
        ("error", Align::Right),
        ("of gradients", Align::Right),
        ("shapes", Align::Left),
    ]);
    for row in figures {
        table.row([
            row.operation.clone(),
            format!("{:.2} ms", 1e3 * row.fused.seconds),
            format!("{:.2} ms", 1e3 * row.reference.seconds),
            format!("{:.1} x", row.reference.seconds / row.fused.seconds),
            size(row.fused.memory_bytes),
            size(row.reference.memory_bytes),
            format!("{:.1e}", row.forward_error),
            format!("{:.1e}", row.gradient_error),
            row.shapes.clone(),
        ]);
    }
    print!("{table}");
    if memory.is_empty() {
        return;
    }
    let mut table =
        Table::new([("attention over", Align::Right), ("memory", Align::Right), ("reference", Align::Right)]);
    for row in memory {
        let reference =
            if row.tokens > LONGEST_REFERENCE { "not tried".into() } else { size(row.reference_bytes) };
        table.row([format!("{} tokens", row.tokens), size(row.fused_bytes), reference]);
    }
    print!("\n{table}");
}
