//! Jinja templates as lm-evaluation-harness renders them: nothing is escaped, a last line break stays, a
//! field that is not there is an error, and the methods of Python's strings and lists work.

use crate::{
    data::Row,
    error::{Error, Origin, Result},
    python_regex::Pattern,
    value::{Map, Value},
};
use minijinja::{
    AutoEscape, Environment, ErrorKind, State, UndefinedBehavior, Value as Jinja,
    syntax::SyntaxConfig,
    value::{ValueKind, from_args},
};
use std::sync::Arc;

/// Name of the one template in its environment.
const NAME: &str = "template";

/// A compiled template, and the key that it belongs to.
#[derive(Debug, Clone)]
pub struct Template {
    environment: Arc<Environment<'static>>,
    origin: Origin,
}

impl Template {
    /// Compiles a template.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] if it is no template.
    pub fn new(origin: &Origin, source: &str) -> Result<Self> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_syntax(
            SyntaxConfig::builder()
                .keep_trailing_newline(true)
                .build()
                .map_err(|error| origin.invalid(message(&error)))?,
        );
        environment.set_unknown_method_callback(method);
        environment.add_filter("regex_replace", regex_replace);
        environment.set_formatter(|output, state, value| {
            if value.kind() != ValueKind::Number || value.is_integer() {
                return minijinja::escape_formatter(output, state, value);
            }
            let number = f64::try_from(value.clone())?;
            Ok(output.write_str(&Value::Float(number).to_text())?)
        });
        // Jinja reads all line breaks of a template as `\n`.
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        environment.add_template_owned(NAME, source).map_err(|error| {
            let line = error.line().map_or_else(String::new, |line| format!(" in its line {line}"));
            origin.invalid(format!("is no template{line}: {}", message(&error)))
        })?;
        Ok(Self { environment: Arc::new(environment), origin: origin.clone() })
    }

    /// Renders the template for a row, whose fields are its variables.
    ///
    /// # Errors
    /// [`Error::InvalidRow`].
    pub fn render(&self, row: &Row) -> Result<String> {
        let failed = |error: &minijinja::Error| self.failed(row, error);
        let template = self.environment.get_template(NAME).map_err(|error| failed(&error))?;
        template.render(to_jinja_map(&row.values)).map_err(|error| failed(&error))
    }

    fn failed(&self, row: &Row, error: &minijinja::Error) -> Error {
        let variables =
            self.environment.get_template(NAME).map(|template| template.undeclared_variables(false));
        let missing = variables.ok().and_then(|variables| {
            let is_missing = |name: &String| row.values.get(name).is_none() && !is_global(name);
            variables.into_iter().filter(is_missing).min()
        });
        match missing {
            Some(name) if error.kind() == ErrorKind::UndefinedError => {
                let fields: Vec<&str> = row.values.keys().collect();
                self.origin.fails_with(
                    &row.origin,
                    format!("there is no field `{name}`"),
                    format!("fields: {}", fields.join(", ")),
                )
            }
            _ => self.origin.fails_for(&row.origin, message(error)),
        }
    }
}

fn is_global(name: &str) -> bool {
    matches!(name, "range" | "dict" | "namespace" | "debug")
}

