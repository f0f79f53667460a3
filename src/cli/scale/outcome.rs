//! Results of the runs of a sweep: their losses, the laws that are fitted to them, and what follows. `runs.csv` is for other
//! programs and for `kiln scale fit`, `results.json` has everything.

use super::{
    laws::{counted, size_name},
    sweep::{Base, SweepCell, WORTHWHILE_EPOCHS},
};
use crate::{
    cli::{
        compare::cells::run_of,
        logfile::{self, read_events},
        table::grouped,
    },
    platform::storage,
    train::event::Event,
};
use kiln_scale::{
    advice::{self, Advice, Prediction},
    bootstrap::{Bootstrap, BootstrapConfig, LawIntervals, bootstrap},
    error::Quantity,
    fit::{Fit, FitConfig, fit},
    isoflop::{IsoFlop, IsoFlopConfig, isoflop},
    kaplan::{PowerLaw, power_law},
    runs::{Place, Run, Runs},
};
use serde::Serialize;
use std::{fmt::Write, path::Path};

/// Name of the table of runs.
pub const CSV: &str = "runs.csv";
/// Budget of the advice that nobody asked for, as a factor of the largest budget of the sweep.
const ADVISED: f64 = 10.0;

/// A run and its result.
#[derive(Debug, Clone, Serialize)]
pub struct SweepRun {
    pub name: String,
    /// Budget that the run belongs to, counted from 1.
    pub budget: usize,
    pub layers: usize,
    pub heads: usize,
    pub width: usize,
    /// N.
    pub parameters: u64,
    /// D.
    pub tokens: u64,
    /// C = 6·N·D.
    pub flops: f64,
    pub steps: u64,
    pub learning_rate: f64,
    /// Passes over the training split.
    pub epochs: f64,
    /// Validation loss after the last step, in nats per token; `None` if the run is not finished.
    pub loss: Option<f64>,
    pub bits_per_byte: Option<f64>,
    /// Seconds of training, over all processes of the run.
    pub seconds: f64,
}

impl SweepRun {
    pub fn read(cell: &SweepCell, base: &Base, folder: &Path) -> Self {
        let events = read_events(&run_of(&cell.cell, folder).join(logfile::FILE_NAME)).unwrap_or_default();
        let (mut loss, mut earlier, mut seconds) = (None, 0.0, 0.0);
        for logged in &events {
            match &logged.event {
                Event::Started(_) => earlier = seconds,
                Event::Step(report) => seconds = earlier + report.seconds,
                Event::Evaluation(report) if report.step == cell.cell.config.train.max_steps => {
                    loss = Some(report.val_loss);
                }
                _ => {}
            }
        }
        let (model, train) = (&cell.cell.config.model, &cell.cell.config.train);
        Self {
            name: cell.cell.name.clone(),
            budget: cell.budget + 1,
            layers: model.n_layer,
            heads: model.n_head,
            width: model.n_embd,
            parameters: cell.parameters,
            tokens: cell.tokens,
            flops: cell.flops,
            steps: train.max_steps,
            learning_rate: train.learning_rate,
            epochs: base.epochs(cell.tokens),
            loss,
            bits_per_byte: loss.zip(base.bits_per_nat).map(|(loss, bits)| loss * bits),
            seconds,
        }
    }

    /// The run for a fit, if it is finished.
    fn measured(&self, vocabulary: usize) -> Option<Run> {
        Some(Run {
            parameters: self.parameters as f64,
            tokens: self.tokens as f64,
            loss: self.loss?,
            group: Some(format!("budget {}", self.budget)),
            vocabulary: Some(vocabulary as u64),
            place: Place { path: self.name.clone(), line: None },
        })
    }
}

/// A larger run that was trained after its loss had been predicted.
#[derive(Debug, Clone, Serialize)]
pub struct Verification {
    pub run: SweepRun,
    pub prediction: Prediction,
    /// Predicted over measured loss, less 1; `None` until the run is finished.
    pub relative_error: Option<f64>,
}

/// Results of a sweep.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Whether N includes embeddings.
    pub embeddings: bool,
    /// Number of tokens of the tokenizer.
    pub vocabulary: usize,
    /// Size of the training split, in tokens.
    pub train_tokens: usize,
    pub runs: Vec<SweepRun>,
    pub fit: Option<Fit>,
    pub intervals: Option<LawIntervals>,
    pub isoflop: Option<IsoFlop>,
    pub kaplan: Vec<PowerLaw>,
    pub optima: Vec<Advice>,
    pub predictions: Vec<Prediction>,
    pub verification: Option<Verification>,
    /// Whole sentences, without full stops.
    pub notes: Vec<String>,
    /// Why Chinchilla's law could not be fitted.
    #[serde(skip)]
    pub refused: Option<kiln_scale::Error>,
    #[serde(skip)]
    draws: Option<Bootstrap>,
}

