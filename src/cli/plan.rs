//! `kiln plan`: the memory and the time of a run on a device, before it is started, and settings that fit.

use super::{
    DeviceOption,
    config::ConfigSource,
    table::{Align, Table, bytes, duration, parameters, short},
    train::{NewRun, default_preset, memory_kind, new_run},
};
use crate::{
    config::{Config, TrainConfig},
    data::Dataset,
    device::{self, DeviceInfo},
    error::Error,
    model::size,
    train::{
        memory::{Memory, MemoryKind, ModelsBeside, phases},
        plan::{self, Limits, StepTime, Suggestion},
    },
};
use burn::tensor::Device;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct PlanArguments {
    #[command(flatten)]
    source: ConfigSource,
    /// Text, JSON, CSV or token files or folders of them (repeatable); default: the embedded corpus
    #[arg(long, value_name = "PATH")]
    data: Vec<PathBuf>,
    /// Plan a run that starts from the weights of a pretrained model, as `kiln train` does
    #[arg(long, value_name = "DIR|FILE")]
    init_from: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceOption,
    /// Memory to plan for, in GiB; default: the device's
    #[arg(long, value_name = "GIB")]
    memory: Option<f64>,
    /// Leave out the time, which is measured with a few layers of the model
    #[arg(long)]
    memory_only: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A run on a device.
struct Run {
    config: Config,
    dataset: Dataset,
    device: Device,
    name: String,
    description: String,
    beside: ModelsBeside,
    kind: MemoryKind,
    /// Memory of the device in bytes, if it is known.
    available: Option<u64>,
    dtypes: Vec<&'static str>,
}

pub(super) fn run(arguments: PlanArguments) -> anyhow::Result<()> {
    let run = prepare(&arguments)?;
    let limits = Limits { kind: run.kind, bytes: run.available.unwrap_or(u64::MAX), dtypes: &run.dtypes };
    // An automatic batch that does not fit is planned as it is, so that what is missing can be seen.
    let config = plan::fit_batch(run.config.clone(), &run.beside, &limits, &run.name);
    let config = config.unwrap_or_else(|_| run.config.clone());
    let all = phases(&config, &run.beside, run.kind);
    let suggestions = plan::suggestions(&config, &run.beside, &limits);
    let time = match arguments.memory_only {
        true => None,
        false => {
            let measured = plan::measure_step(&config, &run.dataset, &run.device, &limits);
            pollster::block_on(measured)?
        }
    };
    let plan = Plan { run: &run, config: &config, all, suggestions, time };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&plan.to_json())?);
    } else {
        plan.print(arguments.memory_only);
    }
    Ok(())
}

fn prepare(arguments: &PlanArguments) -> crate::Result<Run> {
    let memory = arguments.memory;
    if let Some(memory) = memory.filter(|memory| !memory.is_finite() || *memory <= 0.0) {
        return Err(Error::invalid_value("--memory", memory, "expected a finite number above 0"));
    }
    let choice = arguments.device.choice()?;
    let device = choice.open()?;
    let info = choice.info();
    let preset = default_preset(&choice);
    let NewRun { config, dataset, .. } =
        new_run(&arguments.source, &arguments.data, arguments.init_from.as_deref(), preset)?;
    let of_device = info.as_ref().and_then(|info| info.memory_bytes);
    Ok(Run {
        beside: ModelsBeside::open(&config)?,
        dtypes: device::dtypes(&device),
        kind: info.as_ref().map_or(MemoryKind::Device, memory_kind),
        name: choice.to_string(),
        description: info.as_ref().map(DeviceInfo::summary).unwrap_or_default(),
        available: memory.map(|gib| (gib * (1u64 << 30) as f64) as u64).or(of_device),
        config,
        dataset,
        device,
    })
}

/// Everything that is printed of a run.
struct Plan<'a> {
    run: &'a Run,
    /// The configuration, with an automatic batch divided.
    config: &'a Config,
    all: Vec<Memory>,
    suggestions: Vec<Suggestion>,
    time: Option<StepTime>,
}

