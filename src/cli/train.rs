//! `kiln train`: from text to a trained model in a run folder.

use super::{
    DeviceOption, config::ConfigSource, init_from, interrupt, memorization, model::open_checkpoint,
    score_command, suite, watch::Watcher,
};
use crate::{
    checkpoint::{Checkpoint, Files, Resume, RunFolder, resolve},
    config::{Config, TrainConfig},
    data::Dataset,
    device::{self, Choice, DeviceInfo},
    error::{Error, Place, Result, hint},
    eval::memorization::Memorization,
    generate::Generator,
    kernels::peak::measure_peak,
    train::{
        Hooks, Trainer,
        event::{Event, FinishReason, MemorizationReport},
        memory::{MemoryKind, ModelsBeside},
        plan::{self, Limits},
    },
};
use burn::tensor::Device;
use std::{
    cell::RefCell,
    path::{Path, PathBuf},
};

#[derive(Debug, clap::Args)]
pub struct TrainArguments {
    #[command(flatten)]
    source: ConfigSource,
    /// Text, JSON, CSV or token files or folders of them (repeatable); default: the embedded corpus
    #[arg(long, value_name = "PATH")]
    data: Vec<PathBuf>,
    /// Folder of the run; default: runs/PRESET, with a number where that is taken
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// Resume a run: its `latest` or `best` checkpoint, or a run or checkpoint folder
    #[arg(long, value_name = "latest|best|DIR", num_args = 0..=1, default_missing_value = "latest",
          conflicts_with_all = ["preset", "config"])]
    resume: Option<Resume>,
    /// Start from the weights of a pretrained model: a run or checkpoint folder, a folder of Hugging Face's or one
    /// .safetensors file of it, or a .gguf file. Configuration and tokenizer are the model's
    #[arg(long, value_name = "DIR|FILE", conflicts_with = "resume")]
    init_from: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceOption,
    /// Show only evaluations and the end
    #[arg(long, short)]
    quiet: bool,
}

/// Preset that `kiln train` uses on a device if none is named.
pub(super) fn default_preset(choice: &Choice) -> &'static str {
    if choice.is_cpu() { "shakespeare-char-cpu" } else { "shakespeare-char" }
}

/// Configuration, data and pretrained model of a new run.
pub(super) struct NewRun {
    /// The configuration, resolved.
    pub config: Config,
    pub dataset: Dataset,
    /// The pretrained model that it starts from.
    pub initial: Option<Checkpoint>,
}

/// Reads the configuration, the data and the pretrained model of a new run.
pub(super) fn new_run(
    source: &ConfigSource,
    data: &[PathBuf],
    init_from: Option<&Path>,
    default_preset: &str,
) -> Result<NewRun> {
    let initial = init_from.map(open_checkpoint).transpose()?;
    let (mut config, tokenizer) = match init_from.zip(initial.as_ref()) {
        Some((path, checkpoint)) => init_from::configure(source, default_preset, path, checkpoint)?,
        None => (source.resolve(default_preset)?, None),
    };
    use_data(&mut config, data)?;
    let dataset = Dataset::prepare(&config, tokenizer)?;
    if let Some(checkpoint) = &initial {
        init_from::check_vocabulary(&dataset.tokenizer, checkpoint)?;
    }
    Ok(NewRun { config: config.resolve(&dataset)?, dataset, initial })
}

/// A run that is ready for its first step.
struct Plan {
    run: RunFolder,
    trainer: Trainer,
    resumed: bool,
}

pub(super) fn run(arguments: TrainArguments) -> anyhow::Result<()> {
    let choice = arguments.device.choice()?;
    let device = choice.open()?;
    let info = choice.info();
    let plan = match &arguments.resume {
        Some(resume) => resume_plan(&arguments, resume, &device, info.as_ref())?,
        None => new_plan(&arguments, &choice, &device, info.as_ref())?,
    };
    interrupt::listen()?;
    let hardware = info.as_ref().is_none_or(|info| !info.software);
    // A device with too little memory for that may still train.
    let peak_flops = if hardware { pollster::block_on(measure_peak(&device, 0.2)).ok() } else { None };
    let name =
        info.map_or_else(|| choice.to_string(), |info| format!("{} ({})", info.name, info.description));
    watched(plan, arguments.quiet, name, peak_flops)
}

