//! Writes `RUN/report.html`, one page about a run, without external resources, for light and dark screens and
//! phones; and the plots `RUN/loss.svg` and `RUN/loss.png`. Everything comes from `RUN/log.jsonl`, so that it
//! covers all resumes.

mod memorization;

use super::{
    logfile::{self, LoggedEvent, read_events},
    plot::{self, Curves, palette},
    table::{bytes, duration, grouped, parameters, short},
};
use crate::{
    config::{Architecture, Config, Head, ModelConfig},
    platform::storage,
    train::event::{EvaluationReport, Event, FinishReason},
};
use anyhow::Result;
use std::{collections::BTreeSet, fmt::Write, path::Path};

/// Writes `loss.svg`, `loss.png` and `report.html` into the folder `run`.
pub fn write(run: &Path, config: &Config) -> Result<()> {
    let events = read_events(&run.join(logfile::FILE_NAME))?;
    let curves = Curves::from_events(&events);
    let title = run_name(run);
    let size = (1200, 700);
    storage::write_atomic(&run.join("loss.svg"), plot::loss_svg(&curves, &title, size)?.as_bytes())?;
    plot::write_loss_png(&curves, &title, size, &run.join("loss.png"))?;
    storage::write_atomic(&run.join("report.html"), page(run, &events, &curves, config)?.as_bytes())?;
    Ok(())
}

/// Lists commands to try after a run that ended for `reason`, each with its purpose.
pub fn next_commands(
    run: &Path,
    model: &ModelConfig,
    reason: Option<FinishReason>,
) -> Vec<(String, &'static str)> {
    let run = shell_word(&run.display().to_string());
    let resume = match reason {
        Some(FinishReason::Completed) => " --set train.max_steps=N",
        Some(FinishReason::StoppedAtStep) => " --set train.stop_after=0",
        Some(FinishReason::EarlyStopped) => " --set train.early_stopping_patience=0",
        Some(FinishReason::Interrupted) | None => "",
    };
    let use_it = match (model.architecture, model.head) {
        (Architecture::Encoder, Head::LanguageModel) => {
            (format!("kiln fill {run} TEXT"), "fill the `[MASK]`s of a text")
        }
        (Architecture::Encoder, _) => (format!("kiln classify {run} TEXT"), "classify a text"),
        (_, Head::Regression) => (format!("kiln classify {run} TEXT"), "give a text its number"),
        _ => (format!("kiln generate {run}"), "generate text with the model"),
    };
    vec![
        use_it,
        (format!("kiln eval {run}"), "measure it on the validation split"),
        (format!("kiln train --resume {run}{resume}"), "train on"),
    ]
}

