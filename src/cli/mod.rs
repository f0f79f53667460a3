//! The commands of the `kiln` binary, one file per subcommand. `--help` of each describes it.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod bench;
mod calibration;
mod chat;
mod classify;
mod compare;
mod config;
mod convert;
#[cfg(feature = "data")]
mod data;
#[cfg(not(feature = "data"))]
#[path = "data_missing.rs"]
mod data;
mod devices;
mod distill;
mod eval;
mod fill;
mod generate;
mod init_from;
mod inspect;
mod interrupt;
mod logfile;
mod memorization;
mod merge;
mod model;
mod plan;
mod plot;
mod preview;
mod progress;
mod prune;
mod report;
mod scale;
mod score;
mod score_command;
mod suite;
mod table;
mod tensorboard;
mod texts;
mod tokenizer;
mod train;
mod verify;
mod watch;

pub use train::train_in;

use crate::{
    device,
    error::{Error, Place, hint},
    platform,
};
use clap::{CommandFactory, Parser, Subcommand};
use std::{
    any::Any,
    io::Write,
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    process::ExitCode,
    sync::Mutex,
};

/// Train transformer language models on any device, with one engine.
#[derive(Debug, Parser)]
#[command(name = "kiln", version, about, arg_required_else_help = true, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a model; with no arguments at all, on the embedded corpus
    Train(train::TrainArguments),
    /// Generate text with a trained model
    Generate(generate::GenerateArguments),
    /// Talk with a model that was trained on dialogues
    Chat(chat::ChatArguments),
    /// Classify texts
    Classify(classify::ClassifyArguments),
    /// Fill the masks of a text
    Fill(fill::FillArguments),
    /// Measure loss, perplexity, bits per byte and accuracy on a split, or evaluate suites of tasks
    Eval(eval::EvalArguments),
    /// Save a teacher's most likely tokens, for students to learn from
    Distill(distill::DistillArguments),
    /// Train a tokenizer, encode, decode, describe
    Tokenizer(tokenizer::TokenizerArguments),
    /// Show dialogue data token by token, with the part of it that is trained
    Preview(preview::PreviewArguments),
    /// Prepare data: extract, clean, filter, deduplicate, blend, tokenize
    Data(data::DataArguments),
    /// List the devices of this machine
    Devices(devices::DevicesArguments),
    /// Show configurations and presets
    Config(config::ConfigArgs),
    /// Compare a model with the PyTorch reference numbers beside it
    Verify(verify::VerifyArguments),
    /// List the tensors of a model, its size and the memory that it needs
    Inspect(inspect::InspectArguments),
    /// Convert a model to another type, layout or number of files
    Convert(convert::ConvertArguments),
    /// Merge adapters into the model that they change
    Merge(merge::MergeArguments),
    /// Make weights of a model zero, or remove heads, neurons and layers
    Prune(prune::PruneArguments),
    /// Train the same configuration on several devices, with several seeds and values, and compare
    Compare(compare::CompareArguments),
    /// Score texts against references: BLEU, chrF, ROUGE, answers, classes, error rates
    Score(score::ScoreArguments),
    /// Fit scaling laws, predict larger runs, plan sizes
    Scale(scale::ScaleArguments),
    /// Predict the memory and the time of a run on a device, and what would fit
    Plan(plan::PlanArguments),
    /// Measure training speed
    Bench(bench::BenchArguments),
    /// Print a completion script for a shell
    Completions { shell: clap_complete::Shell },
}

/// Runs a command and returns its exit code: 0, 2 for a user's mistake, 1 for a failure.
pub fn run(arguments: Arguments) -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();

    // Burn and its drivers panic where a device is lost or out of memory; the message below is
    // what is shown of it, and the last checkpoint is complete whatever happened.
    let show = panic::take_hook();
    let in_full = std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value == "full");
    panic::set_hook(Box::new(move |info| {
        note_panic(info);
        if in_full {
            show(info);
        }
    }));
    // Training goes on when nobody reads what it shows; all other commands are there to be read.
    if !matches!(arguments.command, Command::Train(_)) {
        platform::end_on_closed_pipe();
    }
    let result = panic::catch_unwind(AssertUnwindSafe(|| dispatch(arguments.command)));
    if matches!(result, Ok(Ok(()))) {
        device::settle();
    }
    match result {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => report(&error),
        Err(payload) => report(&anyhow::Error::new(from_panic(payload.as_ref()))),
    }
}

fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Train(arguments) => train::run(arguments),
        Command::Data(arguments) => data::run(arguments),
        Command::Generate(arguments) => generate::run(arguments),
        Command::Chat(arguments) => chat::run(arguments),
        Command::Classify(arguments) => classify::run(arguments),
        Command::Fill(arguments) => fill::run(arguments),
        Command::Eval(arguments) => eval::run(arguments),
        Command::Distill(arguments) => distill::run(arguments),
        Command::Preview(arguments) => preview::run(arguments),
        Command::Tokenizer(arguments) => tokenizer::run(arguments),
        Command::Devices(arguments) => devices::run(arguments),
        Command::Config(arguments) => config::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
        Command::Inspect(arguments) => inspect::run(arguments),
        Command::Convert(arguments) => convert::run(arguments),
        Command::Merge(arguments) => merge::run(arguments),
        Command::Prune(arguments) => prune::run(arguments),
        Command::Compare(arguments) => compare::run(arguments),
        Command::Score(arguments) => score::run(arguments),
        Command::Scale(arguments) => scale::run(arguments),
        Command::Plan(arguments) => plan::run(arguments),
        Command::Bench(arguments) => bench::run(arguments),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "kiln", &mut std::io::stdout());
            Ok(())
        }
    }
}

/// Shows notes on standard error, beside the result.
fn show_notes(notes: &[String]) {
    notes.iter().for_each(|note| eprintln!("note: {note}"));
}

/// Prints an error and its hint, and returns the exit code.
fn report(error: &anyhow::Error) -> ExitCode {
    let known = error.downcast_ref::<Error>();
    if let Some(io) = error.downcast_ref::<std::io::Error>()
        && io.kind() == std::io::ErrorKind::BrokenPipe
    {
        // The reader of a pipe had enough; that is not a failure.
        return ExitCode::SUCCESS;
    }
    let mut stderr = std::io::stderr().lock();
    // What our errors say includes what they come from.
    let _ = match known {
        Some(known) => writeln!(stderr, "error: {known}"),
        None => writeln!(stderr, "error: {error:#}"),
    };
    if let Some(hint) = known.and_then(Error::hint) {
        let _ = writeln!(stderr, "hint: {hint}");
    }
    ExitCode::from(if known.is_some_and(Error::is_user_error) { 2 } else { 1 })
}

/// Place of the latest panic in any thread: a worker's panic reaches the command without its place.
static PANICKED_AT: Mutex<Option<String>> = Mutex::new(None);

fn note_panic(info: &PanicHookInfo) {
    if let (Some(location), Ok(mut place)) = (info.location(), PANICKED_AT.lock()) {
        *place = Some(format!("{}:{}", location.file(), location.line()));
    }
}

fn from_panic(payload: &(dyn Any + Send)) -> Error {
    let message = payload.downcast_ref::<String>().cloned();
    let message = message.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    let message = message.unwrap_or_else(|| "no message".into());
    let message = message.lines().next().unwrap_or_default();
    let place = PANICKED_AT.lock().ok().and_then(|mut place| place.take());
    let place = place.map_or_else(String::new, |place| format!(" (at {place})"));
    Error::DeviceFailed {
        device: "in use".into(),
        action: "computing".into(),
        message: format!("{message}{place}"),
        hint: Some(hint![
            "if memory ran out, lower ",
            hint::key("train.batch_size"),
            "; a run goes on from its last checkpoint ",
            Place::Resume.by("with"),
            "; ",
            hint::command("RUST_BACKTRACE=full"),
            " shows where it happened"
        ]),
    }
}

/// The `--device` option of commands that compute.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DeviceOption {
    /// auto, cpu, cuda[:i], wgpu[:i], vulkan[:i] or metal[:i]
    #[arg(long, default_value = "auto", value_name = "D")]
    device: String,
}

impl DeviceOption {
    fn choice(&self) -> crate::Result<device::Choice> {
        self.device.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_with_its_place() {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(note_panic));
        let line = line!() + 1;
        let result = panic::catch_unwind(|| panic!("out of luck\nand more"));
        panic::set_hook(hook);
        let message = from_panic(result.unwrap_err().as_ref()).to_string();
        assert!(message.contains(&format!("out of luck (at src/cli/mod.rs:{line})")), "{message}");
    }
}
