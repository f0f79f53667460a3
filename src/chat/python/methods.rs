//! Methods of Python's texts and lists that the template engine and its contributions do not have.

use minijinja::{
    Error, ErrorKind, State, Value,
    value::{ValueKind, from_args},
};

/// Calls a method of a value.
pub fn call(state: &mut State, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    match (value.as_str(), name) {
        (Some(text), "removeprefix") => {
            let (prefix,): (&str,) = from_args(arguments)?;
            Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)))
        }
        (Some(text), "removesuffix") => {
            let (suffix,): (&str,) = from_args(arguments)?;
            Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)))
        }
        (Some(text), "rsplit") => {
            let (separator, most): (&str, Option<usize>) = from_args(arguments)?;
            let most = most.map_or(usize::MAX, |most| most.saturating_add(1));
            let mut parts: Vec<&str> = text.rsplitn(most, separator).collect();
            parts.reverse();
            Ok(parts.into_iter().map(Value::from).collect())
        }
        (Some(text), "index") => {
            let (part,): (&str,) = from_args(arguments)?;
            let missing = || Error::new(ErrorKind::InvalidOperation, format!("`{part}` is not in the text"));
            Ok(Value::from(text[..text.find(part).ok_or_else(missing)?].chars().count()))
        }
        (None, "index") if value.kind() == ValueKind::Seq => {
            let (wanted,): (&Value,) = from_args(arguments)?;
            let missing = || Error::new(ErrorKind::InvalidOperation, "the value is not in the list");
            Ok(Value::from(value.try_iter()?.position(|item| item == *wanted).ok_or_else(missing)?))
        }
        // The contributed one is Jinja's filter, which knows fewer borders of words.
        (Some(text), "title") => {
            let () = from_args(arguments)?;
            Ok(Value::from(title(text)))
        }
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, arguments),
    }
}

/// A text in which letters behind what is no letter are large, and all others small.
fn title(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut follows_letter = false;
    for c in text.chars() {
        if follows_letter {
            titled.extend(c.to_lowercase());
        } else {
            let mut large = c.to_uppercase();
            titled.extend(large.next());
            titled.extend(large.flat_map(char::to_lowercase));
        }
        follows_letter = c.is_lowercase() || c.is_uppercase();
    }
    titled
}