/// Trains in a new run folder `path` with everything that `kiln train` writes: progress on standard error,
/// `log.jsonl`, TensorBoard files, checkpoints, plots and `report.html`. It is for programs that train with
/// an objective or a model of their own. Ctrl-C is left to the program: by default it ends the run without a
/// last checkpoint.
///
/// # Errors
/// An error if the folder already holds a run or cannot be written, and errors of [`Trainer::run`].
pub fn train_in(path: &Path, trainer: Trainer) -> anyhow::Result<()> {
    let plan = Plan { run: RunFolder::create(path)?, trainer, resumed: false };
    let device = device::short_name(plan.trainer.device()).to_owned();
    watched(plan, false, device, None)
}

/// Trains with progress display, log, checkpoints, plots and report.
fn watched(plan: Plan, quiet: bool, device: String, peak_flops: Option<f64>) -> anyhow::Result<()> {
    let Plan { run, mut trainer, resumed } = plan;
    trainer.offload_to(run.path())?;
    let resume_step = resumed.then_some(trainer.steps_done());
    let watcher = RefCell::new(Watcher::new(run.path(), resume_step, quiet)?);
    let keep = trainer.config().train.keep_checkpoints;
    let mut hooks = Hooks {
        observe: &mut |event: &Event| {
            watcher.borrow_mut().on_event(event);
            Ok(())
        },
        save: &mut |step: u64, files: &Files, is_best: bool| run.save(step, files, is_best, keep),
        interrupted: &interrupt::asked,
        device,
        peak_flops,
    };
    let finished = pollster::block_on(trainer.run(&mut hooks))?;
    let mut watcher = watcher.into_inner();
    let is_due = trainer.config().train.memorization && finished.reason != FinishReason::Interrupted;
    let memorization = if is_due { memorization_of(&trainer, run.path()) } else { Ok(None) };
    if let Ok(Some(memorization)) = &memorization {
        let report = MemorizationReport { step: finished.step, memorization: memorization.clone() };
        watcher.on_event(&Event::Memorization(report));
    }
    // The report is there although the measurement failed.
    watcher.finish(trainer.config())?;
    memorization.map(drop)
}

/// Measures what the trained model has learned by heart; `None` if it is interrupted.
fn memorization_of(trainer: &Trainer, run: &Path) -> anyhow::Result<Option<Memorization>> {
    let (config, dataset) = (trainer.config(), trainer.dataset());
    let model = trainer.trained_model();
    let generator = Generator {
        model: &model,
        config: &config.model,
        tokenizer: &dataset.tokenizer,
        device: trainer.device(),
    };
    let samples = memorization::samples_of(run);
    memorization::measure(&generator, config, dataset, &samples, config.train.batch_size, &interrupt::asked)
}

fn new_plan(
    arguments: &TrainArguments,
    choice: &Choice,
    device: &Device,
    info: Option<&DeviceInfo>,
) -> Result<Plan> {
    let preset = default_preset(choice);
    let NewRun { config, dataset, initial } =
        new_run(&arguments.source, &arguments.data, arguments.init_from.as_deref(), preset)?;
    let config = fit_memory(config, info, device)?;
    let tasks = suite::of_config(&config)?;
    let run = match &arguments.out {
        Some(out) => RunFolder::create(out)?,
        None => {
            let source = &arguments.source;
            let file = source.config.as_deref().and_then(Path::file_stem).map(|stem| stem.to_string_lossy());
            let name = file.as_deref().or(source.preset.as_deref()).unwrap_or(preset);
            RunFolder::create_numbered(Path::new("runs"), name)?
        }
    };
    let trainer = match &initial {
        Some(checkpoint) => Trainer::start_from(config, dataset, device, checkpoint)?,
        None => Trainer::new(config, dataset, device)?,
    };
    let trainer = suite::with_tasks(trainer, tasks).with_score_command(Box::new(score_command::run));
    Ok(Plan { run, trainer, resumed: false })
}

