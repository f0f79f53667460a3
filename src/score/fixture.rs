//! Compares the metrics with numbers that the Python tools made.
//!
//! A folder has the files `texts.json`, `corpora.json`, `answers.json`, `labels.json` and `choices.json`. Each
//! case is one number, text or list in them. A key that no metric here computes is a failed case.

use crate::{
    answers::{self, AnswerScore},
    bleu::{BleuConfig, BleuScore, Smoothing},
    choice::{self, Normalization, Question},
    chrf::ChrfConfig,
    classification::{Classification, Figures},
    corpus,
    error::{Error, Result},
    report::{Outcome, Report},
    rouge::{self, RougeScores},
    tokenize::Tokenizer,
};
use kiln_base::platform::storage;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::{io::Write, path::Path};

/// Evaluates all files of a folder, and writes one line for each case.
///
/// # Errors
/// [`Error::Fixture`] if a file cannot be read or has another layout, and those of the metrics.
pub fn evaluate(folder: &Path, out: &mut dyn Write) -> Result<Vec<Outcome>> {
    type Evaluation = fn(&Value, &SmoothValues) -> Result<Value>;
    const FILES: [(&str, Evaluation); 5] = [
        ("texts.json", |file, values| each(&file["texts"], |text| of_text(text, values))),
        ("corpora.json", |file, values| each(file, |corpus| of_corpus(corpus, values))),
        ("answers.json", |file, _| of_answers(&file["answers"])),
        ("labels.json", |file, _| each(file, of_labels)),
        ("choices.json", |file, _| of_choices(&file["questions"])),
    ];
    let texts = read(folder, "texts.json")?;
    let values: SmoothValues = parse(&texts["smooth_values"]).unwrap_or_default();
    let mut outcomes = Vec::new();
    for (name, evaluation) in FILES {
        let file = read(folder, name)?;
        let broken = |error: Error| match error {
            Error::Fixture { message, .. } => Error::Fixture { path: folder.join(name), message },
            other => other,
        };
        let found = evaluation(&file, &values).map_err(broken)?;
        let expected = match name {
            "texts.json" => &file["texts"],
            _ => &file,
        };
        let mut report = Report { out, outcome: Outcome { file: name, ..Outcome::default() } };
        report.compare(name.trim_end_matches(".json"), &found, expected);
        outcomes.push(report.outcome);
    }
    Ok(outcomes)
}

fn read(folder: &Path, name: &str) -> Result<Value> {
    let path = folder.join(name);
    let text = storage::read_to_string(&path).map_err(|error| error.to_string());
    text.and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()))
        .map_err(|message| Error::Fixture { path, message })
}

fn parse<T: for<'de> Deserialize<'de>>(value: &Value) -> Result<T> {
    T::deserialize(value).map_err(|error| layout(error.to_string()))
}

fn layout(message: String) -> Error {
    Error::Fixture { path: Default::default(), message }
}

fn each(list: &Value, of: impl Fn(&Value) -> Result<Value>) -> Result<Value> {
    let list = list.as_array().ok_or_else(|| layout("a list is missing".into()))?;
    list.iter().map(of).collect()
}

/// Values of the smoothing methods that have one.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct SmoothValues {
    floor: Option<f64>,
    add_k: Option<f64>,
}

impl SmoothValues {
    fn smoothing(&self, name: &str) -> Result<Smoothing> {
        Smoothing::from_name(name, if name == "floor" { self.floor } else { self.add_k })
    }
}

/// Values under the keys of an object, each made from its key and from what is expected there.
fn by_key(expected: &Value, of: impl Fn(&str, &Value) -> Result<Value>) -> Result<Value> {
    let keys = expected.as_object().into_iter().flatten();
    let values: Result<Map<String, Value>> =
        keys.map(|(key, value)| Ok((key.clone(), of(key, value)?))).collect();
    values.map(Value::Object)
}

