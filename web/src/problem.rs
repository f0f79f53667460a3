//! Errors in the form that the page shows.

use crate::protocol::Problem;
use serde::Serialize;
use wasm_bindgen::JsValue;

/// Result whose error JavaScript catches as a [`Problem`].
pub type Result<T> = std::result::Result<T, JsValue>;

/// Converts an error of the engine. If the device failed, the problem ends the worker, whose state can no
/// longer be trusted.
pub fn problem(error: kiln::Error) -> JsValue {
    let fatal = matches!(error, kiln::Error::DeviceFailed { .. });
    to_js(&Problem { message: error.to_string(), hint: error.hint(), fatal })
}

/// Makes a problem that this layer itself reports.
pub fn refusal(message: &str, hint: &str) -> JsValue {
    to_js(&Problem { message: message.into(), hint: (!hint.is_empty()).then(|| hint.into()), fatal: false })
}

/// Converts a value to plain JavaScript objects, arrays, numbers and strings.
pub fn to_js<T: Serialize + ?Sized>(value: &T) -> JsValue {
    let serializer = serde_wasm_bindgen::Serializer::json_compatible();
    value.serialize(&serializer).unwrap_or_else(|error| JsValue::from_str(&error.to_string()))
}
