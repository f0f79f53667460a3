//! The filter `tojson` as transformers has it: Python's `json.dumps`, which keeps characters outside of ASCII
//! and escapes nothing for HTML.

use super::float;
use minijinja::{
    Error, ErrorKind,
    value::{Kwargs, Rest, Value, ValueKind},
};
use std::fmt::Write;

/// Settings of `json.dumps`.
struct Style {
    ensure_ascii: bool,
    indent: Option<usize>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
}

/// Filter that formats a value as JSON.
pub fn tojson(value: &Value, positional: Rest<Value>, named: Kwargs) -> Result<String, Error> {
    const NAMES: [&str; 4] = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let argument = |index: usize| -> Result<Option<Value>, Error> {
        let given = positional.get(index).cloned();
        let given = match given {
            Some(given) => Some(given),
            None => named.get::<Option<Value>>(NAMES[index])?,
        };
        Ok(given.filter(|given| !given.is_none() && !given.is_undefined()))
    };
    let indent = argument(1)?.map(usize::try_from).transpose()?;
    let mut style = Style {
        ensure_ascii: argument(0)?.is_some_and(|flag| flag.is_true()),
        indent,
        item_separator: if indent.is_some() { "," } else { ", " }.into(),
        key_separator: ": ".into(),
        sort_keys: argument(3)?.is_some_and(|flag| flag.is_true()),
    };
    if let Some(separators) = argument(2)? {
        let pair: Vec<Value> = separators.try_iter()?.collect();
        let [item, key] = &pair[..] else {
            return Err(refused("`separators` are two texts"));
        };
        (style.item_separator, style.key_separator) = (item.to_string(), key.to_string());
    }
    named.assert_all_used()?;
    let mut text = String::new();
    style.write(value, 0, &mut text)?;
    Ok(text)
}

fn refused(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

impl Style {
    fn write(&self, value: &Value, depth: usize, into: &mut String) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => into.push_str("null"),
            ValueKind::Bool => into.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => into.push_str(&number(value)?),
            ValueKind::String => self.write_text(value.as_str().unwrap_or_default(), into),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.write_all('[', ']', items, depth, into, |item, into| self.write(item, depth + 1, into))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                self.write_all('{', '}', keys, depth, into, |key, into| {
                    match key.kind() {
                        ValueKind::String => self.write_text(key.as_str().unwrap_or_default(), into),
                        _ => {
                            into.push('"');
                            self.write(key, depth, into)?;
                            into.push('"');
                        }
                    }
                    into.push_str(&self.key_separator);
                    self.write(&value.get_item(key)?, depth + 1, into)
                })?;
            }
            _ => return Err(refused("a value that is not there, or no data, has no JSON")),
        }
        Ok(())
    }

    fn write_all(
        &self,
        open: char,
        close: char,
        items: Vec<Value>,
        depth: usize,
        into: &mut String,
        mut write: impl FnMut(&Value, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let new_line = |depth: usize, into: &mut String| {
            if let Some(indent) = self.indent {
                into.push('\n');
                into.extend(std::iter::repeat_n(' ', indent * depth));
            }
        };
        into.push(open);
        for (number, item) in items.iter().enumerate() {
            if number > 0 {
                into.push_str(&self.item_separator);
            }
            new_line(depth + 1, into);
            write(item, into)?;
        }
        if !items.is_empty() {
            new_line(depth, into);
        }
        into.push(close);
        Ok(())
    }

    fn write_text(&self, text: &str, into: &mut String) {
        into.push('"');
        for c in text.chars() {
            match c {
                '"' => into.push_str("\\\""),
                '\\' => into.push_str("\\\\"),
                '\n' => into.push_str("\\n"),
                '\r' => into.push_str("\\r"),
                '\t' => into.push_str("\\t"),
                '\u{8}' => into.push_str("\\b"),
                '\u{c}' => into.push_str("\\f"),
                _ if c < ' ' || (self.ensure_ascii && !c.is_ascii()) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        // Writing into a String cannot fail.
                        let _ = write!(into, "\\u{unit:04x}");
                    }
                }
                _ => into.push(c),
            }
        }
        into.push('"');
    }
}

fn number(value: &Value) -> Result<String, Error> {
    if value.is_integer() {
        return Ok(value.to_string());
    }
    let number = f64::try_from(value.clone())?;
    Ok(match number {
        _ if number.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        _ => float(number),
    })
}
