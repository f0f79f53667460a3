//! Follows a run with the progress display, `log.jsonl`, the TensorBoard file and, at the end, plots and
//! report. Nothing here can end a run: if a file cannot be written, a warning is shown once and training
//! continues.

use super::{logfile::LogFile, progress::Progress, report, tensorboard::TensorBoard};
use crate::{
    config::Config,
    error::{Error, Result},
    train::event::Event,
};
use std::path::{Path, PathBuf};

/// Progress display and logs of one process that trains into a run folder.
pub struct Watcher {
    run: PathBuf,
    progress: Progress,
    log: LogFile,
    tensorboard: TensorBoard,
    log_failed: bool,
    tensorboard_failed: bool,
}

impl Watcher {
    /// Opens the log and the TensorBoard file in the folder `run`, which must exist. `resume_step` is the
    /// step that the run continues from; records of later steps are removed. With `quiet`, the display shows
    /// only evaluations, warnings and the end.
    pub fn new(run: &Path, resume_step: Option<u64>, quiet: bool) -> Result<Self> {
        Ok(Self {
            run: run.into(),
            progress: Progress::new(quiet),
            log: LogFile::open(run, resume_step)?,
            tensorboard: TensorBoard::create(run, resume_step)?,
            log_failed: false,
            tensorboard_failed: false,
        })
    }

    /// Shows and records an event.
    pub fn on_event(&mut self, event: &Event) {
        self.progress.on_event(event);
        warn_once(&self.progress, self.log.write(event), &mut self.log_failed);
        warn_once(&self.progress, self.tensorboard.write(event), &mut self.tensorboard_failed);
    }

    /// Writes plots and report, then shows where the results are and what to do next. An error leaves the
    /// trained model as it is.
    pub fn finish(&mut self, config: &Config) -> anyhow::Result<()> {
        let written = report::write(&self.run, config);
        self.progress.finish(&self.run, &config.model);
        written
    }
}

/// Warns of the first error of a file; later ones would only repeat it.
fn warn_once(progress: &Progress, result: Result<(), Error>, has_failed: &mut bool) {
    if let Err(error) = result
        && !std::mem::replace(has_failed, true)
    {
        progress.warn(&format!("{error}; training goes on, this file will have a gap"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::logfile::{self, read_events},
        objective::Metrics,
        train::event::{SampleReport, StepReport},
    };

    fn step(step: u64) -> Event {
        Event::Step(StepReport {
            step,
            loss: 3.0,
            grad_norm: 1.0,
            learning_rate: 1e-3,
            tokens: 8 * step,
            tokens_per_second: 100.0,
            mfu: None,
            epoch: 0.0,
            seconds: 1.0,
            metrics: Metrics::new(),
        })
    }

    #[test]
    fn a_run_leaves_log_tensorboard_plots_and_report() {
        let run = tempfile::tempdir().unwrap();
        let mut watcher = Watcher::new(run.path(), None, true).unwrap();
        watcher.on_event(&step(1));
        watcher.on_event(&Event::Sample(SampleReport { step: 1, text: "<script>".into(), reward: None }));
        watcher.finish(&Config::default()).unwrap();
        for name in ["log.jsonl", "tensorboard", "loss.svg", "loss.png", "report.html"] {
            assert!(run.path().join(name).exists(), "{name}");
        }
        let report = std::fs::read_to_string(run.path().join("report.html")).unwrap();
        assert!(report.contains("&lt;script&gt;") && !report.contains("<script>"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_does_not_end_the_run() {
        let run = tempfile::tempdir().unwrap();
        let mut watcher = Watcher::new(run.path(), None, true).unwrap();
        watcher.log = LogFile::at(Path::new("/dev/full")).unwrap();
        watcher.on_event(&step(1));
        assert!(watcher.log_failed && !watcher.tensorboard_failed);
        watcher.log = LogFile::at(&run.path().join(logfile::FILE_NAME)).unwrap();
        watcher.on_event(&step(2));
        assert_eq!(read_events(&run.path().join(logfile::FILE_NAME)).unwrap().len(), 1);
    }
}