/// Settings of chrF from a name such as `chrf++`, `chrf-beta1-n4` or `chrf-lowercase`.
fn chrf_config(name: &str) -> Result<ChrfConfig> {
    let unknown = || layout(format!("`{name}` is no known form of chrF"));
    let mut parts = name.split('-');
    let mut config = match parts.next() {
        Some("chrf") => ChrfConfig::default(),
        Some("chrf+") => ChrfConfig { word_order: 1, ..ChrfConfig::default() },
        Some("chrf++") => ChrfConfig { word_order: 2, ..ChrfConfig::default() },
        _ => return Err(unknown()),
    };
    for part in parts {
        match part {
            "lowercase" => config.lowercase = true,
            "whitespace" => config.whitespace = true,
            "eps" => config.eps_smoothing = true,
            _ => match (part.strip_prefix("beta"), part.strip_prefix('n')) {
                (Some(beta), _) => config.beta = beta.parse().map_err(|_| unknown())?,
                (None, Some(order)) => config.char_order = order.parse().map_err(|_| unknown())?,
                (None, None) => return Err(unknown()),
            },
        }
    }
    Ok(config)
}

fn of_text(text: &Value, values: &SmoothValues) -> Result<Value> {
    let hypothesis: String = parse(&text["hypothesis"])?;
    let references: Vec<String> = parse(&text["references"])?;
    let bleu = |config: BleuConfig| config.build()?.sentence(&hypothesis, &references);
    let default = || BleuConfig { effective_order: true, ..BleuConfig::default() };
    let rouge = |stemmer| rouge::rouge(&hypothesis, &references, stemmer).map(|of_text| triples(&of_text));
    Ok(json!({
        "bleu": by_key(&text["bleu"], |tokenizer, by_smoothing| by_key(by_smoothing, |smoothing, _| {
            let (tokenizer, smoothing) = (Tokenizer::from_name(tokenizer)?, values.smoothing(smoothing)?);
            Ok(json!(bleu(BleuConfig { tokenizer, smoothing, ..default() })?.score))
        }))?,
        "bleu_details": by_key(&text["bleu_details"], |tokenizer, _| {
            let tokenizer = Tokenizer::from_name(tokenizer)?;
            Ok(json!(bleu(BleuConfig { tokenizer, ..default() })?))
        })?,
        "bleu_not_effective_order": bleu(BleuConfig::default())?.score,
        "bleu_lowercase": bleu(BleuConfig { lowercase: true, ..default() })?.score,
        "chr": by_key(&text["chr"], |name, _| {
            Ok(json!(chrf_config(name)?.build()?.sentence(&hypothesis, &references)?))
        })?,
        "rouge": { "plain": rouge(false)?, "stemmed": rouge(true)? },
    }))
}

/// Precision, recall and F-measure of each kind of ROUGE.
fn triples(scores: &RougeScores) -> Value {
    let triple = |score: rouge::RougeScore| json!([score.precision, score.recall, score.f_measure]);
    scores.named().into_iter().map(|(name, score)| (name.to_owned(), triple(score))).collect()
}

fn of_corpus(corpus: &Value, values: &SmoothValues) -> Result<Value> {
    let hypotheses: Vec<String> = parse(&corpus["hypotheses"])?;
    let streams: Vec<Vec<Option<String>>> = parse(&corpus["reference_streams"])?;
    // A stream has one reference of each text; `null` stands for none.
    let of_text = |index| streams.iter().filter_map(|stream| stream.get(index).cloned().flatten()).collect();
    let references: Vec<Vec<String>> = (0..hypotheses.len()).map(of_text).collect();
    let bleu = |config: BleuConfig| -> Result<BleuScore> { config.build()?.corpus(&hypotheses, &references) };
    let rouge = |stemmer| -> Result<Value> {
        let of_texts = corpus::map(&hypotheses, &references, |text, of_text| {
            Ok(rouge::rouge(text, of_text, stemmer)?.named())
        })?;
        let mean = |kind: usize| -> f64 {
            corpus::mean(&of_texts.iter().map(|named| named[kind].1.f_measure).collect::<Vec<_>>())
        };
        let names = RougeScores::default().named().map(|(name, _)| name.to_owned());
        Ok(names.into_iter().enumerate().map(|(kind, name)| (name, json!(mean(kind)))).collect())
    };
    Ok(json!({
        "bleu": by_key(&corpus["bleu"], |tokenizer, by_smoothing| by_key(by_smoothing, |smoothing, _| {
            let (tokenizer, smoothing) = (Tokenizer::from_name(tokenizer)?, values.smoothing(smoothing)?);
            Ok(json!(bleu(BleuConfig { tokenizer, smoothing, ..BleuConfig::default() })?))
        }))?,
        "bleu_2gram": bleu(BleuConfig { max_ngram_order: 2, ..BleuConfig::default() })?,
        "chr": by_key(&corpus["chr"], |name, _| {
            Ok(json!(chrf_config(name)?.build()?.corpus(&hypotheses, &references)?))
        })?,
        "rouge_mean_f": { "plain": rouge(false)?, "stemmed": rouge(true)? },
    }))
}