/// The reason of an error, without the template's name.
fn message(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

fn to_jinja(value: &Value) -> Jinja {
    match value {
        Value::Null => Jinja::from(()),
        Value::Bool(value) => Jinja::from(*value),
        Value::Int(number) => Jinja::from(*number),
        Value::Float(number) => Jinja::from(*number),
        Value::Text(text) => Jinja::from(text.as_str()),
        Value::List(values) => values.iter().map(to_jinja).collect(),
        Value::Map(map) => to_jinja_map(map),
    }
}

fn to_jinja_map(map: &Map) -> Jinja {
    Jinja::from_pairs(map.iter().map(|(key, value)| (key, to_jinja(value))))
}

fn invalid(message: impl Into<String>) -> minijinja::Error {
    minijinja::Error::new(ErrorKind::InvalidOperation, message.into())
}

/// Filter that replaces the matches of a pattern, as Python's `re.sub`.
fn regex_replace(
    text: &str,
    pattern: &str,
    with: &str,
    count: Option<usize>,
) -> Result<String, minijinja::Error> {
    let pattern = Pattern::new(pattern).map_err(invalid)?;
    pattern.replace(text, with, count.unwrap_or(0)).map_err(invalid)
}

/// Methods of Python that the template engine does not have itself.
fn method(
    state: &mut State,
    value: &Jinja,
    name: &str,
    arguments: &[Jinja],
) -> Result<Jinja, minijinja::Error> {
    if name == "index" {
        let (wanted,): (&Jinja,) = from_args(arguments)?;
        if let (Some(text), Some(part)) = (value.as_str(), wanted.as_str()) {
            let at = text.find(part).ok_or_else(|| invalid(format!("`{part}` is not in `{text}`")))?;
            return Ok(Jinja::from(text[..at].chars().count()));
        }
        let at = value.try_iter()?.position(|item| item == *wanted);
        return at
            .map(Jinja::from)
            .ok_or_else(|| invalid(format!("`{wanted}` is not in the list `{value}`")));
    }
    if let Some(missing) = arguments.iter().find(|argument| argument.is_undefined() || argument.is_none()) {
        let kind = if missing.is_none() { "None" } else { "a value that is not there" };
        return Err(invalid(format!("the method `{name}` is called with {kind}")));
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, arguments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::RowOrigin;
    use std::path::Path;

    fn rendered(source: &str) -> String {
        let origin = Origin { path: Path::new("a.yaml").into(), line: 3, key: "doc_to_text".into() };
        let values = serde_json::from_str(
            r#"{"q": " a <b> ", "n": 2, "x": 1e16, "no": null, "l": ["p", "it's"], "m": {"k": ["c"]}, "Ñ": true}"#,
        );
        let Ok(Value::Map(values)) = values else { panic!("not a map") };
        let row = Row { values, origin: RowOrigin { path: Path::new("a.jsonl").into(), row: 7 } };
        let rendered = Template::new(&origin, source).and_then(|template| template.render(&row));
        rendered.unwrap_or_else(|error| match error.hint() {
            Some(hint) => format!("{error}; {hint}"),
            None => error.to_string(),
        })
    }

    /// The texts are those of Jinja2 with the settings of lm-evaluation-harness.
    #[test]
    fn templates_render_as_in_jinja() {
        for (source, expected) in [
            ("{{q.strip()}}\n", "a <b>\n"),
            ("{{l}} {{m}} {{no}} {{Ñ}} {{x}} {{n / 4}}", "['p', \"it's\"] {'k': ['c']} None True 1e+16 0.5"),
            ("{{l.index('it\\'s')}}{{'abc'.index('c')}}", "12"),
            ("{{q|trim|upper|regex_replace('<(.)>', '\\\\1')}}", "A B"),
            ("{% set y = n + 1 %}{{y}}{{l[-1][:2]}}{{', '.join(l)}}", "3itp, it's"),
            ("{{l|join(';')}}{% for c in l %}{{loop.index}}{% endfor %}", "p;it's12"),
            ("{{'yes' if z is defined else 'no'}}{{m.k[0]}}", "noc"),
            ("{{[1, 2]|length}}{{'7'|int - 1}}{{'a b'.split(' ')[-1]}}", "26b"),
        ] {
            assert_eq!(rendered(source), expected, "{source}");
        }
    }

    #[test]
    fn errors_name_the_key_and_the_row() {
        for (source, expected) in [
            ("{{z}}", "there is no field `z`; fields: q, n, x, no, l, m, Ñ"),
            ("{{m.z}}", "undefined value"),
            (
                "{{', '.join(m.z)}}",
                "invalid operation: the method `join` is called with a value that is not there",
            ),
            ("{{l.index('z')}}", "invalid operation: `z` is not in the list `['p', \"it's\"]`"),
        ] {
            let expected = format!("`a.yaml` line 3: `doc_to_text` fails for row 7 of `a.jsonl`: {expected}");
            assert!(rendered(source).starts_with(&expected), "{}", rendered(source));
        }
        assert!(
            rendered("a\n{% if %}")
                .starts_with("`a.yaml` line 3: `doc_to_text` is no template in its line 2: ")
        );
    }
}