impl Plan<'_> {
    /// Memory in the phase in which the run needs the most.
    fn most(&self) -> Option<&Memory> {
        self.all.iter().max_by_key(|memory| memory.total())
    }

    fn total(&self) -> u64 {
        self.most().map_or(0, Memory::total)
    }

    fn fits(&self) -> Option<bool> {
        self.run.available.map(|available| self.total() <= available)
    }

    fn seconds(&self, config: &Config, factor: f64) -> Option<f64> {
        self.time.map(|time| factor * time.of_step(config))
    }

    fn tokens_per_second(&self) -> Option<f64> {
        let seconds = self.seconds(self.config, 1.0)?;
        Some(size::tokens_per_step(self.config) as f64 / seconds)
    }

    fn print(&self, memory_only: bool) {
        let TrainConfig { batch_size, gradient_accumulation_steps, .. } = self.config.train;
        let model = &self.config.model;
        println!(
            "{} parameters on {} ({}), {gradient_accumulation_steps} × {batch_size} rows of {} tokens a step\n",
            parameters(size::parameter_count(model)),
            self.run.name,
            self.run.description,
            model.block_size,
        );
        let columns = self.all.iter().map(|memory| (name(memory), Align::Right));
        let mut table = Table::new([(String::new(), Align::Left)].into_iter().chain(columns));
        let parts: Vec<_> = self.all.iter().map(Memory::parts).collect();
        let names = Memory::NAMES.iter().enumerate();
        for (part, title) in names.filter(|(part, _)| parts.iter().any(|parts| parts[*part] > 0)) {
            let sizes = parts.iter().map(|parts| bytes(parts[part]));
            table.row([(*title).to_owned()].into_iter().chain(sizes));
        }
        let totals = self.all.iter().map(|memory| bytes(memory.total()));
        table.row(["together".to_owned()].into_iter().chain(totals));
        print!("{table}");
        println!("\n{}", self.verdict());
        match (self.seconds(self.config, 1.0), self.tokens_per_second()) {
            (Some(seconds), Some(speed)) => {
                println!("A step takes {}: {} tokens/s.", precise(seconds), short(speed));
            }
            _ if memory_only => (),
            _ => println!(
                "The time of a step is not predicted for `objective.kind` = `{}`{}.",
                self.config.objective_kind().name(),
                if self.config.adapter.is_on() { " with an adapter" } else { "" }
            ),
        }
        for suggestion in &self.suggestions {
            let time = self.seconds(&suggestion.config, suggestion.time);
            let time =
                time.map_or_else(String::new, |seconds| format!(", about {} a step", precise(seconds)));
            let settings = crate::hint![suggestion.as_settings()];
            println!("Fits with {settings}: {}{time}.", bytes(suggestion.total));
        }
    }

    fn verdict(&self) -> String {
        let total = bytes(self.total());
        match self.run.available {
            None => format!("It needs {total}; the memory of the device is not known."),
            Some(available) if self.total() <= available => {
                format!("It fits: {total} of {}.", bytes(available))
            }
            Some(available) => {
                let advice = match self.suggestions.is_empty() {
                    true => format!(" Hint: {}.", plan::advice(&[])),
                    false => String::new(),
                };
                format!("It does not fit: {total}, but there are {}.{advice}", bytes(available))
            }
        }
    }

    fn to_json(&self) -> Value {
        let TrainConfig { batch_size, gradient_accumulation_steps, .. } = self.config.train;
        let suggestions = self.suggestions.iter().map(|suggestion| {
            let settings = suggestion.settings.iter().map(|(key, value)| ((*key).into(), json!(value)));
            json!({
                "settings": settings.collect::<Map<String, Value>>(),
                "total_bytes": suggestion.total,
                "seconds_per_step": self.seconds(&suggestion.config, suggestion.time),
            })
        });
        json!({
            "device": self.run.name,
            "description": self.run.description,
            "parameters": size::parameter_count(&self.config.model),
            "batch_size": batch_size,
            "gradient_accumulation_steps": gradient_accumulation_steps,
            "tokens_per_step": size::tokens_per_step(self.config),
            "available_bytes": self.run.available,
            "total_bytes": self.total(),
            "fits": self.fits(),
            "phases": self.all.iter().map(WithTotal::of).collect::<Vec<_>>(),
            "seconds_per_step": self.seconds(self.config, 1.0),
            "tokens_per_second": self.tokens_per_second(),
            "suggestions": suggestions.collect::<Vec<_>>(),
        })
    }
}

/// Memory in a phase, with its sum.
#[derive(Serialize)]
struct WithTotal<'a> {
    #[serde(flatten)]
    memory: &'a Memory,
    total: u64,
}

impl<'a> WithTotal<'a> {
    fn of(memory: &'a Memory) -> Self {
        Self { memory, total: memory.total() }
    }
}

/// Title of a column.
fn name(memory: &Memory) -> String {
    let name = serde_json::to_value(memory.phase).unwrap_or_default();
    format!("at a {}", name.as_str().unwrap_or_default()).replace("a start", "the start")
}

/// A short time in milliseconds.
fn precise(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", 1000.0 * seconds) } else { duration(seconds) }
}
