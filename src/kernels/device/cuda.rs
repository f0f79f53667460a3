//! NVIDIA cards by their driver: names, memory, and what must be in place before a run starts on one. CubeCL
//! would only say so by a panic, or at the first kernel that needs what is missing.

use super::{Api, DeviceInfo, Kind};
use crate::platform::storage;
use cudarc::driver::{
    DriverError,
    result::{self, device},
    sys,
};
use std::{
    env,
    path::{Path, PathBuf},
};

/// The oldest driver that has all functions that CubeCL calls (`cuEventElapsedTime_v2` is the newest), as
/// `cuDriverGetVersion` counts: CUDA 12.8.
const OLDEST_DRIVER: i32 = 12080;

/// Less free memory than this does not hold a context and CubeCL's first page.
const LEAST_FREE_BYTES: usize = 256 << 20;

/// Folders in which CubeCL looks for a CUDA toolkit if `CUDA_PATH` is not set.
const TOOLKITS: [&str; 4] = ["/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda", "/usr"];

/// Path of the mathematical functions within a CUDA toolkit.
const LIBDEVICE: &str = "nvvm/libdevice/libdevice.10.bc";

/// Lists the cards in the order of CUDA's own numbers, which `CUDA_VISIBLE_DEVICES` changes.
pub(super) fn list() -> Vec<DeviceInfo> {
    let count = count().unwrap_or(0);
    if count == 0 {
        return Vec::new();
    }
    let problem = driver_problem().or_else(libdevice_problem);
    (0..count)
        .map(|index| {
            let card = device::get(index as i32);
            let name = card.and_then(device::get_name).unwrap_or_else(|_| "NVIDIA GPU".into());
            // SAFETY: the card is one that the driver has just returned.
            let memory = card.and_then(|card| unsafe { device::total_mem(card) }).ok();
            let mut info =
                DeviceInfo::new(Api::Cuda, index, Kind::DiscreteGpu, name, memory.map(|bytes| bytes as u64));
            info.problem.clone_from(&problem);
            info
        })
        .collect()
}

/// Says why a card is absent.
pub(super) fn absence() -> String {
    match count() {
        Ok(0) => {
            "the driver finds no card; does `nvidia-smi` list one, and does CUDA_VISIBLE_DEVICES hide it?"
                .into()
        }
        Ok(1) => "there is one card, `cuda`".into(),
        Ok(count) => format!("there are {count} cards, `cuda:0` to `cuda:{}`", count - 1),
        Err(problem) => problem,
    }
}

/// Opens the card's context, as CubeCL does next.
///
/// # Errors
/// Says why the card cannot be used now.
pub(super) fn check(index: usize) -> Result<(), String> {
    let opened = device::get(index as i32).and_then(|card| {
        // SAFETY: the card is one that the driver has just returned, and its context is never released.
        unsafe { result::ctx::set_current(result::primary_ctx::retain(card)?)? };
        result::mem_get_info()
    });
    match opened {
        Ok((free, total)) if free < LEAST_FREE_BYTES => Err(format!(
            "only {} of its {} MiB of memory are free; end what else runs there (`nvidia-smi` lists it)",
            free >> 20,
            total >> 20
        )),
        Ok(_) => Ok(()),
        Err(error) => Err(context_problem(error)),
    }
}

fn context_problem(error: DriverError) -> String {
    use sys::CUresult::{CUDA_ERROR_DEVICE_UNAVAILABLE, CUDA_ERROR_OUT_OF_MEMORY};
    match error.0 {
        CUDA_ERROR_OUT_OF_MEMORY => {
            "its memory is full; end what else runs there (`nvidia-smi` lists it)".into()
        }
        CUDA_ERROR_DEVICE_UNAVAILABLE => {
            "another process has it for itself (compute mode `Exclusive Process`); \
                                          `nvidia-smi` lists what runs there"
                .into()
        }
        _ => format!("the driver reports {}", describe(error)),
    }
}

