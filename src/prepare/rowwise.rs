//! Steps that process one document at a time.

use super::{
    clean::{self, language},
    duplicates::contamination::{ContaminationConfig, HeldOut},
    engine::{Engine, failed},
    expression, extract,
    filters::{
        classifier::Classifier,
        ngram::{NgramConfig, NgramCounts, NgramModel},
        words::{ENGLISH, WordList, WordListConfig},
    },
    neural::CheckpointModel,
    parts::{COLUMNS, Part},
    pool::Pool,
    rules::{Profile, Verdict},
    sources::{Extracted, Task},
    steps::{GibberishConfig, PerplexityConfig, Step},
    text::{Text, language::Family, words::Words},
    work::Folder,
};
use crate::{
    error::{Error, Result},
    platform::storage,
};
use datafusion::{
    arrow::{array::AsArray, datatypes::DataType},
    dataframe::DataFrame,
    execution::FunctionRegistry,
    functions::core::expr_fn::{coalesce, get_field},
    functions_window::expr_fn::row_number,
    logical_expr::{Expr, cast, col, lit},
};
use std::{
    fs::File,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A document as a step receives it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub id: &'a str,
    pub text: &'a str,
    /// Language of the document, empty if it is not known.
    pub language: &'a str,
}

/// Outcome of a step for a document; a document that is split has several.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Outcome {
    /// New text, if the step changed it.
    pub text: Option<String>,
    /// New language, if the step found one.
    pub language: Option<String>,
    /// Reason for dropping the document, if it is dropped.
    pub reason: Option<String>,
    /// Number or word that explains the reason, such as a score.
    pub detail: Option<String>,
}

impl Outcome {
    fn drop(reason: &str, detail: impl ToString) -> Vec<Self> {
        vec![Self { reason: Some(reason.into()), detail: Some(detail.to_string()), ..Self::default() }]
    }

    fn keep() -> Vec<Self> {
        vec![Self::default()]
    }

    fn rewrite(text: String) -> Vec<Self> {
        if text.trim().is_empty() {
            return Self::drop("empty", "nothing is left of the text");
        }
        vec![Self { text: Some(text), ..Self::default() }]
    }
}

