//! Functions and filters of Python that chat templates call: they are written for transformers, which renders them
//! with Jinja2.

mod json;
mod methods;

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior,
    syntax::SyntaxConfig,
    value::{Kwargs, Value, ValueKind},
};
use std::fmt;

/// Name of the filter that stands in for the blocks `{% generation %}`.
pub const GENERATION: &str = "kiln_generation";

/// Name of the function that refuses what cannot be cut into slices.
pub const SLICEABLE: &str = "kiln_sliceable";

/// Makes the environment in which transformers 5 renders templates. `now` is the time of `strftime_now`, in
/// seconds since 1970-01-01 UTC.
///
/// # Errors
/// Errors of the template engine.
pub fn environment(now: i64) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_unknown_method_callback(methods::call);
    environment.set_formatter(|output, state, value| match value.kind() {
        ValueKind::Number if !value.is_integer() => {
            Ok(output.write_str(&float(f64::try_from(value.clone())?))?)
        }
        _ => minijinja::escape_formatter(output, state, value),
    });
    environment.add_filter("tojson", json::tojson);
    environment.add_filter("sum", sum);
    environment.add_filter(GENERATION, |body: &str| {
        let [open, close] = crate::marks::GENERATED;
        format!("{open}{body}{close}")
    });
    // Those of Jinja2: texts and maps have a length and elements, and Python's booleans are numbers.
    environment.add_test("sequence", |value: &Value| {
        value.is_undefined() || matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map)
    });
    environment
        .add_test("number", |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool));
    environment.add_function("raise_exception", |message: &Value| -> Result<Value, Error> {
        let message = message.to_string();
        let raised = Raised(message.clone());
        Err(Error::new(ErrorKind::InvalidOperation, message).with_source(raised))
    });
    environment.add_function(SLICEABLE, |value: Value| match value.is_undefined() || value.is_none() {
        true => Err(Error::new(ErrorKind::UndefinedError, "what is not there has no slices")),
        false => Ok(value),
    });
    environment.add_function("strftime_now", move |format: &str| crate::clock::format(now, format));
    Ok(environment)
}

/// Source of the error of a template that refuses a conversation by `raise_exception`.
#[derive(Debug)]
pub struct Raised(pub String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// A number as Python prints it.
pub fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ if number.fract() == 0.0 => format!("{number:.1}"),
        _ => number.to_string(),
    }
}

/// Filter that adds numbers or, from `start` on, lists.
fn sum(values: &Value, options: Kwargs) -> Result<Value, Error> {
    let start: Option<Value> = options.get("start")?;
    options.assert_all_used()?;
    if let Some(first) = start.as_ref().filter(|start| start.kind() == ValueKind::Seq) {
        let mut all: Vec<Value> = first.try_iter()?.collect();
        for list in values.try_iter()? {
            all.extend(list.try_iter()?);
        }
        return Ok(Value::from(all));
    }
    let numbers = values.try_iter()?.chain(start).collect::<Vec<Value>>();
    if numbers.iter().all(Value::is_integer) {
        let whole = numbers.into_iter().map(i128::try_from);
        return Ok(Value::from(whole.sum::<Result<i128, Error>>()?));
    }
    Ok(Value::from(numbers.into_iter().map(f64::try_from).sum::<Result<f64, Error>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The results are those of Jinja2.
    #[test]
    fn kinds_of_values_are_those_of_python() {
        let environment = environment(0).unwrap();
        let context = Value::from_pairs([("x", Value::from(1))]);
        for (test, expected) in [
            ("'a' is sequence and {} is sequence and [] is sequence", "1"),
            ("1 is sequence or none is sequence", "0"),
            ("true is number and 1 is number and 1.5 is number", "1"),
            ("'1' is number", "0"),
            ("'a' is iterable", "1"),
        ] {
            let source = format!("{{{{ 1 if {test} else 0 }}}}");
            assert_eq!(environment.render_str(&source, context.clone()).unwrap(), expected, "{test}");
        }
    }

    #[test]
    fn numbers_are_printed_as_python_prints_them() {
        for (number, text) in [
            (1.0, "1.0"),
            (1e3, "1000.0"),
            (1e-7, "1e-07"),
            (0.0001, "0.0001"),
            (1e16, "1e+16"),
            (123_456_789_012_345.0, "123456789012345.0"),
            (-2.5, "-2.5"),
            (1.5e300, "1.5e+300"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(float(number), text);
        }
    }
}
