//! The steps of a pipeline. In its file each is a `[[step]]` with a `kind` and the settings of that kind.

use super::{
    clean::{CleanConfig, language::LanguageConfig},
    duplicates::{
        contamination::ContaminationConfig, exact::ExactConfig, minhash::MinHashConfig,
        semantic::SemanticConfig,
    },
    filters::{pii::PiiConfig, sample::Selection, words::WordListConfig},
    rules::Profile,
};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// A step, which is applied to every document that the steps before it kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Step {
    Clean(CleanConfig),
    Language(LanguageConfig),
    Filter(Profile),
    Expression(ExpressionConfig),
    ExactDuplicates(ExactConfig),
    FuzzyDuplicates(MinHashConfig),
    SemanticDuplicates(SemanticConfig),
    Decontaminate(ContaminationConfig),
    Quality(QualityConfig),
    Perplexity(PerplexityConfig),
    Gibberish(GibberishConfig),
    WordList(WordListConfig),
    Pii(PiiConfig),
}

/// Settings of a condition over a document's statistics, in SQL: `words >= 20 AND mean_word_length < 12`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExpressionConfig {
    /// Condition of the documents that are kept.
    pub keep: String,
}

/// Settings of a filter by a quality classifier from `kiln data train-filter`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QualityConfig {
    pub model: PathBuf,
    pub select: Selection,
}

/// Settings of a filter by perplexity under a Kiln checkpoint or under n-grams of characters from
/// `kiln data train-filter`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PerplexityConfig {
    pub model: PathBuf,
    /// Minimum perplexity of a kept document, per token (checkpoint) or per character (n-grams).
    pub min: f64,
    /// Maximum perplexity of a kept document.
    pub max: f64,
}

impl Default for PerplexityConfig {
    fn default() -> Self {
        Self { model: PathBuf::new(), min: 0.0, max: f64::INFINITY }
    }
}

/// Settings of a filter by n-grams of characters, which drops text that is no language.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GibberishConfig {
    /// A model from `kiln data train-filter --ngrams`; if empty, a model of English made from the embedded
    /// corpus.
    pub model: PathBuf,
    /// Maximum bits per character of a kept document.
    pub max_bits: f64,
}

impl Default for GibberishConfig {
    fn default() -> Self {
        Self { model: PathBuf::new(), max_bits: super::filters::ngram::NgramFilter::default().max_bits }
    }
}

/// Names of all kinds of step, for messages.
pub const KINDS: [&str; 13] = [
    "clean",
    "language",
    "filter",
    "expression",
    "exact-duplicates",
    "fuzzy-duplicates",
    "semantic-duplicates",
    "decontaminate",
    "quality",
    "perplexity",
    "gibberish",
    "word-list",
    "pii",
];

impl Step {
    /// Builds a step from its table; `origin` is its place in the file, for error messages.
    pub(super) fn from_table(mut table: Table, origin: &str) -> Result<Self> {
        let kind = match table.remove("kind") {
            Some(Value::String(kind)) => kind,
            _ => return Err(syntax(origin, format!("needs a `kind`: {}", KINDS.join(", ")))),
        };
        Ok(match kind.as_str() {
            "clean" => Self::Clean(read(table, origin)?),
            "language" => Self::Language(read(table, origin)?),
            "filter" => Self::Filter(read(table, origin)?),
            "expression" => Self::Expression(read(table, origin)?),
            "exact-duplicates" => Self::ExactDuplicates(read(table, origin)?),
            "fuzzy-duplicates" => Self::FuzzyDuplicates(read(table, origin)?),
            "semantic-duplicates" => Self::SemanticDuplicates(read(table, origin)?),
            "decontaminate" => Self::Decontaminate(read(table, origin)?),
            "quality" => Self::Quality(read(table, origin)?),
            "perplexity" => Self::Perplexity(read(table, origin)?),
            "gibberish" => Self::Gibberish(read(table, origin)?),
            "word-list" => Self::WordList(read(table, origin)?),
            "pii" => Self::Pii(read(table, origin)?),
            _ => {
                let nearest = KINDS
                    .iter()
                    .max_by(|a, b| strsim::jaro_winkler(a, &kind).total_cmp(&strsim::jaro_winkler(b, &kind)));
                let hint = nearest.map_or_else(String::new, |nearest| format!("; did you mean `{nearest}`?"));
                return Err(syntax(origin, format!("unknown kind `{kind}`{hint}")));
            }
        })
    }

    /// Reads a step from the JSON that plans carry.
    pub(super) fn from_json(json: &str) -> Result<Self> {
        serde_json::from_str(json).map_err(|error| syntax("a plan", error.to_string()))
    }

    /// Name of the step's stage, in folders and tables: the profile of a filter, otherwise the kind.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Clean(_) => "clean",
            Self::Language(_) => "language",
            Self::Filter(profile) => profile.name(),
            Self::Expression(_) => "expression",
            Self::ExactDuplicates(_) => "exact-duplicates",
            Self::FuzzyDuplicates(_) => "fuzzy-duplicates",
            Self::SemanticDuplicates(_) => "semantic-duplicates",
            Self::Decontaminate(_) => "decontaminate",
            Self::Quality(_) => "quality",
            Self::Perplexity(_) => "perplexity",
            Self::Gibberish(_) => "gibberish",
            Self::WordList(_) => "word-list",
            Self::Pii(_) => "pii",
        }
    }

    /// Files that the step reads besides the documents; their contents count as part of its settings.
    pub(super) fn files(&self) -> Vec<&Path> {
        let path = match self {
            Self::Quality(config) => &config.model,
            Self::Perplexity(config) => &config.model,
            Self::Gibberish(config) => &config.model,
            Self::SemanticDuplicates(config) => &config.model,
            Self::WordList(config) => &config.file,
            Self::Decontaminate(config) => return config.against.iter().map(PathBuf::as_path).collect(),
            _ => return Vec::new(),
        };
        if path.as_os_str().is_empty() { Vec::new() } else { vec![path] }
    }

    /// Makes relative paths relative to `folder`, that of the pipeline file.
    pub(super) fn resolve(&mut self, folder: &Path) {
        let join = |path: &mut PathBuf| {
            if !path.as_os_str().is_empty() {
                *path = folder.join(&path);
            }
        };
        match self {
            Self::Quality(config) => join(&mut config.model),
            Self::Perplexity(config) => join(&mut config.model),
            Self::Gibberish(config) => join(&mut config.model),
            Self::SemanticDuplicates(config) => join(&mut config.model),
            Self::WordList(config) => join(&mut config.file),
            Self::Decontaminate(config) => config.against.iter_mut().for_each(join),
            _ => {}
        }
    }
}

fn read<T: DeserializeOwned>(table: Table, origin: &str) -> Result<T> {
    table.try_into().map_err(|error: toml::de::Error| syntax(origin, error.message().replace('\n', ", ")))
}

pub(super) fn syntax(origin: &str, message: String) -> Error {
    Error::ConfigSyntax { origin: origin.into(), message }
}
