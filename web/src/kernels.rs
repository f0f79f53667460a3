//! Checks that the kernels compute correctly on this browser's device.

use crate::{
    device::device,
    problem::{Result, problem, to_js},
};
use kiln::kernels::{
    Precision,
    cases::{CASES, Sizes},
};
use wasm_bindgen::prelude::*;

/// Difference of every operation from its unfused reference, as a list of `KernelDifference`.
#[wasm_bindgen]
pub async fn kernel_differences(name: &str) -> Result<JsValue> {
    let device = device(name).map_err(problem)?;
    let mut all = Vec::new();
    for case in CASES {
        all.push(case.compare(&device, Sizes::SMALL, Precision::F32).await.map_err(problem)?);
    }
    Ok(to_js(&all))
}