fn of_answers(list: &Value) -> Result<Value> {
    #[derive(Deserialize)]
    struct Answer {
        prediction: String,
        answers: Vec<String>,
    }
    let list: Vec<Answer> = parse(list)?;
    let scores: Vec<AnswerScore> =
        list.iter().map(|of| answers::answer(&of.prediction, &of.answers)).collect::<Result<_>>()?;
    let cases = list.iter().zip(&scores).map(|(of, score)| {
        let texts = std::iter::once(&of.prediction).chain(&of.answers);
        let normalized: Vec<String> = texts.map(|text| answers::normalize(text)).collect();
        json!({
            "normalized": normalized,
            "exact": score.exact,
            "f1": score.f1,
            "f1_squad2": score.f1_squad2,
        })
    });
    let mean = |of: fn(&AnswerScore) -> f64| 100.0 * corpus::mean(&scores.iter().map(of).collect::<Vec<_>>());
    Ok(json!({
        "answers": cases.collect::<Vec<_>>(),
        "mean": {
            "exact": mean(|score| score.exact),
            "f1": mean(|score| score.f1),
            "f1_squad2": mean(|score| score.f1_squad2),
        },
    }))
}

/// Class in a file, by number or by name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
enum Label {
    Number(i64),
    Name(String),
}

fn of_labels(labels: &Value) -> Result<Value> {
    let (truth, predicted): (Vec<Label>, Vec<Label>) =
        (parse(&labels["truth"])?, parse(&labels["predicted"])?);
    let found = Classification::new(&truth, &predicted)?;
    let classes = 0..found.classes.len();
    let count = |of, taken_for| found.confusion.get(&(of, taken_for)).copied().unwrap_or_default();
    let row = |of| classes.clone().map(|taken_for| count(of, taken_for)).collect::<Vec<u64>>();
    let list = |of: fn(&Figures) -> f64| -> Vec<f64> {
        found.per_class.iter().map(|class| of(&class.figures)).collect()
    };
    Ok(json!({
        "classes": found.classes,
        "accuracy": found.accuracy,
        "balanced_accuracy": found.balanced_accuracy,
        "confusion": classes.clone().map(row).collect::<Vec<_>>(),
        "mcc": found.mcc,
        "micro": found.micro,
        "macro": found.macro_average,
        "weighted": found.weighted,
        "per_class": {
            "precision": list(|figures| figures.precision),
            "recall": list(|figures| figures.recall),
            "f1": list(|figures| figures.f1),
            "support": found.per_class.iter().map(|class| class.support).collect::<Vec<_>>(),
        },
    }))
}

fn of_choices(list: &Value) -> Result<Value> {
    let questions: Vec<Question> = parse(list)?;
    let (mut mean, mut stderr) = (Map::new(), Map::new());
    for (name, normalization) in Normalization::NAMED {
        let summary = choice::accuracy(&questions, normalization)?;
        mean.insert(name.to_owned(), json!(summary.mean));
        stderr.insert(name.to_owned(), json!(summary.stderr));
    }
    let of_question = |question: &Question| -> Result<Value> {
        let mut found = Map::new();
        let mut picked = Map::new();
        for (name, normalization) in Normalization::NAMED {
            picked.insert(name.to_owned(), json!(question.pick(normalization)?));
            found.insert(name.to_owned(), json!(f64::from(question.is_right(normalization)?)));
        }
        found.insert("picked".to_owned(), Value::Object(picked));
        Ok(Value::Object(found))
    };
    let questions = questions.iter().map(of_question).collect::<Result<Vec<_>>>()?;
    Ok(json!({ "mean": mean, "stderr": stderr, "questions": questions }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_chrf_are_known_by_name() {
        let config = chrf_config("chrf++-beta1-n4-eps").unwrap();
        assert_eq!((config.word_order, config.beta, config.char_order), (2, 1.0, 4));
        assert!(config.eps_smoothing);
        assert!(chrf_config("chrf-other").is_err());
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        let error = evaluate(Path::new("/nowhere"), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().starts_with("cannot use `/nowhere/texts.json`"), "{error}");
    }
}
