//! Builds the requests of each row as lm-evaluation-harness does: description, few-shot examples, the row
//! itself, and what is asked about it.

use crate::{
    data::Row,
    error::{Error, Result},
    fewshot::Sampler,
    model::{GenerationRequest, LikelihoodRequest},
    prompt::Prompt,
    task::{OutputType, Task},
    text::is_space,
    value::Value,
};

/// An evaluated row with what is asked about it.
#[derive(Debug, Clone)]
pub struct Example<'a> {
    pub row: &'a Row,
    /// Target as the task file makes it.
    pub target: Value,
    pub expected: Expected,
    pub requests: Requests,
}

/// Answers that are right for a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    /// The choices, and the indices of those that are right. `is_list` says whether the target is a list.
    Choices { choices: Vec<String>, right: Vec<usize>, is_list: bool },
    /// The texts that are right.
    Texts { right: Vec<String>, is_list: bool },
    /// The target itself, whose likelihood is measured.
    Likelihood,
}

/// Requests of one row.
#[derive(Debug, Clone, PartialEq)]
pub enum Requests {
    /// One for each choice, or one for the target.
    Likelihoods(Vec<LikelihoodRequest>),
    /// A whole text.
    Rolling(String),
    Generation(GenerationRequest),
}

/// Builds the examples of a task, one after the other.
pub struct Builder<'a> {
    pub task: &'a Task,
    /// Fields of the evaluated rows.
    pub columns: Vec<String>,
    pub sampler: Option<Sampler<'a>>,
    pub num_fewshot: usize,
    /// Whether the evaluated row must not be among its examples.
    pub excludes_row: bool,
    /// Whether the choices are contexts and the target is what follows them. The first row decides.
    pub has_several_contexts: bool,
    /// Whether the target is a list of right ones. The first row decides.
    pub has_several_targets: bool,
}