fn resume_plan(
    arguments: &TrainArguments,
    resume: &Resume,
    device: &Device,
    info: Option<&DeviceInfo>,
) -> Result<Plan> {
    let path = match (&arguments.out, resume) {
        (Some(out), _) => out.clone(),
        (None, Resume::Folder(folder)) => run_of(folder)?,
        (None, _) => {
            return Err(Error::InvalidValue {
                key: "--resume".into(),
                value: resume.to_string(),
                message: "which run is not said".into(),
                hint: Some(hint![
                    hint::command("kiln train --resume RUN"),
                    ", or ",
                    hint::command("kiln train --out RUN --resume best")
                ]),
            });
        }
    };
    // A checkpoint that is not this run's starts a new run from there.
    let foreign = match resume {
        Resume::Folder(folder) if !run_of(folder).is_ok_and(|run| same(&run, &path)) => Some(folder),
        _ => None,
    };
    let (run, folder) = match foreign {
        Some(folder) => (None, resolve(folder)?),
        None => {
            let run = RunFolder::reopen(&path)?;
            let folder = run.find(resume)?;
            (Some(run), folder)
        }
    };
    // The model that an adapter changes may be elsewhere now.
    let base = arguments.source.set.iter().rev().find_map(|text| text.strip_prefix("adapter.base="));
    let checkpoint = Checkpoint::open_training(&folder, base.map(Path::new))?;
    let saved = checkpoint.config.clone().ok_or_else(|| Error::Checkpoint {
        path: folder.clone(),
        message: "it was not made by `kiln train`, so there is nothing to resume".into(),
        hint: None,
    })?;
    let mut config = saved.clone();
    super::show_notes(&config.apply(&arguments.source.set)?);
    use_data(&mut config, &arguments.data)?;
    let dataset = Dataset::prepare(&config.with_template_of(&saved), Some(checkpoint.tokenizer()?))?;
    let config = fit_memory(config.resolve(&dataset)?, info, device)?;
    let tasks = suite::of_config(&config)?;
    let trainer = suite::with_tasks(Trainer::resume(config, dataset, device, &checkpoint)?, tasks);
    let trainer = trainer.with_score_command(Box::new(score_command::run));
    if trainer.steps_done() >= trainer.config().train.last_step() {
        return Err(Error::InvalidValue {
            key: "train.max_steps".into(),
            value: trainer.config().train.last_step().to_string(),
            message: format!("the run is already at step {}", trainer.steps_done()),
            hint: Some(hint![
                "go on with ",
                hint::choose("train.max_steps", "N"),
                ", and ",
                hint::entry("train.stop_after", 0),
                " if that is set"
            ]),
        });
    }
    let run = run.map_or_else(|| RunFolder::create(&path), Ok)?;
    run.set_aside_after(trainer.steps_done())?;
    if let Some(best) = trainer.best_step().filter(|best| *best == trainer.steps_done()) {
        run.mark_best(best)?;
    }
    Ok(Plan { run, trainer, resumed: true })
}

