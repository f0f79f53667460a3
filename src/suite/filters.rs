//! Filters of generated texts (`filter_list`): each pipeline takes the outputs of a request and leaves what
//! the metrics compare with the target.

use crate::{
    entries::{Entries, Entry, Unsupported},
    error::{Origin, Result},
    python_regex::Pattern,
    value::Value,
};
use std::collections::HashMap;

/// Filters that are applied one after the other, under a name.
#[derive(Debug, Clone)]
pub struct Pipeline {
    pub name: String,
    pub steps: Vec<Step>,
}

/// A filter, and the key that it comes from.
#[derive(Debug, Clone)]
pub struct Step {
    pub origin: Origin,
    pub filter: Filter,
}

/// A filter of outputs.
#[derive(Debug, Clone)]
pub enum Filter {
    /// The match of a pattern: of several matches the one with this number (from the end if negative), of
    /// several groups the first that is not empty.
    Regex {
        pattern: Pattern,
        group_select: i64,
        fallback: String,
    },
    /// [`Regex`](Self::Regex) and, without a match, the choice of the field `choices` that the output
    /// mentions, as `(A)`.
    MultipleChoiceRegex(Box<MultipleChoice>),
    RemoveWhitespace,
    Lowercase,
    Uppercase,
    /// Replaces each output by that of a table. Outputs that are not in it become the default.
    Map {
        table: HashMap<String, Value>,
        default: Value,
    },
    /// The most frequent output, of equally frequent ones the first.
    MajorityVote,
    TakeFirstK(usize),
    /// The first output. It comes last in a pipeline.
    TakeFirst,
}

/// Settings of [`Filter::MultipleChoiceRegex`].
#[derive(Debug, Clone)]
pub struct MultipleChoice {
    pub pattern: Pattern,
    pub group_select: i64,
    pub fallback: String,
    pub ignore_case: bool,
    pub ignore_punctuation: bool,
    pub regexes_to_ignore: Vec<Pattern>,
}

/// Names of the filters.
const NAMES: [&str; 9] = [
    "regex",
    "multi_choice_regex",
    "remove_whitespace",
    "lowercase",
    "uppercase",
    "map",
    "majority_vote",
    "take_first_k",
    "take_first",
];

/// Filters of lm-evaluation-harness that are not supported.
const UNSUPPORTED: [Unsupported; 4] = [
    ("custom", "it runs Python code: a `regex` filter may do the same"),
    ("regex_pos", "use a `regex` filter"),
    ("format_span", "use a `regex` filter"),
    ("decontaminate", "remove the rows from the data file instead"),
];

/// Pattern of the final answer in GSM8K.
const DEFAULT_PATTERN: &str = r"#### (\-?[0-9\.\,]+)";

impl Pipeline {
    /// The pipeline of a task without `filter_list`, which takes the first output.
    pub fn take_first(origin: &Origin) -> Self {
        let origin = Origin { key: "filter_list".into(), ..origin.clone() };
        Self { name: "none".into(), steps: vec![Step { origin, filter: Filter::TakeFirst }] }
    }

    /// Reads an item of `filter_list`. Other outputs than texts can only be taken, not changed.
    ///
    /// # Errors
    /// [`Error::UnknownKey`](crate::error::Error::UnknownKey),
    /// [`Error::UnknownName`](crate::error::Error::UnknownName) and
    /// [`Error::InvalidKey`](crate::error::Error::InvalidKey).
    pub fn new(entry: &Entry, are_texts: bool) -> Result<Self> {
        let entries = entry.map()?;
        entries.check(&["name", "filter"], &[])?;
        let name = entries.text("name")?.ok_or_else(|| entry.origin.invalid("has no `name`"))?;
        let filters = entries.get("filter").ok_or_else(|| entry.origin.invalid("has no `filter`"))?;
        let mut steps: Vec<Step> = Vec::new();
        for entry in filters.list()? {
            let step = Step { filter: Filter::new(&entry)?, origin: entry.origin };
            if steps.last().is_some_and(|last| matches!(last.filter, Filter::TakeFirst)) {
                return Err(step.origin.invalid_with(
                    "has a filter after `take_first`, which leaves nothing to filter",
                    "let `take_first` come last",
                ));
            }
            if !are_texts && !matches!(step.filter, Filter::TakeFirst) {
                return Err(step.origin.invalid("has a filter of texts, but the task generates none"));
            }
            steps.push(step);
        }
        let pipeline = Self { name, steps };
        if !are_texts && !pipeline.takes_first() {
            return Err(filters.origin.invalid("must be `take_first`, since the task generates no texts"));
        }
        Ok(pipeline)
    }

