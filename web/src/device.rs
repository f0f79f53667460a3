//! The two devices of a tab.

use crate::problem::{Result, refusal};
use burn::tensor::Device;
use kiln::device::Choice;
use wasm_bindgen::prelude::*;

/// Opens WebGPU, once per worker and before [`device`] is asked for it.
#[wasm_bindgen]
pub async fn open_webgpu() -> Result<()> {
    let opened = Device::wgpu_options().init_async().await;
    let failed = |error| {
        let hint = "train on the CPU, or try another browser";
        refusal(&format!("WebGPU cannot be opened: {error}"), hint)
    };
    opened.map(drop).map_err(failed)
}

/// The device of a name, `webgpu` or `cpu`.
pub fn device(name: &str) -> kiln::Result<Device> {
    name.parse::<Choice>()?.open()
}
