//! Errors as the page shows them.

use crate::protocol::Problem;
use serde::Serialize;
use wasm_bindgen::JsValue;

/// JavaScript catches a [`Problem`].
pub type Result<T> = std::result::Result<T, JsValue>;

/// An error of the engine. Those of the device end the worker: its state is not to be trusted.
pub fn problem(error: kiln::Error) -> JsValue {
    let fatal = matches!(error, kiln::Error::DeviceFailed { .. });
    to_js(&Problem { message: error.to_string(), hint: error.hint(), fatal })
}

/// A problem of this layer's own.
pub fn refusal(message: &str, hint: &str) -> JsValue {
    to_js(&Problem { message: message.into(), hint: (!hint.is_empty()).then(|| hint.into()), fatal: false })
}

/// A value as plain JavaScript objects, arrays, numbers and strings.
pub fn to_js<T: Serialize + ?Sized>(value: &T) -> JsValue {
    let serializer = serde_wasm_bindgen::Serializer::json_compatible();
    value.serialize(&serializer).unwrap_or_else(|error| JsValue::from_str(&error.to_string()))
}
