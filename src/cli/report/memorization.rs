//! The parts of a run's report about overfitting and about what the model has learned by heart.

use super::escape;
use crate::{
    cli::{logfile::LoggedEvent, memorization},
    train::event::Event,
};
use std::fmt::Write;

/// Adds the warning of overfitting, if the run has one.
pub(super) fn push_overfitting(html: &mut String, events: &[LoggedEvent]) {
    let report = events.iter().rev().find_map(|logged| match &logged.event {
        Event::Overfitting(report) => Some(report),
        _ => None,
    });
    if let Some(report) = report {
        let warning = escape(&memorization::overfitting(report));
        let _ = writeln!(html, "<p><strong>Warning</strong> at step {}: {warning}.</p>", report.step);
    }
}

/// Adds the newest figures of memorization, if the run has any.
pub(super) fn push_memorization(html: &mut String, events: &[LoggedEvent]) {
    let report = events.iter().rev().find_map(|logged| match &logged.event {
        Event::Memorization(report) => Some(report),
        _ => None,
    });
    let Some(report) = report else { return };
    let found = &report.memorization;
    let _ = writeln!(html, "<h2>Memorization</h2>\n<p>Measured at step {}.</p>", report.step);
    let sections = [
        ("Greedy continuations (arXiv:2202.07646)", memorization::extraction_lines(found)),
        ("Longest verbatim overlap with the training text", memorization::overlap_lines(found)),
        ("Canaries (arXiv:1802.08232)", memorization::canary_lines(found)),
    ];
    for (title, lines) in sections.into_iter().filter(|(_, lines)| !lines.is_empty()) {
        let _ = writeln!(html, "<h3>{title}</h3>\n<table>");
        for (name, value) in lines {
            let _ = writeln!(html, "<tr><th>{}</th><td>{}</td></tr>", escape(&name), escape(&value));
        }
        html.push_str("</table>\n");
    }
    for overlap in found.overlaps.iter().filter(|overlap| overlap.tokens > 0) {
        let _ = writeln!(
            html,
            "<details>\n<summary>Longest overlap, {}</summary>\n<pre>{}</pre>\n</details>",
            escape(&overlap.texts),
            escape(&overlap.text)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        eval::{
            exposure::Exposure,
            memorization::{Extraction, Memorization, OverlapReport},
        },
        train::event::{MemorizationReport, OverfittingReport},
    };

    #[test]
    fn figures_in_the_log_have_sections() {
        let extraction = Extraction {
            prompts: 256,
            prompt_tokens: 32,
            new_tokens: 32,
            verbatim: 0.125,
            mean_common_tokens: 5.5,
        };
        let overlap = OverlapReport {
            texts: "samples of the run".into(),
            count: 4,
            mean_tokens: 20.5,
            tokens: 31,
            characters: 31,
            text: "<to be or not>".into(),
            document: 2,
            offset: 1234,
        };
        let canary = Exposure {
            text: "The code is 007.".into(),
            repeat: 100,
            candidates: 1000,
            scored: 1000,
            rank: 1,
            exposure: 1000f64.log2(),
            loss: 3.0,
        };
        let memorization = Memorization {
            train: Some(extraction),
            validation: None,
            overlaps: vec![overlap],
            canaries: vec![canary],
            seconds: 1.0,
        };
        let overfitting = OverfittingReport {
            step: 30,
            evaluations: 3,
            val_loss: 2.5,
            best_val_loss: 2.0,
            best_step: 10,
            train_loss: 1.0,
            train_loss_at_best: 1.9,
        };
        let events = [
            Event::Overfitting(overfitting),
            Event::Memorization(MemorizationReport { step: 40, memorization }),
        ];
        let events = events.map(|event| LoggedEvent { time: 0.0, event });
        let mut html = String::new();
        push_overfitting(&mut html, &events);
        push_memorization(&mut html, &events);
        for expected in [
            "Warning</strong> at step 30: the model overfits",
            "<th>training text</th><td>12.50 % of 256 prompts of 32 tokens",
            "31 tokens, 31 characters (document 2, token 1,234); 20.5 tokens on average of 4",
            "<pre>&lt;to be or not&gt;</pre>",
            "repeated 100×, exposure 9.97 of 9.97 bits, rank 1 among 1,000 secrets",
        ] {
            assert!(html.contains(expected), "{expected}\n{html}");
        }
        let (mut none, mut also_none) = (String::new(), String::new());
        push_overfitting(&mut none, &[]);
        push_memorization(&mut also_none, &[]);
        assert!(none.is_empty() && also_none.is_empty());
    }
}