/// Quotes a word for a shell, if needed.
fn shell_word(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./\\:+,=@~".contains(c);
    match word {
        _ if !word.is_empty() && word.chars().all(is_plain) => word.into(),
        _ if cfg!(windows) => format!("\"{word}\""),
        _ => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Name of a folder, as the heading of its report.
pub(super) fn run_name(run: &Path) -> String {
    run.file_name().unwrap_or(run.as_os_str()).to_string_lossy().into_owned()
}

/// Escapes text for HTML, in elements and in quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // HTML has no way to hold the other control characters.
            c if c.is_control() && c != '\n' && c != '\t' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Figures at the top of the page.
#[derive(Debug, Default, PartialEq)]
struct Figures {
    best: Option<(f64, f64)>,
    has_perplexity: bool,
    step: u64,
    last_step: u64,
    tokens: u64,
    /// Seconds that all processes which trained this run took together.
    seconds: f64,
    tokens_per_second: Option<f64>,
    device: String,
    parameters: usize,
    peak_memory: Option<u64>,
    reason: Option<FinishReason>,
}

impl Figures {
    fn from_events(events: &[LoggedEvent], curves: &Curves) -> Self {
        let mut figures = Self { best: curves.best(), ..Self::default() };
        let mut speeds = Vec::new();
        // Seconds are those of one process: a run adds them up.
        let mut earlier = 0.0;
        for logged in events {
            match &logged.event {
                Event::Started(info) => {
                    earlier = figures.seconds;
                    figures.last_step = info.last_step;
                    figures.device.clone_from(&info.device);
                    figures.parameters = info.parameters;
                    figures.has_perplexity = info.has_perplexity;
                    figures.reason = None;
                }
                Event::Step(report) => {
                    (figures.step, figures.tokens) = (report.step, report.tokens);
                    figures.seconds = earlier + report.seconds;
                    speeds.extend(Some(report.tokens_per_second).filter(|speed| speed.is_finite()));
                }
                Event::Finished(report) => {
                    (figures.step, figures.tokens) = (report.step, report.tokens);
                    figures.seconds = earlier + report.seconds;
                    figures.peak_memory = figures.peak_memory.max(report.peak_memory_bytes);
                    figures.reason = Some(report.reason);
                }
                _ => {}
            }
        }
        speeds.sort_by(f64::total_cmp);
        figures.tokens_per_second = speeds.get(speeds.len() / 2).copied();
        figures
    }

    /// Names and values as they are shown.
    fn shown(&self) -> Vec<(&'static str, String)> {
        let mut shown = Vec::new();
        if let Some((step, loss)) = self.best {
            shown.push(("best validation loss", format!("{loss:.4} at step {}", grouped(step as u64))));
            if self.has_perplexity {
                shown.push(("perplexity", format!("{:.2}", loss.exp())));
            }
        }
        shown.push(("steps", format!("{} of {}", grouped(self.step), grouped(self.last_step))));
        shown.push(("tokens", short(self.tokens as f64)));
        shown.push(("time", duration(self.seconds)));
        shown.extend(self.tokens_per_second.map(|speed| ("tokens per second", short(speed))));
        shown.push(("device", self.device.clone()));
        shown.push(("parameters", parameters(self.parameters)));
        shown.extend(self.peak_memory.map(|size| ("peak memory", bytes(size))));
        shown
    }

    fn ending(&self) -> &'static str {
        match self.reason {
            Some(FinishReason::Completed) => "Completed.",
            Some(FinishReason::StoppedAtStep) => "Stopped at the step asked for.",
            Some(FinishReason::EarlyStopped) => "Stopped early: the validation loss no longer improved.",
            Some(FinishReason::Interrupted) => "Interrupted.",
            None => "Not finished.",
        }
    }
}

/// Begins a page, up to its first heading, which is `name`. `program` ends the title.
pub(super) fn page_head(name: &str, program: &str) -> String {
    let name = escape(name);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{name} - {program}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{name}</h1>\n"
    )
}

/// Builds the whole page.
fn page(run: &Path, events: &[LoggedEvent], curves: &Curves, config: &Config) -> Result<String> {
    let figures = Figures::from_events(events, curves);
    let mut html = page_head(&run_name(run), "kiln");
    let _ = write!(html, "<p>{}</p>\n<dl class=\"figures\">\n", figures.ending());
    for (label, value) in figures.shown() {
        let _ = writeln!(html, "<div><dt>{label}</dt><dd>{}</dd></div>", escape(&value));
    }
    html.push_str("</dl>\n");
    memorization::push_overfitting(&mut html, events);
    html.push_str("<h2>Loss</h2>\n");
    push_plot(&mut html, "plot wide", "Loss over steps", &plot::loss_svg(curves, "", (1100, 560))?);
    push_plot(&mut html, "plot narrow", "Loss over steps", &plot::loss_svg(curves, "", (560, 480))?);
    html.push_str("<div class=\"pair\">\n");
    for (title, curves) in &curves.others {
        push_plot(&mut html, "plot", title, &plot::curve_svg(curves, title, (540, 240))?);
    }
    html.push_str("</div>\n");
    push_evaluations(&mut html, events);
    push_tasks(&mut html, events);
    push_samples(&mut html, events);
    memorization::push_memorization(&mut html, events);
    html.push_str("<h2>Next</h2>\n<pre>");
    for (command, purpose) in next_commands(run, &config.model, figures.reason) {
        let _ = writeln!(html, "{}  <span class=\"note\"># {purpose}</span>", escape(&command));
    }
    let _ = write!(
        html,
        "</pre>\n<h2>Configuration</h2>\n<pre>{}</pre>\n</main>\n</body>\n</html>\n",
        escape(config.to_toml()?.trim_end())
    );
    Ok(html)
}