/// A step that is ready to run, with its models loaded.
pub(super) type RowStep = Box<dyn Fn(Row<'_>) -> Result<Vec<Outcome>> + Send + Sync>;

/// Caches of the words of earlier documents.
static WORDS: Pool<Words> = Pool::new();

pub(super) fn with_words<R>(work: impl FnOnce(&Words) -> R) -> R {
    WORDS.with(work)
}

pub(super) fn clear_words() {
    WORDS.clear();
}

/// Splits a text into words and punctuation marks, as byte ranges. All steps but the rules split like this.
pub fn split_words(language: &str, text: &str) -> Vec<Range<usize>> {
    with_words(|words| {
        let tokens = words.tokens(Family::of(language, text), text);
        tokens.iter().filter(|token| !token.is_space()).map(|token| token.start..token.end()).collect()
    })
}

/// Loads everything that a step needs. Steps that compare documents with each other are in
/// [`keys`](super::keys).
pub(super) fn prepare(step: &Step) -> Result<RowStep> {
    Ok(match step.clone() {
        Step::Clean(config) => Box::new(move |row| {
            Ok(match clean::clean(row.text, &config) {
                std::borrow::Cow::Borrowed(text) if text.len() == row.text.len() => Outcome::keep(),
                text => Outcome::rewrite(text.into_owned()),
            })
        }),
        Step::Language(config) => Box::new(move |row| Ok(by_language(row, &config))),
        Step::Filter(profile) => Box::new(move |row| Ok(by_rules(row, &profile))),
        Step::Quality(config) => {
            let model = Classifier::from_bytes(&storage::read(&config.model)?, &config.model)?;
            Box::new(move |row| {
                let score = model.score(row.text, &mut |text| split_words(row.language, text));
                Ok(match config.select.keeps(score, row.id) {
                    true => Outcome::keep(),
                    false => Outcome::drop("quality", format!("{score:.4}")),
                })
            })
        }
        Step::Perplexity(config) => by_perplexity(config)?,
        Step::Gibberish(config) => {
            let model = gibberish_model(&config)?;
            Box::new(move |row| {
                Ok(match model.bits_per_character(row.text) {
                    Some(bits) if bits > config.max_bits => Outcome::drop("gibberish", format!("{bits:.3}")),
                    _ => Outcome::keep(),
                })
            })
        }
        Step::WordList(config) => {
            let list = word_list(&config)?;
            Box::new(move |row| {
                let listed = list.count(row.text, &mut |text| split_words(row.language, text));
                Ok(match list.keeps(&listed) {
                    true => Outcome::keep(),
                    false => Outcome::drop("word_list", format!("{:.4}", listed.share())),
                })
            })
        }
        Step::Pii(config) => Box::new(move |row| {
            let cleaned = config.clean(row.text);
            Ok(match cleaned.text {
                _ if cleaned.is_dropped => Outcome::drop("pii", cleaned.counts.total()),
                Some(text) => Outcome::rewrite(text),
                None => Outcome::keep(),
            })
        }),
        Step::Decontaminate(config) => {
            let held_out = held_out(&config)?;
            Box::new(move |row| {
                let overlap = held_out.overlap(row.text, &mut |text| split_words(row.language, text));
                let set = overlap.set.and_then(|set| config.against.get(set as usize));
                let set = set.map_or(String::new(), |path| format!(" with {}", path.display()));
                Ok(match overlap.is_contaminated {
                    true => {
                        let (found, all) = (overlap.found, overlap.ngrams);
                        Outcome::drop("contaminated", format!("{found} of {all} n-grams{set}"))
                    }
                    false => Outcome::keep(),
                })
            })
        }
        Step::Expression(_)
        | Step::ExactDuplicates(_)
        | Step::FuzzyDuplicates(_)
        | Step::SemanticDuplicates(_) => {
            return Err(Error::invalid_value("step", step.name(), "does not look at documents one by one"));
        }
    })
}

fn by_language(row: Row, config: &language::LanguageConfig) -> Vec<Outcome> {
    let parts = language::split(row.text, config);
    let is_one = parts.len() == 1;
    let outcomes = parts.into_iter().map(|part| {
        let code = part.language.code();
        let (reason, detail) = match config.keeps(part.language) {
            true => (None, None),
            false => (Some("language".into()), Some(code.into())),
        };
        // Text that is not cut is not copied.
        let text = (!is_one).then_some(part.text);
        Outcome { text, language: Some(code.into()), reason, detail }
    });
    let outcomes: Vec<Outcome> = outcomes.collect();
    if outcomes.is_empty() {
        Outcome::drop("language", language::Language::UNDETERMINED.code())
    } else {
        outcomes
    }
}

fn by_rules(row: Row, profile: &Profile) -> Vec<Outcome> {
    with_words(|words| match profile.check(&Text::new(row.text, row.language, words)) {
        Verdict::Keep => Outcome::keep(),
        Verdict::Rewrite(text) => Outcome::rewrite(text),
        Verdict::Drop { reason } => vec![Outcome { reason: Some(reason.into()), ..Outcome::default() }],
    })
}

fn by_perplexity(config: PerplexityConfig) -> Result<RowStep> {
    let outcome = move |perplexity: Option<f64>| match perplexity {
        Some(perplexity) if perplexity < config.min => {
            Outcome::drop("perplexity_low", format!("{perplexity:.2}"))
        }
        Some(perplexity) if perplexity > config.max => {
            Outcome::drop("perplexity_high", format!("{perplexity:.2}"))
        }
        Some(_) => Outcome::keep(),
        None => Outcome::drop("perplexity", "too short, or of characters that the model does not know"),
    };
    if storage::is_folder(&config.model) {
        let model = CheckpointModel::load(&config.model)?;
        return Ok(Box::new(move |row| Ok(outcome(model.perplexity(row.text)?))));
    }
    let model = NgramModel::from_bytes(&storage::read(&config.model)?, &config.model)?;
    Ok(Box::new(move |row| Ok(outcome(model.bits_per_character(row.text).map(f64::exp2)))))
}

fn gibberish_model(config: &GibberishConfig) -> Result<NgramModel> {
    if !config.model.as_os_str().is_empty() {
        return NgramModel::from_bytes(&storage::read(&config.model)?, &config.model);
    }
    let mut counts = NgramCounts::new(&NgramConfig::default())?;
    counts.add(crate::data::EMBEDDED);
    counts.build()
}

fn word_list(config: &WordListConfig) -> Result<WordList> {
    let mut words = |text: &str| split_words("", text);
    if config.file.as_os_str().is_empty() {
        return WordList::new(config, ENGLISH.iter().copied(), &mut words);
    }
    WordList::parse(config, &storage::read_to_string(&config.file)?, &mut words)
}

fn held_out(config: &ContaminationConfig) -> Result<HeldOut> {
    let mut held_out = HeldOut::new(config)?;
    for (path, set) in config.against.iter().zip(0..) {
        for record in read_documents(path)? {
            held_out.add(&record.text, set, &mut |text| split_words("", text));
        }
    }
    if held_out.is_empty() {
        let paths: Vec<String> = config.against.iter().map(|path| path.display().to_string()).collect();
        let message = "holds no text as long as one n-gram";
        return Err(Error::invalid_value("decontaminate.against", paths.join(", "), message));
    }
    Ok(held_out)
}

/// A step that processes one document at a time, with all that its tasks need.
#[derive(Clone)]
pub(super) struct Work {
    pub engine: Engine,
    pub folder: Folder,
    /// Parts of the stage before, with their paths.
    pub inputs: Arc<Vec<(PathBuf, Part)>>,
    pub step: Step,
}

impl Work {
    /// Runs the step on a part of the stage before and writes the part of this stage.
    pub(super) async fn part(self, index: usize) -> Result<Part> {
        let (input, before) = &self.inputs[index];
        let frame = self.plan(input).await?;
        let path = self.folder.file(&before.file);
        self.engine.write(frame, &path).await?;
        let mut part = Part::of_file(&path, before.span)?;
        if self.cuts() {
            part.span = part.counts.read().documents;
        }
        Ok(part)
    }

    /// Returns whether the step may split a document into several.
    fn cuts(&self) -> bool {
        matches!(&self.step, Step::Language(config) if config.by_paragraph)
    }

    /// Plans the step over the kept documents of a part.
    pub(super) async fn plan(&self, input: &Path) -> Result<DataFrame> {
        let documents = self.engine.documents(&[input.into()]).await?;
        let documents = documents.filter(col("reason").is_null()).map_err(failed("planning"))?;
        if let Step::Expression(config) = &self.step {
            return expression::plan(&self.engine, documents, &config.keep);
        }
        let settings = serde_json::to_string(&self.step);
        let settings = settings.map_err(|error| Error::preparation("planning", error.to_string()))?;
        let step =
            call(&self.engine, "kiln_step", vec![lit(settings), col("id"), col("text"), col("language")])?;
        let of_outcome = |name: &str| get_field(col("outcome"), name);
        let columns = COLUMNS.map(|name| match name {
            "text" | "language" => coalesce(vec![of_outcome(name), col(name)]).alias(name),
            "reason" | "detail" => of_outcome(name).alias(name),
            "row" if self.cuts() => cast(row_number() - lit(1u64), DataType::UInt32).alias(name),
            _ => col(name),
        });
        let mut before: Vec<Expr> = COLUMNS.map(col).to_vec();
        before.push(step.alias("outcome"));
        let outcomes = documents.select(before).and_then(|frame| frame.unnest_columns(&["outcome"]));
        outcomes.and_then(|frame| frame.select(columns.to_vec())).map_err(failed("planning"))
    }
}

/// Builds a call of a Kiln function by its name, by which plans on a cluster find it too.
pub(super) fn call(engine: &Engine, name: &str, arguments: Vec<Expr>) -> Result<Expr> {
    let function = engine.session().udf(name).map_err(failed("planning"))?;
    Ok(function.call(arguments))
}

/// Reads the files of a task into parts, wherever the engine runs.
pub(super) async fn extract(engine: &Engine, task: &Task) -> Result<Extracted> {
    let json =
        serde_json::to_string(task).map_err(|error| Error::preparation("planning", error.to_string()))?;
    let session = engine.session();
    let row = session.sql("SELECT 1 AS one").await.map_err(failed("planning"))?;
    let frame = row.select(vec![call(engine, "kiln_extract", vec![lit(json)])?.alias("report")]);
    let batches = frame.map_err(failed("planning"))?.collect().await.map_err(failed("reading"))?;
    let report = batches.iter().find(|batch| batch.num_rows() > 0).map(|batch| batch.column(0));
    let report =
        report.and_then(|column| column.as_string_opt::<i32>()).map(|column| column.value(0).to_owned());
    let report = report.ok_or_else(|| Error::preparation("reading", "a task gave no report".into()))?;
    serde_json::from_str(&report).map_err(|error| Error::preparation("reading", error.to_string()))
}

/// Reads all documents of a file that a step or a model needs.
///
/// # Errors
/// [`Error::Io`] if the file cannot be opened, [`Error::Preparation`] for its first bad record.
pub fn read_documents(path: &Path) -> Result<Vec<extract::Document>> {
    let file = File::open(path).map_err(|error| Error::io("read", path, error))?;
    let documents =
        extract::open(&path.to_string_lossy(), Box::new(file), &extract::ExtractConfig::default());
    documents
        .map(|record| record.map_err(|bad_record| Error::preparation("reading", bad_record.to_string())))
        .collect()
}
