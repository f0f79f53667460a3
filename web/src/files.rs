//! Converts checkpoints to and from JavaScript objects that map file names to `Uint8Array`s.

use crate::problem::{Result, problem, refusal};
use js_sys::{Object, Reflect, Uint8Array};
use kiln::checkpoint::{Files, names};
use wasm_bindgen::{JsCast, JsValue};

/// Copies a checkpoint, with its manifest, out of WebAssembly's memory.
pub fn to_js(files: &Files) -> Object {
    let object = Object::new();
    let put = |name: &str, bytes: &[u8]| {
        // Setting a property of a plain object does not fail.
        let _ = Reflect::set(&object, &name.into(), &Uint8Array::from(bytes));
    };
    for (name, bytes) in &files.contents {
        put(name, bytes);
    }
    put(names::MANIFEST, &files.manifest());
    object
}

/// Reads a checkpoint and verifies it against its manifest.
pub fn from_js(object: &Object, origin: &str) -> Result<Files> {
    let mut files = Files::new(origin);
    for entry in Object::entries(object).iter() {
        let entry: js_sys::Array = entry.into();
        let name = entry.get(0).as_string().unwrap_or_default();
        let bytes: JsValue = entry.get(1);
        let bytes = bytes.dyn_into::<Uint8Array>().map_err(|_| {
            refusal(&format!("`{name}` of the checkpoint is not a file"), "choose the checkpoint's files")
        })?;
        files.contents.insert(name, bytes.to_vec().into());
    }
    if files.get(names::MANIFEST).is_none() {
        return Err(refusal(
            &format!("checkpoint `{origin}`: `{}` is missing", names::MANIFEST),
            "choose all files of one checkpoint folder, or the zip that the page made",
        ));
    }
    files.check(|_| true).map_err(problem)?;
    Ok(files)
}
