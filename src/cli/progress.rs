//! Shows the progress of a run on standard error: on a terminal as a bar with the latest numbers below it,
//! elsewhere as one line per report. Evaluations, samples and checkpoints stay visible above the bar.

use super::{
    memorization,
    report::next_commands,
    table::{duration, grouped, parameters, short},
};
use crate::{
    config::ModelConfig,
    objective::{MetricValue, Metrics},
    train::event::{
        CheckpointReport, EvaluationReport, Event, FinishReason, FinishReport, RunInfo, SampleReport,
        StepReport, TaskReport,
    },
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use std::{
    io::{self, Write},
    path::Path,
};

/// The progress display of one process.
pub struct Progress {
    quiet: bool,
    /// Progress bar; present on a terminal, between the first and the last event.
    bar: Option<ProgressBar>,
    last_step: u64,
    first_step: u64,
    log_interval: u64,
    has_perplexity: bool,
    latest: Option<StepReport>,
    val_loss: Option<f64>,
    finished: Option<FinishReason>,
}

impl Progress {
    /// Makes a display; with `quiet`, it shows only evaluations, warnings and the end.
    pub fn new(quiet: bool) -> Self {
        Self {
            quiet,
            bar: None,
            last_step: 0,
            first_step: 0,
            log_interval: 1,
            has_perplexity: true,
            latest: None,
            val_loss: None,
            finished: None,
        }
    }

    /// Shows an event.
    pub fn on_event(&mut self, event: &Event) {
        if let Some(text) = self.text(event) {
            self.print(&text);
        }
        match event {
            Event::Started(info) => {
                info.notes.iter().for_each(|note| self.note(note));
                (self.first_step, self.last_step) = (info.first_step, info.last_step);
                self.log_interval = info.log_interval.max(1);
                self.has_perplexity = info.has_perplexity;
                self.bar = if self.quiet { None } else { bar(info) };
            }
            Event::Step(report) => {
                self.latest = Some(report.clone());
                self.update_bar();
            }
            Event::Evaluation(report) => {
                self.val_loss = Some(report.val_loss);
                self.update_bar();
            }
            Event::Finished(report) => self.finished = Some(report.reason),
            Event::Overfitting(_)
            | Event::Tasks(_)
            | Event::Sample(_)
            | Event::Checkpoint(_)
            | Event::Skipped { .. }
            | Event::Memorization(_) => {}
        }
    }

    /// Shows something that went wrong without ending the run.
    pub fn warn(&self, message: &str) {
        self.print(&format!("warning: {message}"));
    }

    /// Shows a note about the run.
    fn note(&self, note: &str) {
        self.print(&format!("note: {note}"));
    }

    /// Shows where the results in the run folder are, and commands to try next.
    pub fn finish(&self, run: &Path, model: &ModelConfig) {
        let names = ["checkpoints", "report.html", "loss.png", "log.jsonl", "tensorboard"];
        let present: Vec<_> = names.into_iter().filter(|name| run.join(name).exists()).collect();
        let mut text = format!("results in {}: {}\n", run.display(), present.join(", "));
        text.push_str("next:\n");
        for (command, purpose) in next_commands(run, model, self.finished) {
            text.push_str(&format!("  {command}  # {purpose}\n"));
        }
        self.print(text.trim_end());
    }

    /// Prints lines; above the bar if there is one.
    fn print(&self, text: &str) {
        match &self.bar {
            Some(bar) if !bar.is_finished() => bar.println(text),
            // Training goes on when nobody reads standard error any more.
            _ => drop(writeln!(io::stderr(), "{text}")),
        }
    }

    fn update_bar(&self) {
        if let (Some(bar), Some(report)) = (&self.bar, &self.latest) {
            bar.set_prefix(format!("eta {}", self.eta(report)));
            bar.set_message(self.figures(report).join("  "));
            bar.set_position(report.step);
        }
    }

    /// Formats the lines that stay on the screen for an event. Steps have no lines of their own if there is a
    /// bar.
    fn text(&self, event: &Event) -> Option<String> {
        match event {
            Event::Evaluation(report) => Some(self.evaluation(report)),
            Event::Overfitting(report) => {
                let warning = memorization::overfitting(report);
                Some(format!("{} | warning: {warning}", self.position(report.step)))
            }
            Event::Memorization(report) => Some(memorization::text(&report.memorization)),
            Event::Tasks(report) => Some(self.tasks(report)),
            Event::Skipped { step, loss, grad_norm, batch } => {
                let what = match loss.is_finite() {
                    true => format!("the gradient norm is {grad_norm}, with a loss of {loss}"),
                    false => format!("the loss is {loss}"),
                };
                Some(format!("{} | warning: skipped, {what} (batch of {batch})", self.position(*step)))
            }
            Event::Finished(report) => {
                if let Some(bar) = &self.bar {
                    bar.abandon();
                }
                Some(self.summary(report))
            }
            _ if self.quiet => None,
            Event::Started(info) => Some(header(info)),
            Event::Step(report) => {
                let due = report.step.is_multiple_of(self.log_interval)
                    || report.step == self.first_step + 1
                    || report.step == self.last_step;
                (due && self.bar.is_none()).then(|| self.step(report))
            }
            Event::Sample(report) => Some(sample(report)),
            Event::Checkpoint(report) => Some(self.checkpoint(report)),
        }
    }

    /// Formats a position as `step 00120/02000`.
    fn position(&self, step: u64) -> String {
        let width = self.last_step.to_string().len().max(5);
        format!("step {step:0width$}/{:0width$}", self.last_step)
    }

    fn step(&self, report: &StepReport) -> String {
        let percent = 100.0 * report.step as f64 / self.last_step.max(1) as f64;
        let mut columns = vec![format!("{} ({percent:.2}%)", self.position(report.step))];
        columns.extend(self.figures(report));
        columns.push(format!("eta {}", self.eta(report)));
        columns.join(" | ")
    }

    /// Formats the numbers of a step, each with its name.
    fn figures(&self, report: &StepReport) -> Vec<String> {
        let mut figures = vec![format!("loss {:.4}", report.loss)];
        figures.extend(self.val_loss.map(|loss| format!("val {loss:.4}")));
        figures.push(format!("lr {:.1e}", report.learning_rate));
        figures.push(format!("norm {:.2}", report.grad_norm));
        figures.push(format!("{} tok/s", short(report.tokens_per_second)));
        figures.extend(report.mfu.map(|share| format!("mfu {:.1}%", 100.0 * share)));
        figures.extend(metrics(&report.metrics));
        figures
    }

    /// Estimates the time until the last step from the pace of this process so far, evaluations included.
    fn eta(&self, report: &StepReport) -> String {
        let done = report.step.saturating_sub(self.first_step).max(1) as f64;
        let left = self.last_step.saturating_sub(report.step) as f64;
        duration(report.seconds / done * left)
    }

    fn evaluation(&self, report: &EvaluationReport) -> String {
        let mut columns = vec![self.position(report.step), format!("val loss {:.4}", report.val_loss)];
        columns.extend(report.perplexity.map(|number| format!("perplexity {number:.2}")));
        columns.extend(report.train_loss.map(|loss| format!("train loss {loss:.4}")));
        columns.extend(report.macro_f1.map(|f1| format!("F1 {f1:.4}")));
        columns.extend(report.exact_match.map(|share| format!("exact match {:.1} %", 100.0 * share)));
        columns.extend(metrics(&report.metrics));
        if report.is_best {
            columns.push("best so far".into());
        }
        columns.join(" | ")
    }

    /// Formats the metrics of tasks, with the names of the tasks.
    fn tasks(&self, report: &TaskReport) -> String {
        let mut columns = vec![self.position(report.step)];
        for (name, value) in &report.metrics {
            let numbers: Vec<String> = value.values().iter().map(|number| format!("{number:.4}")).collect();
            columns.push(format!("{name} {}", numbers.join(", ")));
        }
        columns.join(" | ")
    }

    fn checkpoint(&self, report: &CheckpointReport) -> String {
        let best = if report.is_best { " (best)" } else { "" };
        format!("{} | saved {}{best}", self.position(report.step), report.path.display())
    }

    /// Formats the lines about the end of the run.
    fn summary(&self, report: &FinishReport) -> String {
        let reason = match report.reason {
            FinishReason::Completed => "finished",
            FinishReason::StoppedAtStep => "stopped as asked",
            FinishReason::EarlyStopped => "stopped early, the validation loss no longer improves,",
            FinishReason::Interrupted => "interrupted",
        };
        let mut text = format!(
            "{reason} at step {} after {}, {} tokens in all",
            grouped(report.step),
            duration(report.seconds),
            short(report.tokens as f64)
        );
        if let Some(loss) = report.best_val_loss {
            let step = report.best_step.map(|step| format!(" at step {}", grouped(step))).unwrap_or_default();
            text.push_str(&format!("\nbest validation loss {loss:.4}{step}"));
            if self.has_perplexity {
                text.push_str(&format!(" (perplexity {:.2})", loss.exp()));
            }
        }
        if report.skipped_steps > 0 {
            text.push_str(&format!(
                "\nsteps skipped for a loss that was not finite: {}",
                report.skipped_steps
            ));
        }
        text
    }
}

/// Formats metrics with their names, without groups; of several numbers, the smallest and the largest.
fn metrics(metrics: &Metrics) -> impl Iterator<Item = String> {
    metrics.iter().map(|(name, value)| {
        let name = name.rsplit('/').next().unwrap_or(name);
        match value {
            MetricValue::One(value) => format!("{name} {value:.3}"),
            MetricValue::Each(values) => {
                let least = values.iter().copied().fold(f32::INFINITY, f32::min);
                let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                format!("{name} {least:.3}-{largest:.3}")
            }
        }
    })
}

/// Makes a bar on standard error; `None` if that is not a terminal.
fn bar(info: &RunInfo) -> Option<ProgressBar> {
    let target = ProgressDrawTarget::stderr();
    if target.is_hidden() {
        return None;
    }
    let template = "step {pos}/{len} {percent:>3}% {wide_bar:.green/dim} {prefix}\n{wide_msg}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::with_draw_target(Some(info.last_step), target)
        .with_style(style.progress_chars("━╸─"))
        .with_finish(ProgressFinish::Abandon)
        .with_position(info.first_step);
    bar.tick();
    Some(bar)
}

/// Describes the run that is about to start, in four lines.
fn header(info: &RunInfo) -> String {
    let steps = match info.first_step {
        0 => grouped(info.last_step),
        first => format!("{} to {}", grouped(first), grouped(info.last_step)),
    };
    let uniform = info.uniform_loss.map(|loss| format!(", uniform loss {loss:.4}")).unwrap_or_default();
    format!(
        "device  {}\nmodel   {} parameters, vocabulary {}{uniform}\n\
         data    {} training tokens, {} validation tokens\nsteps   {steps}, {} tokens each",
        info.device,
        parameters(info.parameters),
        grouped(info.vocab_size as u64),
        short(info.train_tokens as f64),
        short(info.val_tokens as f64),
        grouped(info.tokens_per_step as u64),
    )
}

/// Formats a sample as an indented block.
fn sample(report: &SampleReport) -> String {
    let reward = report.reward.map_or_else(String::new, |reward| format!(", reward {reward:.3}"));
    let mut text = format!("sample at step {}{reward}:\n", report.step);
    for line in report.text.trim_end_matches('\n').split('\n') {
        // A model may generate anything, escape sequences for the terminal included.
        let line = line.replace(|c: char| c.is_control() && c != '\t', "\u{fffd}");
        text.push_str(format!("  {line}").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(first_step: u64) -> Event {
        Event::Started(RunInfo {
            device: "cpu".into(),
            parameters: 803_072,
            vocab_size: 65,
            train_tokens: 1_003_854,
            val_tokens: 111_540,
            tokens_per_step: 768,
            flops_per_step: 1e9,
            peak_flops: None,
            first_step,
            last_step: 2000,
            log_interval: 1,
            uniform_loss: Some(4.174_387),
            has_perplexity: true,
            notes: Vec::new(),
        })
    }

    fn step(step: u64, mfu: Option<f64>) -> Event {
        Event::Step(StepReport {
            step,
            loss: 2.431_23,
            grad_norm: 0.831,
            learning_rate: 1e-3,
            tokens: step * 768,
            tokens_per_second: 18_240.0,
            mfu,
            epoch: 0.1,
            seconds: 6.4,
            metrics: Metrics::new(),
        })
    }

    fn evaluation(step: u64) -> Event {
        Event::Evaluation(EvaluationReport {
            step,
            train_loss: Some(2.4),
            val_loss: 2.5,
            perplexity: Some(12.182_49),
            gap: Some(0.1),
            exact_match: None,
            macro_f1: None,
            metrics: Metrics::new(),
            is_best: true,
            seconds: 1.0,
        })
    }

    /// Collects the lines printed for events if there is no terminal.
    fn lines(quiet: bool, events: &[Event]) -> Vec<String> {
        let mut progress = Progress::new(quiet);
        let mut lines = Vec::new();
        for event in events {
            lines.extend(progress.text(event));
            match event {
                Event::Started(info) => {
                    (progress.first_step, progress.last_step) = (info.first_step, info.last_step);
                    progress.has_perplexity = info.has_perplexity;
                }
                Event::Evaluation(report) => progress.val_loss = Some(report.val_loss),
                _ => {}
            }
        }
        lines
    }

    #[test]
    fn metrics_have_their_names_and_several_numbers_their_ends() {
        let values = [
            ("accuracy", MetricValue::One(0.51234)),
            ("router/expert", MetricValue::Each(vec![0.5, 0.1, 0.4])),
        ];
        let values = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        assert_eq!(metrics(&values).collect::<Vec<_>>(), ["accuracy 0.512", "expert 0.100-0.500"]);
    }

    #[test]
    fn metrics_of_tasks_are_one_line_with_the_names_of_the_tasks() {
        let metrics = [("arc/acc", 0.25), ("gsm/exact_match,strict", 0.5)];
        let metrics = metrics.map(|(name, value)| (name.to_owned(), MetricValue::One(value)));
        let report = TaskReport { step: 120, metrics: metrics.into(), seconds: 1.0 };
        let lines = lines(true, &[started(0), Event::Tasks(report)]);
        assert_eq!(lines, ["step 00120/02000 | arc/acc 0.2500 | gsm/exact_match,strict 0.5000"]);
    }

    #[test]
    fn a_step_is_one_line_of_named_numbers() {
        let lines = lines(false, &[started(0), step(120, None), evaluation(120), step(128, Some(0.0312))]);
        assert_eq!(
            lines[1..],
            [
                "step 00120/02000 (6.00%) | loss 2.4312 | lr 1.0e-3 | norm 0.83 | 18.2k tok/s | eta 1m40s",
                "step 00120/02000 | val loss 2.5000 | perplexity 12.18 | train loss 2.4000 | best so far",
                "step 00128/02000 (6.40%) | loss 2.4312 | val 2.5000 | lr 1.0e-3 | norm 0.83 | 18.2k tok/s | \
                 mfu 3.1% | eta 1m34s",
            ]
        );
    }

    #[test]
    fn the_header_names_device_model_data_and_steps() {
        assert_eq!(
            lines(false, &[started(500)])[0],
            "device  cpu\nmodel   0.80M parameters, vocabulary 65, uniform loss 4.1744\n\
             data    1.0M training tokens, 111.5k validation tokens\nsteps   500 to 2,000, 768 tokens each"
        );
    }

    #[test]
    fn the_eta_after_a_resume_counts_only_steps_of_this_process() {
        let lines = lines(false, &[started(1000), step(1001, None)]);
        assert!(lines[1].ends_with("eta 1h46m"), "{}", lines[1]);
    }

    #[test]
    fn figures_below_the_bar_fit_80_columns() {
        let Event::Step(mut report) = step(2000, Some(0.4321)) else { unreachable!() };
        (report.loss, report.grad_norm, report.tokens_per_second) = (11.4312, 103.83, 118_249.0);
        let mut progress = Progress::new(false);
        progress.val_loss = Some(10.9);
        let line = progress.figures(&report).join("  ");
        assert!(line.chars().count() <= 80, "{line}");
    }

    #[test]
    fn quiet_shows_evaluations_warnings_and_the_end() {
        let events = [
            started(0),
            step(1, None),
            Event::Sample(SampleReport { step: 1, text: "x".into(), reward: None }),
            Event::Checkpoint(CheckpointReport { step: 1, path: "run".into(), is_best: false }),
            evaluation(1),
            Event::Skipped { step: 2, loss: f32::NAN, grad_norm: f32::NAN, batch: "rows 1, 2".into() },
            Event::Skipped { step: 3, loss: 2.5, grad_norm: f32::INFINITY, batch: "rows 3, 4".into() },
            Event::Finished(FinishReport {
                step: 2000,
                reason: FinishReason::Completed,
                best_val_loss: Some(1.4697),
                best_step: Some(1750),
                seconds: 192.0,
                tokens: 1_536_000,
                skipped_steps: 1,
                peak_memory_bytes: None,
            }),
        ];
        assert_eq!(lines(false, &events).len(), 8);
        assert_eq!(
            lines(true, &events),
            [
                "step 00001/02000 | val loss 2.5000 | perplexity 12.18 | train loss 2.4000 | best so far",
                "step 00002/02000 | warning: skipped, the loss is NaN (batch of rows 1, 2)",
                "step 00003/02000 | warning: skipped, the gradient norm is inf, with a loss of 2.5 \
                 (batch of rows 3, 4)",
                "finished at step 2,000 after 3m12s, 1.5M tokens in all\n\
                 best validation loss 1.4697 at step 1,750 (perplexity 4.35)\n\
                 steps skipped for a loss that was not finite: 1",
            ]
        );
    }

    /// The loss of a classifier is over classes, and that of a regression is a squared error.
    #[test]
    fn only_a_language_model_has_a_perplexity() {
        let (Event::Started(mut info), Event::Evaluation(mut report)) = (started(0), evaluation(120)) else {
            unreachable!()
        };
        (info.has_perplexity, info.uniform_loss) = (false, None);
        (report.perplexity, report.macro_f1) = (None, Some(0.25));
        let finished = Event::Finished(FinishReport {
            step: 120,
            reason: FinishReason::StoppedAtStep,
            best_val_loss: Some(2.5),
            best_step: Some(120),
            seconds: 1.0,
            tokens: 0,
            skipped_steps: 0,
            peak_memory_bytes: None,
        });
        let lines = lines(false, &[Event::Started(info), Event::Evaluation(report), finished]);
        assert!(lines[0].contains("\nmodel   0.80M parameters, vocabulary 65\n"), "{}", lines[0]);
        assert_eq!(
            lines[1..],
            [
                "step 00120/02000 | val loss 2.5000 | train loss 2.4000 | F1 0.2500 | best so far",
                "stopped as asked at step 120 after 1.0s, 0 tokens in all\nbest validation loss 2.5000 at step 120",
            ]
        );
    }

    #[test]
    fn a_sample_cannot_move_the_cursor() {
        let report = SampleReport { step: 5, text: "to be\n\n\u{1b}[2J\tor\r\n".into(), reward: None };
        assert_eq!(sample(&report), "sample at step 5:\n  to be\n\n  \u{fffd}[2J\tor\u{fffd}\n");
    }
}
