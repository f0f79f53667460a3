//! `kiln score`: texts against references, without a model. The numbers are those of sacrebleu, rouge-score, SQuAD's
//! scripts and scikit-learn.

use super::table::{Align, Table};
use crate::{error::Error, platform::storage};
use clap::{Args, Subcommand};
use kiln_score::{
    BleuConfig, BootstrapConfig, ChrfConfig, Classification, Smoothing, Tokenizer, Unit, answers, bootstrap,
    corpus, edit, rouge,
};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub struct ScoreArguments {
    #[command(subcommand)]
    metric: Metric,
}

#[derive(Debug, Subcommand)]
enum Metric {
    /// BLEU of the corpus, as sacrebleu
    Bleu {
        #[command(flatten)]
        texts: Texts,
        /// 13a, intl, char, zh or none
        #[arg(long, default_value = "13a", value_name = "NAME")]
        tokenize: String,
        /// exp, floor, add-k or none
        #[arg(long, default_value = "exp", value_name = "NAME")]
        smooth: String,
        /// Value of floor (0.1) and add-k (1)
        #[arg(long, value_name = "X")]
        smooth_value: Option<f64>,
        /// Without regard to case
        #[arg(long)]
        lowercase: bool,
    },
    /// chrF, or chrF++ with --word-order 2, as sacrebleu
    Chrf {
        #[command(flatten)]
        texts: Texts,
        /// Longest sequence of words
        #[arg(long, default_value_t = 0, value_name = "N")]
        word_order: usize,
        /// Without regard to case
        #[arg(long)]
        lowercase: bool,
    },
    /// ROUGE-1, ROUGE-2, ROUGE-L and ROUGE-Lsum, as rouge-score
    Rouge {
        #[command(flatten)]
        texts: Texts,
        /// Compare stems of words
        #[arg(long)]
        stemmer: bool,
    },
    /// Exact match and F1 of answers, as SQuAD's scripts
    Answers {
        #[command(flatten)]
        texts: Texts,
    },
    /// Accuracy, precision, recall and F1 of classes, one a line, as scikit-learn
    Classes {
        #[command(flatten)]
        texts: Texts,
    },
    /// Rates of wrong characters, words or phonemes
    Errors {
        #[command(flatten)]
        texts: Texts,
        /// characters, words or phonemes
        #[arg(long, default_value = "words", value_name = "UNIT")]
        unit: String,
    },
}

