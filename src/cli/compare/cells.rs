//! Trains the cells of an experiment, each in a process of its own, so that a device that fails costs one cell.
//! What is finished is kept; what was begun is resumed.

use super::{
    browser::BrowserOptions,
    plan::{Cell, Place, configuration_of},
};
use crate::{
    checkpoint::{Resume, RunFolder},
    cli::{
        interrupt,
        logfile::{self, read_events},
    },
    error::{Error, Result, hint},
    platform::{Instant, storage},
    train::event::{Event, FinishReason},
};
use std::{
    collections::VecDeque,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

/// Run folder of a cell.
pub fn run_of(cell: &Cell, folder: &Path) -> PathBuf {
    folder.join("runs").join(&cell.name)
}

/// File that keeps what a cell's process shows, for who looks into a failure.
fn output_of(cell: &Cell, folder: &Path) -> PathBuf {
    folder.join("output").join(format!("{}.txt", cell.name))
}

/// Whether the run of a cell came to its end.
fn is_finished(run: &Path) -> bool {
    let events = read_events(&run.join(logfile::FILE_NAME)).unwrap_or_default();
    let reasons = events.iter().rev().map(|logged| match &logged.event {
        Event::Finished(report) => Some(report.reason != FinishReason::Interrupted),
        Event::Started(_) => Some(false),
        _ => None,
    });
    reasons.flatten().next().unwrap_or(false)
}

/// A cell whose process runs.
struct Running<'a> {
    number: usize,
    cell: &'a Cell,
    process: Child,
    since: Instant,
}

/// Outcome of the cells of an experiment.
#[derive(Default)]
pub struct Ended {
    /// Cells that failed, each with the reason.
    pub failures: Vec<(String, String)>,
    pub interrupted: bool,
}

/// Trains all cells that are not finished, at most `jobs` at a time and one at a time on each device.
///
/// # Errors
/// An error if a process cannot be started or a folder cannot be written. A cell that fails is no error here.
pub fn train(cells: &[Cell], folder: &Path, jobs: usize, browser: &BrowserOptions) -> Result<Ended> {
    for name in ["runs", "output"] {
        storage::create_folder(&folder.join(name))?;
    }
    let (mut waiting, mut ended) = (VecDeque::new(), Ended::default());
    for (i, cell) in cells.iter().enumerate() {
        match is_finished(&run_of(cell, folder)) {
            true => eprintln!("[{}/{}] {}: finished before", i + 1, cells.len(), cell.name),
            false => waiting.push_back((i + 1, cell)),
        }
    }
    let mut running: Vec<Running> = Vec::new();
    while !(running.is_empty() && (waiting.is_empty() || interrupt::asked())) {
        let is_free = |(_, cell): &(usize, &Cell)| {
            running.iter().all(|other| other.cell.place.name() != cell.place.name())
        };
        if running.len() < jobs
            && !interrupt::asked()
            && let Some(at) = waiting.iter().position(is_free)
            && let Some((number, cell)) = waiting.remove(at)
        {
            eprintln!("[{number}/{}] {}", cells.len(), cell.name);
            running.extend(start(number, cell, folder, browser)?);
            continue;
        }
        thread::sleep(Duration::from_millis(50));
        let mut still = Vec::new();
        for mut one in running {
            match one.process.try_wait().map_err(|e| Error::io("wait for", run_of(one.cell, folder), e))? {
                None => still.push(one),
                Some(_) => finish(&one, cells.len(), folder, &mut ended),
            }
        }
        running = still;
    }
    ended.interrupted = interrupt::asked();
    Ok(ended)
}

/// Starts the process of a cell; `None` if an earlier process has finished the cell meanwhile.
fn start<'a>(
    number: usize,
    cell: &'a Cell,
    folder: &Path,
    browser: &BrowserOptions,
) -> Result<Option<Running<'a>>> {
    let run = run_of(cell, folder);
    let mut command = match &cell.place {
        Place::Device(choice) => {
            let mut command = kiln()?;
            command.arg("train");
            match has_checkpoint(&run)? {
                true if is_finished(&run) => return Ok(None),
                true => command.arg("--resume").arg(&run),
                false => {
                    if run.exists() {
                        storage::remove_folder(&run)?;
                    }
                    command.arg("--config").arg(configuration_of(cell, folder)).arg("--out").arg(&run)
                }
            };
            command.arg("--device").arg(choice.to_string());
            command
        }
        Place::Browser { gpu } => browser.find()?.command(cell, *gpu, &run)?,
    };
    let path = output_of(cell, folder);
    let output = File::create(&path).map_err(|e| Error::io("create", &path, e))?;
    let errors = output.try_clone().map_err(|e| Error::io("create", &path, e))?;
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    let process = command.spawn().map_err(|e| Error::io("run", Path::new(command.get_program()), e))?;
    Ok(Some(Running { number, cell, process, since: Instant::now() }))
}

