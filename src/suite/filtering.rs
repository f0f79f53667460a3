//! Applies filters to the outputs of a request.

use crate::{
    data::Row,
    error::{Error, Result},
    filters::{Filter, MultipleChoice, Pipeline, Step},
    python_regex::Pattern,
    text::{is_punctuation, is_space},
    value::Value,
};

impl Pipeline {
    /// Filters the outputs that a request has got, one for each repetition. If the pipeline takes the first
    /// output, the list that is left has one item. A pattern that needs too many steps for an output counts as
    /// not found, since an error would lose what the model has generated.
    ///
    /// # Errors
    /// [`Error::InvalidRow`] if the row lacks a field that a filter reads.
    pub fn apply(&self, outputs: &[String], row: &Row) -> Result<Vec<Value>> {
        let mut outputs: Vec<Value> = outputs.iter().map(|output| output.as_str().into()).collect();
        for step in &self.steps {
            outputs = step.apply(outputs, row)?;
        }
        Ok(outputs)
    }
}

impl Step {
    fn apply(&self, outputs: Vec<Value>, row: &Row) -> Result<Vec<Value>> {
        let each = |change: &dyn Fn(&str) -> String| {
            let change = |output: Value| Value::Text(change(output.as_text().unwrap_or_default()));
            outputs.clone().into_iter().map(change).collect()
        };
        Ok(match &self.filter {
            Filter::Regex { pattern, group_select, fallback } => {
                let select = |output: &Value| {
                    let found = select(pattern, output.as_text().unwrap_or_default(), *group_select);
                    let found = found.ok().flatten().and_then(Selected::text);
                    Value::Text(found.unwrap_or_else(|| fallback.clone()))
                };
                outputs.iter().map(select).collect()
            }
            Filter::MultipleChoiceRegex(settings) => {
                let mentioned = Mentioned::new(settings, &self.choices(row)?).ok();
                let select = |output: &Value| {
                    let text = output.as_text().unwrap_or_default();
                    let found = mentioned.as_ref().and_then(|mentioned| mentioned.select(text).ok());
                    Value::Text(found.flatten().unwrap_or_else(|| settings.fallback.clone()))
                };
                outputs.iter().map(select).collect()
            }
            Filter::RemoveWhitespace => each(&|text| text.trim_matches(is_space).into()),
            Filter::Lowercase => each(&str::to_lowercase),
            Filter::Uppercase => each(&str::to_uppercase),
            Filter::Map { table, default } => {
                let mapped = |output: Value| table.get(&output.to_text()).unwrap_or(default).clone();
                outputs.into_iter().map(mapped).collect()
            }
            Filter::MajorityVote => majority(outputs),
            Filter::TakeFirstK(k) => outputs.into_iter().take(*k).collect(),
            Filter::TakeFirst => outputs.into_iter().take(1).collect(),
        })
    }

    /// The texts of the field `choices`.
    ///
    /// # Errors
    /// [`Error::InvalidRow`] if the row has no such field.
    pub fn choices(&self, row: &Row) -> Result<Vec<String>> {
        let choices = match row.values.get("choices") {
            Some(Value::List(values)) => {
                values.iter().map(|value| value.as_text().map(Into::into)).collect::<Option<Vec<String>>>()
            }
            _ => None,
        };
        let missing = || -> Error {
            let message = "the filter needs a field `choices` with a list of texts";
            self.origin.fails_for(&row.origin, message)
        };
        choices.ok_or_else(missing)
    }
}

/// The most frequent output, of equally frequent ones the first.
fn majority(outputs: Vec<Value>) -> Vec<Value> {
    let count = |output: &Value| outputs.iter().filter(|other| *other == output).count();
    // `max_by_key` takes the last of several, so that they are looked through from behind.
    outputs.iter().rev().max_by_key(|output| count(output)).cloned().into_iter().collect()
}

/// Text that a pattern has selected.
enum Selected {
    Text(String),
    /// A match of several groups, all of which are empty.
    EmptyGroups,
}

impl Selected {
    fn text(self) -> Option<String> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

/// Selects the match with a number. `None` if there is no such match.
fn select(pattern: &Pattern, text: &str, number: i64) -> Result<Option<Selected>, String> {
    let found = pattern.find_all(text)?;
    let index = if number < 0 { number + found.len() as i64 } else { number };
    let groups = usize::try_from(index).ok().and_then(|index| found.into_iter().nth(index));
    Ok(groups.map(|groups| {
        let is_one = groups.len() == 1;
        let group = groups.into_iter().find(|group| is_one || !group.is_empty());
        group.map_or(Selected::EmptyGroups, |group| Selected::Text(group.trim_matches(is_space).into()))
    }))
}

/// Patterns that find the choice of a row in an output.
struct Mentioned<'a> {
    settings: &'a MultipleChoice,
    /// The texts of the choices, each with its letter.
    letters: Vec<(String, String)>,
    texts: Pattern,
    /// A letter after a colon.
    letter: Pattern,
}

impl<'a> Mentioned<'a> {
    fn new(settings: &'a MultipleChoice, choices: &[String]) -> Result<Self, String> {
        let (mut letters, mut names) = (Vec::new(), Vec::new());
        for (letter, choice) in ('A'..).zip(choices) {
            letters.push((settings.clean(choice.trim_matches(is_space))?, format!("({letter})")));
            names.push(fancy_regex::escape(&letter.to_string()).into_owned());
        }
        // A longer text comes first, because a shorter one may begin it.
        let mut texts: Vec<String> =
            letters.iter().map(|(text, _)| fancy_regex::escape(text).into_owned()).collect();
        texts.sort_by_key(|text| std::cmp::Reverse(text.chars().count()));
        let texts = Pattern::new(&texts.join("|"))?;
        let letter = Pattern::new(&format!(":[\\s]*({})", names.join("|")))?;
        Ok(Self { settings, letters, texts, letter })
    }

    fn select(&self, output: &str) -> Result<Option<String>, String> {
        let number = self.settings.group_select;
        let filled =
            |selected: Option<Selected>| selected.and_then(Selected::text).filter(|text| !text.is_empty());
        if let Some(found) = filled(select(&self.settings.pattern, output, number)?) {
            return Ok(Some(found));
        }
        if let Some(found) = filled(select(&self.texts, &self.settings.clean(output)?, number)?) {
            // Of equal choices the last counts, as in a Python dictionary.
            let letter = self.letters.iter().rev().find(|(text, _)| *text == found);
            return Ok(Some(letter.map_or(found, |(_, letter)| letter.clone())));
        }
        let found = filled(select(&self.letter, output, number)?);
        Ok(found.map(|letter| format!("({letter})")))
    }
}

impl MultipleChoice {
    /// Removes what is not compared.
    fn clean(&self, text: &str) -> Result<String, String> {
        let mut text = text.to_owned();
        for pattern in &self.regexes_to_ignore {
            text = pattern.replace(&text, "", 0)?;
        }
        if self.ignore_case {
            text = text.to_lowercase();
        }
        if self.ignore_punctuation {
            text.retain(|c| !is_punctuation(c));
        }
        Ok(text)
    }
}