/// Texts and references, a line each.
#[derive(Debug, Args)]
struct Texts {
    /// File with a text a line
    #[arg(long, value_name = "FILE")]
    system: PathBuf,
    /// File with a reference a line (repeatable, for several references of each text)
    #[arg(long, required = true, value_name = "FILE")]
    reference: Vec<PathBuf>,
    /// Texts of another system: tests whether it differs, by paired bootstrap
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Draws of the bootstrap, for intervals of 95 %; 0: none
    #[arg(long, default_value_t = 0, value_name = "N")]
    bootstrap: usize,
    /// Seed of the bootstrap
    #[arg(long, default_value_t = 12345, value_name = "N")]
    seed: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Score of chosen texts, given by their numbers.
type Score = Box<dyn Fn(&[usize]) -> f64>;

/// Metrics by name.
type Scores = Vec<(String, Score)>;

/// Function that reads texts and their references, and makes metrics of them.
type Metrics<'a> = &'a dyn Fn(&[String], &[Vec<String>]) -> Result<Scores>;

type Result<T> = kiln_score::Result<T>;

pub(super) fn run(arguments: ScoreArguments) -> anyhow::Result<()> {
    match arguments.metric {
        Metric::Bleu { texts, tokenize, smooth, smooth_value, lowercase } => {
            let config = || -> Result<_> {
                BleuConfig {
                    tokenizer: Tokenizer::from_name(&tokenize)?,
                    smoothing: Smoothing::from_name(&smooth, smooth_value)?,
                    lowercase,
                    ..BleuConfig::default()
                }
                .build()
            };
            let bleu = config().map_err(refused)?;
            let signature = {
                let bleu = bleu.clone();
                move |references: &[Vec<String>], draws: Option<&BootstrapConfig>| {
                    bleu.signature(references, draws)
                }
            };
            show(&texts, Some(&signature), &|system, references| {
                let bleu = bleu.clone();
                let statistics = corpus::map(system, references, |text, own| bleu.statistics(text, own))?;
                let score =
                    move |drawn: &[usize]| bleu.score(&corpus::sum(&statistics, drawn.iter().copied())).score;
                Ok(vec![("BLEU".to_owned(), Box::new(score))])
            })
        }
        Metric::Chrf { texts, word_order, lowercase } => {
            let chrf =
                ChrfConfig { word_order, lowercase, ..ChrfConfig::default() }.build().map_err(refused)?;
            let signature = {
                let chrf = chrf.clone();
                move |references: &[Vec<String>], draws: Option<&BootstrapConfig>| {
                    chrf.signature(references, draws)
                }
            };
            show(&texts, Some(&signature), &|system, references| {
                let chrf = chrf.clone();
                let statistics = corpus::map(system, references, |text, own| chrf.statistics(text, own))?;
                let name = chrf.name();
                let score =
                    move |drawn: &[usize]| chrf.score(&corpus::sum(&statistics, drawn.iter().copied()));
                Ok(vec![(name, Box::new(score))])
            })
        }
        Metric::Rouge { texts, stemmer } => show(&texts, None, &|system, references| {
            let all = corpus::map(system, references, |text, own| rouge::rouge(text, own, stemmer))?;
            let names = all.first().map(|scores| scores.named().map(|(name, _)| name));
            let score = |i: usize| {
                let values: Vec<f64> = all.iter().map(|scores| scores.named()[i].1.f_measure).collect();
                mean_of(values)
            };
            Ok(names
                .into_iter()
                .flatten()
                .enumerate()
                .map(|(i, name)| (format!("{name} F"), score(i)))
                .collect())
        }),
        Metric::Answers { texts } => show(&texts, None, &|system, references| {
            let all = corpus::map(system, references, answers::answer)?;
            let column = |of: fn(&answers::AnswerScore) -> f64| mean_of(all.iter().map(of).collect());
            Ok(vec![
                ("exact match".to_owned(), column(|score| score.exact)),
                ("F1".to_owned(), column(|score| score.f1)),
                ("F1 (SQuAD 2)".to_owned(), column(|score| score.f1_squad2)),
            ])
        }),
        Metric::Classes { texts } => show(&texts, None, &|system, references| {
            corpus::check(system, references)?;
            let pairs: Vec<(String, String)> =
                references.iter().map(|own| own[0].clone()).zip(system.iter().cloned()).collect();
            let figure = |name: &str, of: fn(&Classification<String>) -> f64| {
                let pairs = pairs.clone();
                let score = move |drawn: &[usize]| {
                    let (truth, predicted): (Vec<String>, Vec<String>) =
                        drawn.iter().map(|i| pairs[*i].clone()).unzip();
                    Classification::new(&truth, &predicted).map_or(f64::NAN, |found| of(&found))
                };
                (name.to_owned(), Box::new(score) as Score)
            };
            Ok(vec![
                figure("accuracy", |found| found.accuracy),
                figure("balanced accuracy", |found| found.balanced_accuracy),
                figure("macro precision", |found| found.macro_average.precision),
                figure("macro recall", |found| found.macro_average.recall),
                figure("macro F1", |found| found.macro_average.f1),
                figure("micro F1", |found| found.micro.f1),
                figure("weighted precision", |found| found.weighted.precision),
                figure("weighted recall", |found| found.weighted.recall),
                figure("weighted F1", |found| found.weighted.f1),
                figure("Matthews correlation", |found| found.mcc),
            ])
        }),
        Metric::Errors { texts, unit } => {
            let unit = match unit.as_str() {
                "characters" => Unit::Characters,
                "words" => Unit::Words,
                "phonemes" => Unit::Phonemes,
                _ => {
                    let expected = "expected characters, words or phonemes";
                    return Err(Error::invalid_value("--unit", unit, expected).into());
                }
            };
            show(&texts, None, &|system, references| {
                corpus::check(system, references)?;
                let first: Vec<String> = references.iter().map(|own| own[0].clone()).collect();
                let (counts, _) = edit::corpus(system, &first, unit)?;
                let score = move |drawn: &[usize]| {
                    let sum = |of: fn(&edit::EditCounts) -> u64| {
                        drawn.iter().map(|i| of(&counts[*i])).sum::<u64>() as f64
                    };
                    sum(|counts| counts.edits) / sum(|counts| counts.length)
                };
                Ok(vec![("error rate".to_owned(), Box::new(score))])
            })
        }
    }
}

/// Mean of the values of the drawn texts.
fn mean_of(values: Vec<f64>) -> Score {
    Box::new(move |drawn| corpus::mean(&drawn.iter().map(|i| values[*i]).collect::<Vec<_>>()))
}

/// Signature of a metric over references and a bootstrap.
type Signature<'a> = &'a dyn Fn(&[Vec<String>], Option<&BootstrapConfig>) -> String;

fn show(texts: &Texts, signature: Option<Signature>, scores: Metrics) -> anyhow::Result<()> {
    let system = lines(&texts.system)?;
    let references = references(texts, system.len())?;
    let draws = BootstrapConfig {
        samples: if texts.bootstrap == 0 { 1000 } else { texts.bootstrap },
        seed: texts.seed,
        ..BootstrapConfig::default()
    };
    let wants_draws = texts.bootstrap > 0 || texts.against.is_some();
    let found = scores(&system, &references).map_err(refused)?;
    let all: Vec<usize> = (0..system.len()).collect();
    let mut rows = Vec::new();
    for (i, (name, score)) in found.iter().enumerate() {
        let mut row = json!({ "metric": name, "score": score(&all) });
        if wants_draws {
            let interval = bootstrap::interval(system.len(), &draws, score).map_err(refused)?;
            row["interval"] = json!([interval.lower, interval.upper]);
        }
        if let Some(path) = &texts.against {
            let other = lines(path)?;
            let theirs = scores(&other, &references).map_err(refused)?;
            let test = bootstrap::paired(system.len(), &draws, score, &theirs[i].1).map_err(refused)?;
            row["other"] = json!(test.system.score);
            row["p_value"] = json!(test.p_value);
        }
        rows.push(row);
    }
    let signature = signature.map(|of| of(&references, wants_draws.then_some(&draws)));
    if texts.json {
        println!("{}", serde_json::to_string_pretty(&json!({ "scores": rows, "signature": signature }))?);
        return Ok(());
    }
    let mut table = Table::new([("", Align::Left), ("", Align::Right), ("", Align::Left), ("", Align::Left)]);
    for row in rows {
        let number =
            |value: &serde_json::Value| value.as_f64().map_or("?".into(), |number| format!("{number:.4}"));
        let interval = row["interval"].as_array();
        let interval =
            interval.map_or(String::new(), |ends| format!("{} to {}", number(&ends[0]), number(&ends[1])));
        let other = match row.get("other") {
            Some(other) => format!("other {}, p = {}", number(other), number(&row["p_value"])),
            None => String::new(),
        };
        table.row([
            row["metric"].as_str().unwrap_or_default().to_owned(),
            number(&row["score"]),
            interval,
            other,
        ]);
    }
    print!("{table}");
    signature.iter().for_each(|signature| println!("{signature}"));
    Ok(())
}

/// References of each text.
fn references(texts: &Texts, count: usize) -> anyhow::Result<Vec<Vec<String>>> {
    let mut references = vec![Vec::new(); count];
    for path in &texts.reference {
        let lines = lines(path)?;
        if lines.len() != count {
            let message =
                format!("it has {} lines, and `{}` has {count}", lines.len(), texts.system.display());
            return Err(Error::invalid_value("--reference", path.display(), message).into());
        }
        references.iter_mut().zip(lines).for_each(|(own, line)| own.push(line));
    }
    Ok(references)
}

fn lines(path: &Path) -> crate::Result<Vec<String>> {
    let text = storage::read_to_string(path)?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn refused(error: kiln_score::Error) -> Error {
    match error {
        kiln_score::Error::InvalidValue { key, value, message } => Error::invalid_value(key, value, message),
        other => Error::InvalidValue {
            key: "--system".into(),
            value: "its texts".into(),
            message: other.to_string(),
            hint: None,
        },
    }
}