/// Whether a run has something to go on from. Where an earlier experiment was killed, the process of its cell may still
/// train: it is waited for.
fn has_checkpoint(run: &Path) -> Result<bool> {
    let mut said = false;
    loop {
        match RunFolder::reopen(run) {
            Ok(folder) => return Ok(folder.find(&Resume::Latest).is_ok()),
            Err(Error::NotFound { .. } | Error::Checkpoint { .. }) => return Ok(false),
            Err(Error::RunLocked { .. }) if !interrupt::asked() => {
                if !std::mem::replace(&mut said, true) {
                    eprintln!("`{}` is still trained by an earlier process; waiting for it", run.display());
                }
                thread::sleep(Duration::from_millis(100));
            }
            Err(error) => return Err(error),
        }
    }
}

/// This binary.
fn kiln() -> Result<Command> {
    let path = std::env::current_exe().map_err(|e| Error::io("find", Path::new("kiln"), e))?;
    Ok(Command::new(path))
}

fn finish(one: &Running, count: usize, folder: &Path, ended: &mut Ended) {
    let (number, name) = (one.number, &one.cell.name);
    if is_finished(&run_of(one.cell, folder)) {
        let seconds = one.since.elapsed().as_secs_f64();
        eprintln!("[{number}/{count}] {name}: finished in {}", crate::cli::table::duration(seconds));
    } else if !interrupt::asked() {
        let path = output_of(one.cell, folder);
        let reason = last_error(&storage::read(&path).unwrap_or_default()).unwrap_or_else(|| {
            format!("it ended before its last step; `{}` has what it said", path.display())
        });
        eprintln!("[{number}/{count}] {name}: {reason}");
        ended.failures.push((name.clone(), reason));
    }
}

/// The message after the last `error: ` of an output.
fn last_error(output: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(output);
    let line = text.lines().rev().find_map(|line| line.strip_prefix("error: "))?;
    Some(line.to_owned())
}

/// The error for an experiment of which cells failed.
pub fn failed(ended: &Ended, folder: &Path) -> Error {
    let (name, reason) = ended.failures.first().cloned().unwrap_or_default();
    let more = ended.failures.len().saturating_sub(1);
    let more = if more == 0 { String::new() } else { format!(" (and {more} more)") };
    Error::DeviceFailed {
        device: name,
        action: "training".into(),
        message: format!("{reason}{more}"),
        hint: Some(hint![
            "the same command trains only what is missing; `",
            folder.join("output").display().to_string(),
            "` has what each cell said"
        ]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_of_an_output_is_found() {
        assert_eq!(last_error(b"step 1\nerror: first\nerror: lost\nhint: try\n").as_deref(), Some("lost"));
        assert_eq!(last_error(b"nothing"), None);
    }

    #[test]
    fn a_run_is_finished_when_its_last_process_came_to_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let log = |lines: &[&str]| {
            std::fs::write(folder.path().join(logfile::FILE_NAME), lines.join("\n")).unwrap();
            is_finished(folder.path())
        };
        let started = r#"{"time":1,"type":"started","device":"cpu","parameters":1,"vocab_size":2,"train_tokens":1,"val_tokens":1,"tokens_per_step":1,"flops_per_step":1,"peak_flops":null,"first_step":0,"last_step":2,"log_interval":1}"#;
        let finished = |reason: &str| {
            format!(
                r#"{{"time":2,"type":"finished","step":2,"reason":"{reason}","best_val_loss":null,"best_step":null,"seconds":1,"tokens":2,"skipped_steps":0,"peak_memory_bytes":null}}"#
            )
        };
        assert!(!log(&[started]));
        assert!(log(&[started, &finished("completed")]));
        assert!(!log(&[started, &finished("interrupted")]));
        assert!(!log(&[started, &finished("completed"), started]));
    }
}
