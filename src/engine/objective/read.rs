//! Reads numbers from the device.

use crate::{device::device_failed, error::Result};
use burn::tensor::{Device, Tensor};

/// Reads a column, `[N, 1]`, without autodiff. `action` says in an error what the device failed at.
///
/// # Errors
/// [`Error::DeviceFailed`](crate::Error::DeviceFailed).
pub(super) async fn read(column: Tensor<2>, device: &Device, action: &str) -> Result<Vec<f32>> {
    let failed = |message| device_failed(device, action, message);
    let data = column.into_data_async().await.map_err(|e| failed(e.to_string()))?;
    data.try_into_vec_as::<f32>().map_err(|e| failed(format!("{e:?}")))
}