/// Number of cards.
///
/// # Errors
/// Says why there is no driver to ask.
fn count() -> Result<usize, String> {
    // SAFETY: this only tries to open the library.
    if !unsafe { sys::is_culib_present() } {
        return Err("no NVIDIA driver is installed (no library `libcuda.so.1` or `nvcuda.dll`)".into());
    }
    match result::init().and_then(|()| device::get_count()) {
        Ok(count) => Ok(count.max(0) as usize),
        Err(error) if error.0 == sys::CUresult::CUDA_ERROR_NO_DEVICE => Ok(0),
        Err(error) => Err(format!("the NVIDIA driver does not start: {}", describe(error))),
    }
}

/// Name and text of a driver's error, such as `CUDA_ERROR_NO_DEVICE (no CUDA-capable device is detected)`.
fn describe(error: DriverError) -> String {
    let text = |text: Result<&std::ffi::CStr, _>| text.ok().map(|text| text.to_string_lossy().into_owned());
    match (text(error.error_name()), text(error.error_string())) {
        (Some(name), Some(text)) => format!("{name} ({text})"),
        _ => format!("{:?}", error.0),
    }
}

/// Says what an old driver lacks. There must be a driver.
fn driver_problem() -> Option<String> {
    let mut version = 0;
    // SAFETY: the version is written to a live integer.
    let known = unsafe { sys::cuDriverGetVersion(&raw mut version) }.result().is_ok();
    (known && version < OLDEST_DRIVER).then(|| {
        let name = |version: i32| format!("{}.{}", version / 1000, version % 1000 / 10);
        format!(
            "its driver supports CUDA {}, and Kiln needs {}; install NVIDIA's driver 570 or a newer one",
            name(version),
            name(OLDEST_DRIVER)
        )
    })
}

/// Lets CubeCL find `libdevice.10.bc`, NVIDIA's mathematical functions, also where it does not look by itself:
/// beside the binary, where `examples/cuda.sh` puts it, and below `CUDA_HOME` and `CONDA_PREFIX`. It sets
/// `CUDA_PATH`, unless that is set.
///
/// # Safety
/// No other thread may run, since the environment is changed.
pub unsafe fn find_libdevice() {
    if env::var_os("CUDA_PATH").is_some() {
        return;
    }
    let beside = env::current_exe().ok().and_then(|binary| binary.parent().map(Path::to_path_buf));
    let named = ["CUDA_HOME", "CONDA_PREFIX"].into_iter().filter_map(env::var_os).map(PathBuf::from);
    let toolkits = TOOLKITS.into_iter().map(PathBuf::from);
    let found =
        beside.into_iter().chain(named).chain(toolkits).find(|root| is_libdevice(&root.join(LIBDEVICE)));
    if let Some(root) = found {
        // SAFETY: the caller promises that no other thread runs.
        unsafe { env::set_var("CUDA_PATH", root) };
    }
}

/// Says why kernels with a mathematical function could not be compiled.
fn libdevice_problem() -> Option<String> {
    let root = env::var_os("CUDA_PATH").map(PathBuf::from);
    let root = root.or_else(|| {
        TOOLKITS.into_iter().map(PathBuf::from).find(|root| root.join("nvvm/libdevice").is_dir())
    });
    let advice = "`bash examples/cuda.sh` fetches it, or set CUDA_PATH to a CUDA toolkit";
    let file = root.map(|root| root.join(LIBDEVICE));
    match file {
        Some(file) if is_libdevice(&file) => None,
        Some(file) if file.exists() => {
            Some(format!("`{}` is not NVIDIA's library of mathematical functions; {advice}", file.display()))
        }
        _ => Some(format!("NVIDIA's mathematical functions, `libdevice.10.bc`, are missing; {advice}")),
    }
}

/// Whether a file is LLVM bitcode, as `libdevice.10.bc` of every CUDA version is.
fn is_libdevice(file: &Path) -> bool {
    storage::read_prefix(file, 4).is_ok_and(|start| start == *b"BC\xc0\xde")
}
