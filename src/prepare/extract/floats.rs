//! Reads floating-point numbers of JSON exactly: serde_json may differ in the last digit. Its feature
//! `float_roundtrip` would apply to every crate of the build, and would be slower for all.

use serde_json::{Map, Number, Value, value::RawValue};
use std::collections::BTreeMap;

/// Sets each floating-point number in a value to the one nearest to its digits in `json`.
pub(super) fn correct(value: &mut Value, json: &str) {
    match value {
        Value::Number(number) if number.is_f64() => {
            // Without a point it is a whole number, which has no sign at zero.
            let nearest = match json {
                "-0" => Some(0.into()),
                _ => json.parse().ok().and_then(Number::from_f64),
            };
            if let Some(nearest) = nearest {
                *number = nearest;
            }
        }
        Value::Array(values) if values.iter().any(has_floats) => {
            let raw: Vec<&RawValue> = serde_json::from_str(json).unwrap_or_default();
            values.iter_mut().zip(raw).for_each(|(value, raw)| correct(value, raw.get()));
        }
        Value::Object(fields) => correct_fields(fields, json),
        _ => {}
    }
}

/// As [`correct`], for the fields of an object.
pub(super) fn correct_fields(fields: &mut Map<String, Value>, json: &str) {
    if !fields.values().any(has_floats) {
        return;
    }
    // Of two fields of a name the last one counts, here as there.
    let raw: BTreeMap<String, &RawValue> = serde_json::from_str(json).unwrap_or_default();
    for (name, value) in fields {
        if let Some(raw) = raw.get(name) {
            correct(value, raw.get());
        }
    }
}

fn has_floats(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(values) => values.iter().any(has_floats),
        Value::Object(fields) => fields.values().any(has_floats),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_nearest_ones() {
        // Python: json.dumps(json.loads(text)).
        for (text, nearest) in [
            ("{\"a\":933514038.0828273}", "{\"a\":933514038.0828273}"),
            ("[-0,-0.0,-0e0]", "[0,-0.0,-0.0]"),
            (
                "[9007199254740993.0,{\"b\":[1,933514038.0828273]}]",
                "[9007199254740992.0,{\"b\":[1,933514038.0828273]}]",
            ),
            (
                "{\"a\":933514038.0828273,\"a\":{\"a\":9007199254740993.0}}",
                "{\"a\":{\"a\":9007199254740992.0}}",
            ),
        ] {
            let mut value = serde_json::from_str(text).unwrap();
            correct(&mut value, text);
            assert_eq!(value.to_string(), nearest);
        }
    }
}
