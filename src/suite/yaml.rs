//! Reads YAML into a tree that knows the line of each key. Plain scalars have the types that PyYAML gives
//! them (YAML 1.1: `no` is false), because task files are written for it.

use crate::{
    error::{Error, Result},
    value::{Map, Value},
};
use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};
use std::path::Path;

/// A value of a YAML file.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Line where it begins, counted from 1.
    pub line: usize,
    pub kind: Kind,
}

/// Content of a [`Node`].
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Scalar(Value),
    List(Vec<Node>),
    /// Keys, each with its line, and their values.
    Map(Vec<(String, usize, Node)>),
    /// The name of a Python function (`!function utils.process_docs`).
    Function(String),
}

/// Deepest nesting of lists and maps, so that a hostile file cannot exhaust the stack.
const MAX_DEPTH: usize = 64;

impl Node {
    /// The value without lines. The name of a Python function becomes a text.
    pub fn to_value(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::Function(name) => Value::Text(name.clone()),
            Kind::List(nodes) => Value::List(nodes.iter().map(Self::to_value).collect()),
            Kind::Map(entries) => Value::Map(
                entries.iter().map(|(key, _, node)| (key.clone(), node.to_value())).collect::<Map>(),
            ),
        }
    }

    pub fn is_null(&self) -> bool {
        self.kind == Kind::Scalar(Value::Null)
    }
}

/// Parses the first document of a file.
///
/// # Errors
/// [`Error::InvalidYaml`] with the line.
pub fn parse(path: &Path, text: &str) -> Result<Node> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut composer = Composer { path, events: Parser::new_from_str(text) };
    loop {
        let (event, span) = composer.next()?;
        match event {
            Event::StreamEnd => return Ok(Node { line: 1, kind: Kind::Scalar(Value::Null) }),
            Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
            event => return composer.node(event, span, 0),
        }
    }
}

struct Composer<'a> {
    path: &'a Path,
    events: Parser<'a, StrInput<'a>>,
}

impl<'a> Composer<'a> {
    fn invalid(&self, line: usize, message: impl Into<String>, hint: Option<&str>) -> Error {
        let (message, hint) = (message.into(), hint.map(Into::into));
        Error::InvalidYaml { path: self.path.into(), line, message, hint }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span)> {
        match self.events.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => {
                Err(self.invalid(error.marker().line(), format!("is not YAML: {}", error.info()), None))
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    /// Reads the value that begins with an event.
    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node> {
        let line = span.start.line();
        if depth > MAX_DEPTH {
            return Err(self.invalid(line, format!("is nested more than {MAX_DEPTH} deep"), None));
        }
        let kind = match event {
            Event::Scalar(text, style, _, tag) => self.scalar(line, &text, style, tag.as_deref())?,
            Event::SequenceStart(..) => {
                let mut nodes = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break Kind::List(nodes),
                        (event, span) => nodes.push(self.node(event, span, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(..) => self.map(depth)?,
            Event::Alias(_) => {
                return Err(self.invalid(
                    line,
                    "has an alias (`*name`), which is not supported",
                    Some("write the value out, or `include:` the file that has it"),
                ));
            }
            _ => return Err(self.invalid(line, "ends before its value does", None)),
        };
        Ok(Node { line, kind })
    }

    fn map(&mut self, depth: usize) -> Result<Kind> {
        let mut entries: Vec<(String, usize, Node)> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let line = span.start.line();
            let key = match event {
                Event::MappingEnd => return Ok(Kind::Map(entries)),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(self.invalid(line, "has a key that is a list or a map", None)),
            };
            if let Some((_, first, _)) = entries.iter().find(|(own, ..)| *own == key) {
                let message = format!("has the key `{key}` twice, first in line {first}");
                return Err(self.invalid(line, message, None));
            }
            let (event, span) = self.next()?;
            let node = self.node(event, span, depth + 1)?;
            entries.push((key, line, node));
        }
    }

    fn scalar(&self, line: usize, text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Kind> {
        let is_plain = style == ScalarStyle::Plain;
        Ok(Kind::Scalar(match tag {
            None if is_plain => plain(text),
            None => text.into(),
            Some(tag) if tag.handle == "!" && tag.suffix == "function" => {
                return Ok(Kind::Function(text.trim().into()));
            }
            Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => text.into(),
            Some(tag) if tag.is_yaml_core_schema() => plain(text),
            Some(tag) => {
                let message = format!("has the tag `{}{}`, which is not supported", tag.handle, tag.suffix);
                return Err(self.invalid(line, message, None));
            }
        }))
    }
}

/// Types a plain scalar as PyYAML does. Dates and numbers in base 60 stay text.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Value::Bool(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        _ => {}
    }
    integer(text).map(Value::Int).or_else(|| float(text).map(Value::Float)).unwrap_or_else(|| text.into())
}

fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0'] => (10, digits),
        [b'0', b'b', ..] => (2, &digits[2..]),
        [b'0', b'x', ..] => (16, &digits[2..]),
        [b'0', ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if !digits.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{}", digits.replace('_', "")), radix).ok()
}

/// A number with a point. PyYAML wants a sign in an exponent, and reads `1e5` as text.
fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return Some(sign * f64::INFINITY);
    }
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.')?;
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    let has_digits =
        if whole.is_empty() { fraction } else { whole }.starts_with(|c: char| c.is_ascii_digit());
    let exponent_fits = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['-', '+']);
        digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
    });
    if !has_digits || !are_digits(whole) || !are_digits(fraction) || !exponent_fits {
        return None;
    }
    Some(sign * unsigned.replace('_', "").parse::<f64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> String {
        parse(Path::new("a.yaml"), text)
            .map(|node| node.to_value().to_repr())
            .unwrap_or_else(|e| e.to_string())
    }

    /// The values are those of `yaml.safe_load`.
    #[test]
    fn scalars_have_the_types_of_pyyaml() {
        for (text, expected) in [
            (
                "[no, 'no', On, ~, '~', 12, -3, 010, 0x1f, 1_000]",
                "[False, 'no', True, None, '~', 12, -3, 8, 31, 1000]",
            ),
            ("[1.5, -.5, .5, 1., 1e5, 1.0e+5, 1.0e5]", "[1.5, -0.5, 0.5, 1.0, '1e5', 100000.0, '1.0e5']"),
            (
                "a: |\n  x\n\n  y\nb: >-\n  x\n  y\nc: \"\\n\\n\"",
                "{'a': 'x\\n\\ny\\n', 'b': 'x y', 'c': '\\n\\n'}",
            ),
            ("", "None"),
            ("a: [x, {b: }]", "{'a': ['x', {'b': None}]}"),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn errors_name_the_line() {
        assert_eq!(value("a: 1\nb: 2\na: 3\n"), "`a.yaml` line 3: has the key `a` twice, first in line 1");
        assert_eq!(
            value("a: &x 1\nb: *x\n"),
            "`a.yaml` line 2: has an alias (`*name`), which is not supported"
        );
        assert!(value("a: [1\nb: 2\n").starts_with("`a.yaml` line "));
        assert!(value(&"[".repeat(100)).contains("is nested more than 64 deep"));
        let node = parse(Path::new("a.yaml"), "a: 1\n\nb: !function utils.f\n").unwrap();
        let Kind::Map(entries) = node.kind else { panic!("not a map") };
        assert_eq!((entries[1].1, &entries[1].2.kind), (3, &Kind::Function("utils.f".into())));
    }
}