impl Outcome {
    /// Reads the runs and fits what can be fitted. `budgets` are advised on, `larger` are N and D of runs whose losses are
    /// predicted.
    ///
    /// # Errors
    /// An error for a budget or a size that is not finite and positive.
    pub fn read(
        cells: &[SweepCell],
        base: &Base,
        folder: &Path,
        budgets: &[f64],
        larger: &[[f64; 2]],
    ) -> kiln_scale::Result<Self> {
        let runs: Vec<SweepRun> = cells.iter().map(|cell| SweepRun::read(cell, base, folder)).collect();
        let mut outcome = Self {
            embeddings: base.embeddings,
            vocabulary: base.vocabulary,
            train_tokens: base.train_tokens,
            runs,
            fit: None,
            intervals: None,
            isoflop: None,
            kaplan: Vec::new(),
            optima: Vec::new(),
            predictions: Vec::new(),
            verification: None,
            notes: Vec::new(),
            refused: None,
            draws: None,
        };
        outcome.note_runs();
        let measured = outcome.runs.iter().filter_map(|run| run.measured(base.vocabulary)).collect();
        match Runs::new(measured) {
            Ok(measured) => {
                outcome.fit_all(&measured);
                outcome.advise(budgets, larger)?;
            }
            Err(error) => outcome.refused = Some(error),
        }
        Ok(outcome)
    }

    /// Notes on runs that are missing or read their text too often.
    fn note_runs(&mut self) {
        for run in self.runs.iter().filter(|run| run.loss.is_none()) {
            self.notes.push(format!("`{}` is not finished and is left out", run.name));
        }
        let often = self.runs.iter().filter(|run| run.epochs > WORTHWHILE_EPOCHS);
        if let Some(most) = often.clone().map(|run| run.epochs).max_by(f64::total_cmp) {
            self.notes.push(format!(
                "{} of the runs read the {} tokens of the training split more than {WORTHWHILE_EPOCHS} times, one of them \
                 {most:.1} times: repeated tokens are worth less than new ones (arXiv:2305.16264), and the law counts them alike",
                often.count(),
                grouped(self.train_tokens as u64)
            ));
        }
    }

    fn fit_all(&mut self, measured: &Runs) {
        match fit(measured, &FitConfig::default()) {
            Ok(fit) => {
                self.notes.extend(fit.notes.iter().cloned());
                match bootstrap(measured, &fit, &BootstrapConfig::default()) {
                    Ok(draws) => (self.intervals, self.draws) = (Some(draws.law()), Some(draws)),
                    Err(error) => self.notes.push(format!("there are no intervals: {error}")),
                }
                self.fit = Some(fit);
            }
            Err(error) => {
                self.notes.push(format!("there is no law of N and D: {error}"));
                self.refused = Some(error);
            }
        }
        match isoflop(measured, &IsoFlopConfig::default()) {
            Ok(found) => self.isoflop = Some(found),
            Err(error) => self.notes.push(format!("there are no best sizes by parabolas: {error}")),
        }
        for quantity in Quantity::ALL {
            match power_law(measured, quantity) {
                Ok(law) => self.kaplan.push(law),
                Err(error) => self.notes.push(format!("there is no L({}): {error}", quantity.letter())),
            }
        }
    }

    fn advise(&mut self, budgets: &[f64], larger: &[[f64; 2]]) -> kiln_scale::Result<()> {
        let Some(fit) = &self.fit else { return Ok(()) };
        let default = [ADVISED * fit.extent.compute[1]];
        for budget in if budgets.is_empty() { &default[..] } else { budgets } {
            self.optima.push(advice::optimal(fit, self.draws.as_ref(), *budget)?);
        }
        for [parameters, tokens] in larger {
            let name = size_name(*parameters, *tokens);
            self.predictions.push(advice::predict(fit, self.draws.as_ref(), &name, *parameters, *tokens)?);
        }
        Ok(())
    }

    /// Predicts the loss of a run that is trained next.
    ///
    /// # Errors
    /// An error if the law says nothing of its size.
    pub fn predict(&self, fit: &Fit, cell: &SweepCell) -> kiln_scale::Result<Prediction> {
        let (parameters, tokens) = (cell.parameters as f64, cell.tokens as f64);
        advice::predict(fit, self.draws.as_ref(), &size_name(parameters, tokens), parameters, tokens)
    }

    /// Writes `runs.csv` and `results.json`.
    ///
    /// # Errors
    /// An error if the folder cannot be written.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        storage::write_atomic(&folder.join(CSV), self.csv().as_bytes())?;
        let json = serde_json::to_string_pretty(self)?;
        Ok(storage::write_atomic(&folder.join("results.json"), json.as_bytes())?)
    }

    /// The finished runs, without the larger one.
    fn csv(&self) -> String {
        let mut text = format!(
            "# N is counted {} embeddings, D in trained tokens; flops = 6 N D, loss in nats per token of the validation split\n\
             group,parameters,tokens,loss,flops,bits_per_byte,vocabulary,layers,heads,width,steps,learning_rate,epochs,seconds\n",
            counted(self.embeddings)
        );
        for run in &self.runs {
            let Some(loss) = run.loss else { continue };
            let bits = run.bits_per_byte.map_or_else(String::new, |bits| bits.to_string());
            let _ = writeln!(
                text,
                "budget {},{},{},{loss},{:e},{bits},{},{},{},{},{},{},{:.3},{:.1}",
                run.budget,
                run.parameters,
                run.tokens,
                run.flops,
                self.vocabulary,
                run.layers,
                run.heads,
                run.width,
                run.steps,
                run.learning_rate,
                run.epochs,
                run.seconds,
            );
        }
        text
    }
}