/// Adds a picture whose colours follow the page's.
pub(super) fn push_plot(html: &mut String, class: &str, label: &str, svg: &str) {
    let colors = [
        (palette::INK, "var(--ink)"),
        (palette::GRID, "var(--grid)"),
        (palette::PAPER, "var(--card)"),
        (palette::TRAIN, "var(--train)"),
        (palette::VALIDATION, "var(--validation)"),
        (palette::UNIFORM, "var(--muted)"),
    ];
    let mut svg = svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{}\" ", escape(label)), 1);
    let series = (1..).map(|number| format!("var(--series-{number})"));
    let series = palette::SERIES.into_iter().zip(series);
    let colors = colors.map(|(color, variable)| (color, variable.to_owned()));
    for (color, variable) in colors.into_iter().chain(series) {
        svg = svg.replace(
            &format!("\"#{:02X}{:02X}{:02X}\"", color.0, color.1, color.2),
            &format!("\"{variable}\""),
        );
    }
    let _ = writeln!(html, "<div class=\"{class}\">{svg}</div>");
}

fn push_evaluations(html: &mut String, events: &[LoggedEvent]) {
    let evaluations = || {
        events.iter().filter_map(|logged| match &logged.event {
            Event::Evaluation(report) => Some(report),
            _ => None,
        })
    };
    if evaluations().next().is_none() {
        return;
    }
    // Those that no evaluation of this run has are left out.
    let columns: [(&str, Column); 7] = [
        ("step", |report| Some(grouped(report.step))),
        ("validation loss", |report| Some(format!("{:.4}", report.val_loss))),
        ("training loss", |report| report.train_loss.map(|loss| format!("{loss:.4}"))),
        ("gap", |report| report.gap.map(|gap| format!("{gap:.4}"))),
        ("perplexity", |report| report.perplexity.map(|number| format!("{number:.2}"))),
        ("macro F1", |report| report.macro_f1.map(|f1| format!("{f1:.4}"))),
        ("exact match", |report| report.exact_match.map(|share| format!("{:.1} %", 100.0 * share))),
    ];
    let columns = columns.iter().filter(|(_, cell)| evaluations().any(|report| cell(report).is_some()));
    let metrics: BTreeSet<&String> = evaluations().flat_map(|report| report.metrics.keys()).collect();
    html.push_str("<details>\n<summary>Evaluations</summary>\n<table>\n<tr>");
    for name in columns.clone().map(|(name, _)| *name).chain(metrics.iter().map(|name| name.as_str())) {
        let _ = write!(html, "<th>{}</th>", escape(name));
    }
    html.push_str("</tr>\n");
    for report in evaluations() {
        html.push_str("<tr>");
        for (_, cell) in columns.clone() {
            let _ = write!(html, "<td>{}</td>", cell(report).unwrap_or_default());
        }
        for &name in &metrics {
            let numbers = report.metrics.get(name).map_or(&[][..], |value| value.values());
            let numbers: Vec<String> = numbers.iter().map(|number| format!("{number:.4}")).collect();
            let _ = write!(html, "<td>{}</td>", numbers.join(", "));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</table>\n</details>\n");
}

/// Adds a table of the tasks' metrics, a row for each metric and a column for each evaluation.
fn push_tasks(html: &mut String, events: &[LoggedEvent]) {
    let reports: Vec<_> = events
        .iter()
        .filter_map(|logged| match &logged.event {
            Event::Tasks(report) => Some(report),
            _ => None,
        })
        .collect();
    if reports.is_empty() {
        return;
    }
    html.push_str("<details open>\n<summary>Tasks</summary>\n<table>\n<tr><th>step</th>");
    for report in &reports {
        let _ = write!(html, "<th>{}</th>", grouped(report.step));
    }
    let names: BTreeSet<&String> = reports.iter().flat_map(|report| report.metrics.keys()).collect();
    for name in names {
        let _ = write!(html, "</tr>\n<tr><td>{}</td>", escape(name));
        for report in &reports {
            let numbers = report.metrics.get(name).map_or(&[][..], |value| value.values());
            let numbers: Vec<String> = numbers.iter().map(|number| format!("{number:.4}")).collect();
            let _ = write!(html, "<td>{}</td>", numbers.join(", "));
        }
    }
    html.push_str("</tr>\n</table>\n</details>\n");
}

/// Function that formats a column of the table of evaluations; `None` if an evaluation lacks it.
type Column = fn(&EvaluationReport) -> Option<String>;

/// Adds all samples in order; the first and the last are unfolded.
fn push_samples(html: &mut String, events: &[LoggedEvent]) {
    let samples: Vec<_> = events
        .iter()
        .filter_map(|logged| match &logged.event {
            Event::Sample(report) => Some(report),
            _ => None,
        })
        .collect();
    if samples.is_empty() {
        return;
    }
    html.push_str("<h2>Samples</h2>\n");
    for (i, report) in samples.iter().enumerate() {
        let open = if i == 0 || i + 1 == samples.len() { " open" } else { "" };
        let reward = report.reward.map_or_else(String::new, |reward| format!(", reward {reward:.3}"));
        let _ = writeln!(
            html,
            "<details{open}>\n<summary>step {}{reward}</summary>\n<pre>{}</pre>\n</details>",
            grouped(report.step),
            escape(&report.text)
        );
    }
}

/// Style sheet that all pages share.
pub(super) const STYLE: &str = include_str!("report.css");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{objective::Metrics, train::event::*};

    fn events() -> Vec<LoggedEvent> {
        let started = |first_step| {
            Event::Started(RunInfo {
                device: "cpu <0>".into(),
                parameters: 803_072,
                vocab_size: 65,
                train_tokens: 1000,
                val_tokens: 100,
                tokens_per_step: 768,
                flops_per_step: 1e9,
                peak_flops: None,
                first_step,
                last_step: 20,
                log_interval: 1,
                uniform_loss: Some(4.174),
                has_perplexity: true,
                notes: Vec::new(),
            })
        };
        let step = |step, seconds| {
            Event::Step(StepReport {
                step,
                loss: 4.0 / step as f32,
                grad_norm: 1.0,
                learning_rate: 1e-3,
                tokens: 768 * step,
                tokens_per_second: 100.0 * step as f64,
                mfu: None,
                epoch: 0.0,
                seconds,
                metrics: Metrics::new(),
            })
        };
        let evaluation = |step, val_loss: f64| {
            Event::Evaluation(EvaluationReport {
                step,
                train_loss: None,
                val_loss,
                gap: None,
                perplexity: Some(val_loss.exp()),
                exact_match: None,
                macro_f1: None,
                metrics: Metrics::new(),
                is_best: true,
                seconds: 0.1,
            })
        };
        let finished = Event::Finished(FinishReport {
            step: 3,
            reason: FinishReason::Interrupted,
            best_val_loss: Some(1.5),
            best_step: Some(2),
            seconds: 30.5,
            tokens: 2304,
            skipped_steps: 0,
            peak_memory_bytes: Some(3 << 29),
        });
        let sample =
            |step| Event::Sample(SampleReport { step, text: "<b>\"it's\" & so\u{1b}".into(), reward: None });
        // The first process was killed after ten seconds.
        [
            started(0),
            step(1, 10.0),
            evaluation(1, 2.0),
            sample(1),
            started(1),
            step(2, 20.0),
            evaluation(2, 1.5),
            step(3, 30.0),
            evaluation(3, f64::NAN),
            sample(2),
            sample(3),
            finished,
        ]
        .map(|event| LoggedEvent { time: 0.0, event })
        .into()
    }

    #[test]
    fn figures_cover_all_processes_of_a_run() {
        let events = events();
        let figures = Figures::from_events(&events, &Curves::from_events(&events));
        let shown = figures.shown();
        let expected = [
            ("best validation loss", "1.5000 at step 2"),
            ("perplexity", "4.48"),
            ("steps", "3 of 20"),
            ("tokens", "2.3k"),
            ("time", "41s"),
            ("tokens per second", "200"),
            ("device", "cpu <0>"),
            ("parameters", "0.80M"),
            ("peak memory", "1.5 GiB"),
        ];
        assert_eq!(shown, expected.map(|(label, value)| (label, value.to_string())));
    }

    #[test]
    fn a_classifier_has_f1_and_no_perplexity() {
        let mut events = events();
        for logged in &mut events {
            match &mut logged.event {
                Event::Started(info) => info.has_perplexity = false,
                Event::Evaluation(report) => (report.perplexity, report.macro_f1) = (None, Some(0.75)),
                _ => {}
            }
        }
        let curves = Curves::from_events(&events);
        let shown = Figures::from_events(&events, &curves).shown();
        assert!(shown.iter().all(|(label, _)| *label != "perplexity"), "{shown:?}");
        let mut html = String::new();
        push_evaluations(&mut html, &events);
        assert!(html.contains("<tr><th>step</th><th>validation loss</th><th>macro F1</th></tr>"), "{html}");
        assert!(html.contains("<tr><td>2</td><td>1.5000</td><td>0.7500</td></tr>"), "{html}");
    }

    #[test]
    fn the_page_escapes_all_text_and_needs_no_other_file() {
        let events = events();
        let curves = Curves::from_events(&events);
        let mut config = Config::default();
        config.sample.prompt = "<x>".into();
        let html = page(Path::new("runs/a <&> b"), &events, &curves, &config).unwrap();
        assert!(html.contains("<title>a &lt;&amp;&gt; b - kiln</title>"));
        assert!(html.contains("cpu &lt;0&gt;"));
        assert!(html.contains("&lt;b&gt;&quot;it&#39;s&quot; &amp; so\u{fffd}"));
        assert!(html.contains("prompt = &quot;&lt;x&gt;&quot;"));
        assert!(html.contains("kiln generate &#39;runs/a &lt;&amp;&gt; b&#39;") || cfg!(windows));
        assert_eq!(html.matches("<details open>").count(), 2);
        assert!(!html.contains("src=") && !html.contains("href=") && !html.contains("url("));
        // Every colour of the pictures follows the page.
        assert!(!html.contains("=\"#"), "a colour of its own");
    }

    #[test]
    fn commands_continue_a_run_according_to_how_it_ended() {
        let resume =
            |reason| next_commands(Path::new("runs/x"), &ModelConfig::default(), reason).pop().unwrap().0;
        assert_eq!(resume(None), "kiln train --resume runs/x");
        assert_eq!(
            resume(Some(FinishReason::StoppedAtStep)),
            "kiln train --resume runs/x --set train.stop_after=0"
        );
    }

    #[cfg(not(windows))]
    #[test]
    fn words_are_quoted_for_the_shell_only_where_needed() {
        assert_eq!(shell_word("runs/größe-1"), "runs/größe-1");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
    }
}
