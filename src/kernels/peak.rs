//! How fast a device multiplies matrices at best, which training is compared with.

use super::{
    Mode,
    device::read_numbers,
    error::Result,
    linear::{Epilogue, linear},
    platform::Instant,
};
use burn::tensor::{Device, Distribution, Tensor};

/// Measures the peak of f32 matrix products in FLOP/s: the best of several square products, whose size grows
/// until one takes `seconds / 8` or has 8192 rows.
///
/// # Errors
/// [`Error::DeviceFailed`](crate::error::Error::DeviceFailed).
pub async fn measure_peak(device: &Device, seconds: f64) -> Result<f64> {
    let device = device.clone().inner();
    let mut best = 0f64;
    let mut size = 256;
    loop {
        let random = || Tensor::<2>::random([size, size], Distribution::Default, &device);
        let (a, b) = (random(), random());
        let product = || linear(a.clone(), b.clone(), false, Epilogue::default(), Mode::Fused);
        // The first product compiles and tunes.
        wait(product()).await?;
        let mut elapsed = f64::INFINITY;
        for _ in 0..4 {
            let start = Instant::now();
            wait(product()).await?;
            elapsed = elapsed.min(start.elapsed().as_secs_f64());
        }
        best = best.max(2.0 * (size as f64).powi(3) / elapsed);
        if elapsed > seconds / 8.0 || size >= 8192 {
            return Ok(best);
        }
        size *= 2;
    }
}

/// Waits until a tensor is computed, by reading one element.
async fn wait(tensor: Tensor<2>) -> Result<()> {
    read_numbers(tensor.slice([0..1, 0..1]), "measuring").await.map(drop)
}