fn same(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

/// Finds the run folder that a run or checkpoint folder belongs to.
pub(super) fn run_of(folder: &Path) -> Result<PathBuf> {
    let checkpoint = resolve(folder)?;
    // As it was named, so that messages name it so too; `.` says what it is in only once it is absolute.
    let above = |checkpoint: &Path| {
        let checkpoints = checkpoint.parent()?;
        let run = checkpoints.file_name().filter(|name| *name == "checkpoints").and(checkpoints.parent())?;
        Some(if run.as_os_str().is_empty() { PathBuf::from(".") } else { run.into() })
    };
    match above(&checkpoint).or_else(|| above(&checkpoint.canonicalize().ok()?)) {
        Some(run) => Ok(run),
        None => Err(Error::InvalidValue {
            key: "--resume".into(),
            value: folder.display().to_string(),
            message: "the checkpoint is in no run folder".into(),
            hint: Some(hint!["name the folder of the resumed run ", Place::Out.by_argument("with", "RUN")]),
        }),
    }
}

/// Puts `--data` into the configuration, and makes its paths absolute, so that they are valid wherever the run is
/// resumed. A run that it names as a model stands for its newest checkpoint, which stays the model of a resumed run
/// when the other run has gone on.
pub(super) fn use_data(config: &mut Config, data: &[PathBuf]) -> Result<()> {
    if !data.is_empty() {
        config.data.paths = data.to_vec();
    }
    let files = config.data.paths.iter_mut().chain(config.tokenizer.path.as_mut());
    let rewards = config.rollout.rewards.iter_mut().filter_map(|reward| reward.path.as_mut());
    let models = config.objective.reference.iter_mut().chain(&mut config.distill.teacher);
    let models = models.chain(&mut config.distill.logits).chain(&mut config.adapter.base).chain(rewards);
    for path in files.chain(&mut config.eval.suites).chain(models) {
        *path = std::path::absolute(&*path).map_err(|e| Error::io("find", &*path, e))?;
    }
    let rewards = config.rollout.rewards.iter_mut().filter_map(|reward| reward.path.as_mut());
    let models = config.objective.reference.iter_mut().chain(&mut config.distill.teacher).chain(rewards);
    // Whoever opens a model says what is wrong with its path.
    for path in models.filter(|path| path.is_dir()) {
        if let Ok(checkpoint) = resolve(path) {
            *path = checkpoint;
        }
    }
    // A template is a name or a file.
    if let Some(template) = config.chat.template.as_mut().filter(|template| Path::new(template).is_file()) {
        let path = std::path::absolute(&*template).map_err(|e| Error::io("find", &*template, e))?;
        *template = path.display().to_string();
    }
    Ok(())
}

/// Divides an automatic batch into micro-batches that fit, and refuses a run that does not fit in the device's memory,
/// before anything is allocated.
pub(super) fn fit_memory(config: Config, info: Option<&DeviceInfo>, device: &Device) -> Result<Config> {
    let Some((info, bytes)) = info.and_then(|info| Some((info, info.memory_bytes?))) else {
        if config.train.fit_batch {
            return Err(Error::InvalidValue {
                key: "train.batch_size".into(),
                value: "auto".into(),
                message: "the memory of the device is not known".into(),
                hint: Some(hint!["choose a number, for example ", hint::set("train.batch_size", 8)]),
            });
        }
        return Ok(config);
    };
    let (is_auto, beside) = (config.train.fit_batch, ModelsBeside::open(&config)?);
    let dtypes = device::dtypes(device);
    let limits = Limits { kind: memory_kind(info), bytes, dtypes: &dtypes };
    let config = plan::fit_batch(config, &beside, &limits, &info.name)?;
    if is_auto {
        let TrainConfig { batch_size, gradient_accumulation_steps, .. } = &config.train;
        let text = format!(
            "`train.batch_size` is {batch_size}, and `train.gradient_accumulation_steps` {gradient_accumulation_steps}"
        );
        super::show_notes(&[text]);
    }
    plan::check(&config, &beside, &limits, &info.name)?;
    Ok(config)
}

/// The memory that a run on a device is in.
pub(super) fn memory_kind(info: &DeviceInfo) -> MemoryKind {
    match info.choice().is_cpu() {
        true => MemoryKind::Main { program: plan::program_bytes() },
        false => MemoryKind::Device,
    }
}
