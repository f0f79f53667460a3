//! Makes the text, the target and the choices of a row, as the keys `doc_to_text`, `doc_to_target` and
//! `doc_to_choice` of a task say.

use crate::{
    data::Row,
    entries::Entry,
    error::{Origin, Result},
    python_literal,
    template::Template,
    value::Value,
    yaml::Kind,
};

/// A text or another value that is made from each row.
#[derive(Debug, Clone)]
pub struct Source {
    pub origin: Origin,
    kind: SourceKind,
}

#[derive(Debug, Clone)]
enum SourceKind {
    /// Text that is the same for each row.
    Constant(Value),
    /// The field with this name or, if there is no such field, the rendered template.
    Text(String, Template),
}

/// Sources of the parts of a prompt.
#[derive(Debug, Clone)]
pub struct Prompt {
    pub text: Source,
    pub target: Source,
    pub choices: Option<Source>,
    /// Text that the output begins with.
    pub gen_prefix: Option<Source>,
    /// Text between the text and the target.
    pub target_delimiter: String,
    /// Text after each example.
    pub fewshot_delimiter: String,
}

impl Source {
    /// Reads text, a whole number or a list.
    ///
    /// # Errors
    /// [`Error::InvalidKey`](crate::error::Error::InvalidKey) for another type, or if a text is no template.
    pub fn new(entry: &Entry) -> Result<Self> {
        let kind = match &entry.node.kind {
            Kind::Scalar(Value::Int(number)) => SourceKind::Constant(Value::Int(*number)),
            Kind::List(_) => SourceKind::Constant(entry.node.to_value()),
            _ => {
                let text = entry.text()?;
                let template = Template::new(&entry.origin, &text)?;
                SourceKind::Text(text, template)
            }
        };
        Ok(Self { origin: entry.origin.clone(), kind })
    }

    /// The empty text.
    ///
    /// # Errors
    /// The error of [`Template::new`].
    pub fn empty(origin: &Origin) -> Result<Self> {
        let kind = SourceKind::Text(String::new(), Template::new(origin, "")?);
        Ok(Self { origin: origin.clone(), kind })
    }

    /// Reads choices: text, a list of texts, or a map, of which the values count.
    ///
    /// # Errors
    /// [`Error::InvalidKey`](crate::error::Error::InvalidKey) for another type.
    pub fn choices(entry: &Entry) -> Result<Self> {
        let values = if entry.is_map() {
            entry.map()?.iter().map(Entry::text).collect::<Result<Vec<_>>>()?
        } else if matches!(entry.node.kind, Kind::List(_)) {
            entry.list()?.iter().map(Entry::text).collect::<Result<Vec<_>>>()?
        } else {
            return Self::new(entry);
        };
        Ok(Self { origin: entry.origin.clone(), kind: SourceKind::Constant(values.into()) })
    }

    /// The text itself, if it is neither a field nor has a tag of a template: each row gets the same.
    pub fn constant_text(&self, columns: &[String]) -> Option<&str> {
        match &self.kind {
            SourceKind::Text(text, _) if !columns.contains(text) && !text.contains(['{', '}']) => Some(text),
            _ => None,
        }
    }

    /// The field of a row, or the rendered template. `columns` are the fields of the evaluated rows.
    fn value(&self, row: &Row, columns: &[String]) -> Result<Made> {
        match &self.kind {
            SourceKind::Constant(value) => Ok(Made::Field(value.clone())),
            SourceKind::Text(name, _) if columns.contains(name) => match row.values.get(name) {
                Some(value) => Ok(Made::Field(value.clone())),
                None => Err(self.origin.fails_for(&row.origin, format!("there is no field `{name}`"))),
            },
            SourceKind::Text(_, template) => Ok(Made::Rendered(template.render(row)?)),
        }
    }

    /// Text for a row.
    ///
    /// # Errors
    /// [`Error::InvalidRow`](crate::error::Error::InvalidRow), as of each function below.
    pub fn text(&self, row: &Row, columns: &[String]) -> Result<String> {
        match self.value(row, columns)? {
            Made::Rendered(text) | Made::Field(Value::Text(text)) => Ok(text),
            Made::Field(value) => Err(self.not_text(row, &value)),
        }
    }

    /// Text for a row or, in a task with choices, the index of one: then a text of digits is a number.
    pub fn text_or_index(&self, row: &Row, columns: &[String], has_choices: bool) -> Result<Value> {
        match self.value(row, columns)? {
            Made::Rendered(text) => {
                Ok(index(&text).filter(|_| has_choices).map_or(Value::Text(text), Value::Int))
            }
            Made::Field(value @ (Value::Text(_) | Value::Int(_))) => Ok(value),
            Made::Field(value) => Err(self.not_text(row, &value)),
        }
    }

    /// Target for a row: a field as it is; of a template its text, the index of a choice, or a list if it
    /// prints one.
    pub fn target(&self, row: &Row, columns: &[String], has_choices: bool) -> Result<Value> {
        let text = match self.value(row, columns)? {
            Made::Field(value) => return Ok(value),
            Made::Rendered(text) => text,
        };
        if let Some(index) = index(&text).filter(|_| has_choices) {
            return Ok(Value::Int(index));
        }
        let is_list = text.len() >= 2 && text.starts_with('[') && text.ends_with(']');
        let list = if is_list { python_literal::parse(&text).ok() } else { None };
        Ok(list.unwrap_or(Value::Text(text)))
    }

    /// At least two choices for a row.
    pub fn choice_list(&self, row: &Row, columns: &[String]) -> Result<Vec<String>> {
        let fails = |message: String| Err(self.origin.fails_for(&row.origin, message));
        let value = match self.value(row, columns)? {
            Made::Field(value) => value,
            Made::Rendered(text) => match python_literal::parse(&text) {
                Ok(value) => value,
                Err(message) => {
                    return Err(self.origin.fails_with(
                        &row.origin,
                        format!("`{text}` is no list: {message}"),
                        "print a list of texts, as `{{[first, second]}}` does",
                    ));
                }
            },
        };
        let Value::List(values) = value else {
            return fails(format!("the choices are not a list but {}", value.kind()));
        };
        if values.len() < 2 {
            return fails(format!("there must be at least two choices, not {}", values.len()));
        }
        let mut choices = Vec::with_capacity(values.len());
        for (number, value) in (1..).zip(values) {
            match value {
                Value::Text(text) if text.is_empty() => return fails(format!("choice {number} is empty")),
                Value::Text(text) => choices.push(text),
                other => return fails(format!("choice {number} is not text but {}", other.kind())),
            }
        }
        Ok(choices)
    }

    fn not_text(&self, row: &Row, value: &Value) -> crate::error::Error {
        let name = if let SourceKind::Text(name, _) = &self.kind { name } else { "field" };
        let message = format!("the value is not text but {}", value.kind());
        self.origin.fails_with(&row.origin, message, format!("make it text with `{{{{{name}}}}}`"))
    }
}

/// A value that a [`Source`] has made.
enum Made {
    /// A field or a constant.
    Field(Value),
    Rendered(String),
}

/// The number that a text of digits is.
fn index(text: &str) -> Option<i64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}