    /// Whether the pipeline leaves one output of each request.
    pub fn takes_first(&self) -> bool {
        self.steps.last().is_some_and(|step| matches!(step.filter, Filter::TakeFirst))
    }
}

impl Filter {
    fn new(entry: &Entry) -> Result<Self> {
        let entries = entry.map()?;
        let name = entries.text("function")?.ok_or_else(|| entry.origin.invalid("has no `function`"))?;
        let origin = entries.get("function").map_or(&entry.origin, |function| &function.origin);
        let known = |names: &[&'static str]| entries.check(&[&["function"], names].concat(), &[]);
        let boolean = |name: &str| entries.get(name).map_or(Ok(false), Entry::boolean);
        Ok(match name.as_str() {
            "regex" => {
                known(&["regex_pattern", "group_select", "fallback"])?;
                let (pattern, group_select, fallback) = regex_settings(&entries, origin)?;
                Self::Regex { pattern, group_select, fallback }
            }
            "multi_choice_regex" => {
                known(&[
                    "regex_pattern",
                    "group_select",
                    "fallback",
                    "ignore_case",
                    "ignore_punctuation",
                    "regexes_to_ignore",
                ])?;
                let (pattern, group_select, fallback) = regex_settings(&entries, origin)?;
                Self::MultipleChoiceRegex(Box::new(MultipleChoice {
                    pattern,
                    group_select,
                    fallback,
                    ignore_case: boolean("ignore_case")?,
                    ignore_punctuation: boolean("ignore_punctuation")?,
                    regexes_to_ignore: patterns(entries.get("regexes_to_ignore"))?,
                }))
            }
            "map" => {
                known(&["mapping_dict", "default_value"])?;
                let mapping = entries.get("mapping_dict").map(Entry::map).transpose()?.unwrap_or_default();
                Self::Map {
                    table: mapping.iter().map(|entry| (entry.name.clone(), entry.node.to_value())).collect(),
                    default: entries
                        .get("default_value")
                        .map(|entry| entry.node.to_value())
                        .unwrap_or_default(),
                }
            }
            "take_first_k" => {
                known(&["k"])?;
                let k = entries.get("k").ok_or_else(|| entry.origin.invalid("has no `k`"))?;
                Self::TakeFirstK(k.count()?.max(1))
            }
            "remove_whitespace" | "lowercase" | "uppercase" | "majority_vote" | "take_first" => {
                known(&[])?;
                match name.as_str() {
                    "remove_whitespace" => Self::RemoveWhitespace,
                    "lowercase" => Self::Lowercase,
                    "uppercase" => Self::Uppercase,
                    "majority_vote" => Self::MajorityVote,
                    _ => Self::TakeFirst,
                }
            }
            _ => {
                return Err(match UNSUPPORTED.iter().find(|(own, _)| *own == name) {
                    Some((_, hint)) => origin.invalid_with(format!("`{name}` is not supported"), *hint),
                    None => origin.unknown("filter", &name, &NAMES),
                });
            }
        })
    }
}

fn regex_settings(entries: &Entries, origin: &Origin) -> Result<(Pattern, i64, String)> {
    let pattern = match entries.get("regex_pattern") {
        Some(entry) => pattern(entry)?,
        None => Pattern::new(DEFAULT_PATTERN).map_err(|message| origin.invalid(message))?,
    };
    let group_select = entries.get("group_select").map_or(Ok(0), Entry::integer)?;
    Ok((pattern, group_select, entries.text("fallback")?.unwrap_or_else(|| "[invalid]".into())))
}

/// Compiles the pattern of a key.
///
/// # Errors
/// [`Error::InvalidKey`](crate::error::Error::InvalidKey).
pub fn pattern(entry: &Entry) -> Result<Pattern> {
    let source = entry.text()?;
    Pattern::new(&source).map_err(|message| {
        entry.origin.invalid(format!("is no regular expression that can be used: {message}"))
    })
}

/// Compiles the patterns of a key, which may be absent.
///
/// # Errors
/// [`Error::InvalidKey`](crate::error::Error::InvalidKey).
pub fn patterns(entry: Option<&Entry>) -> Result<Vec<Pattern>> {
    entry.map_or_else(Vec::new, Entry::one_or_list).iter().map(pattern).collect()
}
