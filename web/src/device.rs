//! The two devices of a browser tab: the CPU and WebGPU.

use crate::problem::{Result, refusal};
use burn::tensor::Device;
use kiln::device::Choice;
use std::cell::RefCell;
use wasm_bindgen::prelude::*;

/// Number of tasks per submission. Submitting to the browser's GPU process costs more than on the desktop,
/// where 32 is usual.
const TASKS_PER_SUBMIT: usize = 128;

thread_local! {
    static WEBGPU: RefCell<Option<Device>> = const { RefCell::new(None) };
}

/// Opens WebGPU. Call it once per worker, before [`device`] is asked for it.
#[wasm_bindgen]
pub async fn open_webgpu() -> Result<()> {
    kiln::device::configure_fusion();
    let opened = Device::wgpu_options().tasks_max(TASKS_PER_SUBMIT).init_async().await;
    let failed = |error| {
        let hint = "train on the CPU, or try another browser";
        refusal(&format!("WebGPU cannot be opened: {error}"), hint)
    };
    let device = opened.map_err(failed)?;
    WEBGPU.with(|slot| *slot.borrow_mut() = Some(device));
    Ok(())
}

/// The device with a name: `webgpu` (once opened) or `cpu`.
pub fn device(name: &str) -> kiln::Result<Device> {
    let choice: Choice = name.parse()?;
    if choice.is_cpu() {
        return choice.open();
    }
    WEBGPU.with(|slot| slot.borrow().clone()).ok_or_else(|| kiln::Error::DeviceUnavailable {
        name: name.into(),
        reason: "it was not opened".into(),
        present: vec!["cpu".into()],
    })
}