impl<'a> Builder<'a> {
    /// Builds the examples of rows.
    ///
    /// # Errors
    /// [`Error::InvalidRow`] for a row that the task cannot be applied to, and [`Error::InvalidKey`] if there
    /// are too few examples.
    pub fn build(mut self, rows: &'a [Row]) -> Result<Vec<Example<'a>>> {
        if let Some(first) = rows.first() {
            let prompt = &self.task.prompt;
            let text = prompt.text.text_or_index(first, &self.columns, prompt.choices.is_some())?;
            self.has_several_contexts = prompt.choices.is_some() && matches!(text, Value::Int(_));
            let target = prompt.target.target(first, &self.columns, prompt.choices.is_some())?;
            self.has_several_targets = matches!(target, Value::List(_));
        }
        rows.iter().map(|row| self.example(row)).collect()
    }

    fn example(&mut self, row: &'a Row) -> Result<Example<'a>> {
        let (task, prompt) = (self.task, &self.task.prompt);
        let has_choices = prompt.choices.is_some();
        let mut context = match &task.description {
            Some(description) => description.text(row, &self.columns)?,
            None => String::new(),
        };
        if let Some(sampler) = &mut self.sampler {
            for example in sampler.sample(self.num_fewshot, Some(row).filter(|_| self.excludes_row))? {
                context += &self.fewshot_text(example)?;
            }
        }
        let text = prompt.text.text_or_index(row, &self.columns, has_choices)?;
        let target = prompt.target.target(row, &self.columns, has_choices)?;
        let choices = match &prompt.choices {
            Some(choices) => choices.choice_list(row, &self.columns)?,
            None => Vec::new(),
        };
        let prefix = prompt.prefix(row, &self.columns)?;
        let expected = self.expected(row, &text, &target, &choices)?;
        let requests = if self.has_several_contexts {
            let Value::Text(target) = &target else { return Err(self.not_text(row, &target)) };
            let continuation = format!("{}{target}", prompt.target_delimiter);
            let request = |choice: &String| LikelihoodRequest {
                context: context.clone() + &turn(choice, prefix.as_deref(), None, "", ""),
                continuation: continuation.clone(),
            };
            Requests::Likelihoods(choices.iter().map(request).collect())
        } else {
            let Value::Text(text) = text else {
                let message = "the text is a number, but that of the first row is not";
                return Err(prompt.text.origin.fails_for(&row.origin, message));
            };
            context += &turn(&text, prefix.as_deref(), None, &prompt.target_delimiter, "");
            self.requests(row, context, &target, &choices)?
        };
        Ok(Example { row, target, expected, requests })
    }

    /// Requests that the model gets after a context.
    fn requests(&self, row: &Row, context: String, target: &Value, choices: &[String]) -> Result<Requests> {
        let task = self.task;
        if task.output_type == OutputType::GenerateUntil {
            return Ok(Requests::Generation(GenerationRequest {
                context,
                generation: task.generation.clone(),
            }));
        }
        if task.output_type == OutputType::MultipleChoice {
            let request = |choice| LikelihoodRequest {
                context: context.clone(),
                continuation: format!("{}{choice}", task.prompt.target_delimiter),
            };
            let requests: Vec<_> = choices.iter().map(request).collect();
            if requests.iter().any(|request| request.continuation.is_empty()) {
                let origin = task.origin_of("doc_to_choice");
                return Err(origin.fails_for(&row.origin, "a choice is empty"));
            }
            return Ok(Requests::Likelihoods(requests));
        }
        let Value::Text(text) = target else { return Err(self.not_text(row, target)) };
        if task.output_type == OutputType::LogLikelihoodRolling {
            return Ok(Requests::Rolling(text.clone()));
        }
        if text.is_empty() {
            return Err(task.prompt.target.origin.fails_for(&row.origin, "the target is empty"));
        }
        Ok(Requests::Likelihoods(vec![LikelihoodRequest { context, continuation: text.clone() }]))
    }

    /// Answers that are right for a row.
    fn expected(&self, row: &Row, text: &Value, target: &Value, choices: &[String]) -> Result<Expected> {
        let origin = &self.task.prompt.target.origin;
        let is_list = self.has_several_targets && !self.has_several_contexts;
        if self.task.output_type == OutputType::MultipleChoice {
            let right = match (if self.has_several_contexts { text } else { target }, is_list) {
                (Value::List(values), true) => {
                    values.iter().map(|value| self.index(row, value, choices)).collect::<Result<Vec<_>>>()?
                }
                (value, false) => vec![self.index(row, value, choices)?],
                (value, true) => {
                    let message =
                        format!("the target is {}, but that of the first row is a list", value.kind());
                    return Err(origin.fails_for(&row.origin, message));
                }
            };
            if right.is_empty() {
                return Err(origin.fails_for(&row.origin, "the list of targets is empty"));
            }
            return Ok(Expected::Choices { choices: choices.to_vec(), right, is_list });
        }
        if self.task.output_type != OutputType::GenerateUntil {
            return Ok(Expected::Likelihood);
        }
        let right = match target {
            _ if !choices.is_empty() => vec![choices[self.index(row, target, choices)?].clone()],
            Value::List(values) if is_list => values.iter().map(Value::to_text).collect(),
            Value::Null => return Err(origin.fails_for(&row.origin, "there is no target")),
            value => vec![value.to_text()],
        };
        if right.is_empty() {
            return Err(origin.fails_for(&row.origin, "the list of targets is empty"));
        }
        Ok(Expected::Texts { right, is_list: is_list && choices.is_empty() })
    }

    /// Index of the choice that a value names by its number or its text.
    fn index(&self, row: &Row, value: &Value, choices: &[String]) -> Result<usize> {
        let origin = if self.has_several_contexts {
            &self.task.prompt.text.origin
        } else {
            &self.task.prompt.target.origin
        };
        let number = match value {
            Value::Int(number) => *number,
            Value::Bool(value) => i64::from(*value),
            Value::Text(text) => {
                let index = choices.iter().position(|choice| choice == text);
                let choices: Vec<String> = choices.iter().map(|choice| format!("`{choice}`")).collect();
                return index.ok_or_else(|| {
                    let message = format!("`{text}` is none of the choices {}", choices.join(", "));
                    origin.fails_for(&row.origin, message)
                });
            }
            other => {
                let message = format!("{} is neither the index nor the text of a choice", other.kind());
                return Err(origin.fails_for(&row.origin, message));
            }
        };
        usize::try_from(number).ok().filter(|index| *index < choices.len()).ok_or_else(|| {
            let message =
                format!("there is no choice `{number}`: there are {}, counted from 0", choices.len());
            origin.fails_for(&row.origin, message)
        })
    }

    /// Text of an example, with its target.
    fn fewshot_text(&self, row: &Row) -> Result<String> {
        let (prompt, has_choices) = (&self.task.fewshot.prompt, self.task.prompt.choices.is_some());
        let text = prompt.text.text_or_index(row, &self.columns, has_choices)?;
        let choices = match &prompt.choices {
            Some(choices) => choices.choice_list(row, &self.columns)?,
            None => Vec::new(),
        };
        let target = prompt.target.target(row, &self.columns, has_choices)?;
        let text = match text {
            Value::Text(text) if !self.has_several_contexts => text,
            value => choices[self.index(row, &value, &choices)?].clone(),
        };
        let first =
            if let Value::List(values) = &target { values.first().unwrap_or(&Value::Null) } else { &target };
        let answer = match first {
            Value::Null => None,
            Value::Text(text) => Some(text.clone()).filter(|text| !text.is_empty()),
            Value::Int(_) | Value::Bool(_) if !choices.is_empty() && !self.has_several_contexts => {
                Some(choices[self.index(row, first, &choices)?].clone())
            }
            other => return Err(self.not_text(row, other)),
        };
        let prefix = prompt.prefix(row, &self.columns)?;
        Ok(turn(
            &text,
            prefix.as_deref(),
            answer.as_deref(),
            &prompt.target_delimiter,
            &prompt.fewshot_delimiter,
        ))
    }

    fn not_text(&self, row: &Row, value: &Value) -> Error {
        self.task.prompt.target.origin.fails_with(
            &row.origin,
            format!("the target is not text but {}", value.kind()),
            "make it text with a template, such as `\"{{answer}}\"`",
        )
    }
}

impl Prompt {
    /// Text that the output for a row begins with.
    fn prefix(&self, row: &Row, columns: &[String]) -> Result<Option<String>> {
        let prefix = self.gen_prefix.as_ref().map(|prefix| prefix.text(row, columns)).transpose()?;
        Ok(prefix.filter(|prefix| !prefix.is_empty()))
    }
}

/// Text of a row, with its answer if it is an example.
fn turn(text: &str, prefix: Option<&str>, answer: Option<&str>, delimiter: &str, end: &str) -> String {
    let touches_space = |a: &str, b: &str| a.ends_with(is_space) || b.starts_with(is_space);
    let needs_delimiter = match prefix {
        Some(prefix) => !text.is_empty() && !touches_space(text, prefix),
        None => answer.is_some(),
    };
    let delimiter = if needs_delimiter { delimiter } else { "" };
    match (prefix, answer) {
        (None, None) => text.into(),
        (Some(prefix), None) => format!("{text}{delimiter}{prefix}"),
        (None, Some(answer)) => format!("{text}{delimiter}{answer}{end}"),
        (Some(prefix), Some(answer)) => {
            let space = if touches_space(prefix, answer) { "" } else { " " };
            format!("{text}{delimiter}{prefix}{space}{answer}{end}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters_stand_where_no_space_is() {
        assert_eq!(turn("Q", None, Some("A"), " ", "\n"), "Q A\n");
        assert_eq!(turn("Q\n", None, Some("A"), " ", "\n"), "Q\n A\n");
        assert_eq!(turn("Q", Some("So"), Some("A"), "_", "\n"), "Q_So A\n");
        assert_eq!(turn("Q ", Some("So "), Some("A"), "_", "\n"), "Q So A\n");
        assert_eq!(
            (turn("Q", Some("So"), None, "_", ""), turn("Q", None, None, "_", "")),
            ("Q_So".into(), "Q".into())
        );
    }
}
