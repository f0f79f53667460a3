//! Devices by name: `cpu`, `cuda[:i]`, `wgpu[:i]`, `vulkan[:i]`, `metal[:i]`, `webgpu`, and `auto` for the
//! best of them. Together with `platform.rs` this is the only place that knows which backend runs.

use crate::error::{Error, Hint, Place, Result, hint};
use burn::tensor::{Device, FloatDType, Tensor};
use burn_std::config::RuntimeConfig as _;
use serde::Serialize;
use std::{fmt, str::FromStr, sync::Mutex};

/// The name of a device, which need not exist or be open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    api: Api,
    index: usize,
}

/// Interfaces through which a device is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    Cpu,
    Cuda,
    /// The graphics API that wgpu chooses: Vulkan, Metal, DirectX 12 or OpenGL.
    Wgpu,
    Vulkan,
    Metal,
    /// WebGPU of the browser.
    Webgpu,
}

impl Api {
    const ALL: [Self; 6] = [Self::Cpu, Self::Cuda, Self::Wgpu, Self::Vulkan, Self::Metal, Self::Webgpu];

    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Wgpu => "wgpu",
            Self::Vulkan => "vulkan",
            Self::Metal => "metal",
            Self::Webgpu => "webgpu",
        }
    }

    fn in_this_build(self) -> bool {
        match self {
            Self::Cpu => cfg!(feature = "flex"),
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Metal => cfg!(feature = "metal"),
            Self::Webgpu => cfg!(feature = "webgpu"),
        }
    }
}

/// Description of a device, without opening it.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceInfo {
    /// Name that `--device` accepts.
    pub name: String,
    /// Name that the device reports; for a processor also its generation and threads.
    pub description: String,
    /// Vector instructions that the CPU computes with, such as `AVX-512`.
    pub instruction_set: Option<&'static str>,
    /// Whether it is emulated on the CPU; `auto` never chooses such a device.
    pub software: bool,
    /// Memory in bytes, if the platform reports it.
    pub memory_bytes: Option<u64>,
    /// Reason why it cannot compute; `auto` never chooses it then.
    pub problem: Option<String>,
    #[serde(skip)]
    choice: Choice,
    #[serde(skip)]
    kind: Kind,
}

impl DeviceInfo {
    /// Name of the device.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// The description, with the instruction set if it is known.
    pub fn summary(&self) -> String {
        match self.instruction_set {
            Some(instructions) => format!("{}, {instructions}", self.description),
            None => self.description.clone(),
        }
    }
}

/// A device for models that are never run; no memory is allocated on it.
pub fn placeholder() -> Device {
    #[cfg(feature = "flex")]
    return Device::flex();
    #[cfg(all(feature = "cuda", not(feature = "flex")))]
    return Device::cuda(0);
    #[cfg(not(any(feature = "flex", feature = "cuda")))]
    Device::default()
}

/// Kind of a device, in ascending order of preference for training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(not(any(feature = "wgpu", feature = "cuda")), allow(dead_code))]
enum Kind {
    Software,
    Cpu,
    OtherGpu,
    IntegratedGpu,
    DiscreteGpu,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.api, self.index) {
            (_, 0) => f.write_str(self.api.name()),
            (api, index) => write!(f, "{}:{index}", api.name()),
        }
    }
}

impl FromStr for Choice {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        if name == "auto" {
            return Ok(Self::auto());
        }
        let (api, index) = name.split_once(':').map_or((name, Some(0)), |(api, i)| (api, i.parse().ok()));
        match (Api::ALL.into_iter().find(|known| known.name() == api), index) {
            (Some(api), Some(index)) => Ok(Self { api, index }),
            _ => Err(Error::UnknownName {
                what: "device",
                name: name.into(),
                hint: hint![
                    "one of auto, cpu, cuda[:i], wgpu[:i], vulkan[:i], metal[:i]; ",
                    hint::command("kiln devices"),
                    " lists those present"
                ],
            }),
        }
    }
}

impl Choice {
    /// The CPU.
    pub fn cpu() -> Self {
        Self { api: Api::Cpu, index: 0 }
    }

    /// The best hardware adapter, or the CPU if there is none. Never a software adapter, or one with a problem.
    pub fn auto() -> Self {
        let usable = list().into_iter().filter(|info| !info.software && info.problem.is_none());
        let found = usable.max_by_key(|info| {
            // Of several ways to one card, CUDA is the fastest, then the pinned API.
            let api = match info.choice.api {
                Api::Cuda => 3,
                Api::Vulkan | Api::Metal => 2,
                Api::Wgpu | Api::Webgpu => 1,
                Api::Cpu => 0,
            };
            (info.kind, api, std::cmp::Reverse(info.choice.index))
        });
        found.map_or_else(Self::cpu, |info| info.choice)
    }

    /// Whether the CPU backend is meant.
    pub fn is_cpu(&self) -> bool {
        self.api == Api::Cpu
    }

    /// Opens the device, without autodiff. In a browser, first call [`configure_fusion`] and initialize the
    /// device with `burn::tensor::Device::wgpu_options().init_async()`.
    ///
    /// # Errors
    /// [`Error::DeviceUnavailable`] if this machine or this build does not have the device.
    pub fn open(&self) -> Result<Device> {
        configure_fusion();
        if !self.api.in_this_build() {
            return Err(self.unavailable(format!(
                "this build does not have it (cargo feature `{}`)",
                if self.api == Api::Cpu { "flex" } else { self.api.name() }
            )));
        }
        if self.api == Api::Webgpu && self.index == 0 {
            #[cfg(feature = "webgpu")]
            return Ok(Device::webgpu(burn::tensor::DeviceKind::DefaultDevice));
        }
        match self.info() {
            Some(DeviceInfo { problem: Some(problem), .. }) => Err(self.unavailable(problem)),
            Some(info) => {
                #[cfg(feature = "cuda")]
                if self.api == Api::Cuda {
                    cuda::check(self.index).map_err(|problem| self.unavailable(problem))?;
                }
                let device = info.open();
                if !self.is_cpu()
                    && let Ok(mut opened) = OPENED.lock()
                {
                    opened.push(device.clone());
                }
                Ok(device)
            }
            None if self.api == Api::Cpu => {
                Err(self.unavailable("there is one CPU device, `cpu`, with all processors in it".into()))
            }
            #[cfg(feature = "cuda")]
            None if self.api == Api::Cuda => Err(self.unavailable(cuda::absence())),
            None => Err(self.unavailable("no such adapter on this machine".into())),
        }
    }

    /// Describes the device; `None` if this machine does not have it.
    pub fn info(&self) -> Option<DeviceInfo> {
        list_api(self.api).into_iter().find(|info| info.choice == *self)
    }

    fn unavailable(&self, reason: String) -> Error {
        let usable = list().into_iter().filter(|info| info.problem.is_none() && info.choice != *self);
        let present = usable.map(|info| info.name).collect();
        Error::DeviceUnavailable { name: self.to_string(), reason, present }
    }
}

/// Devices that have been opened, except the CPU.
static OPENED: Mutex<Vec<Device>> = Mutex::new(Vec::new());

/// Waits until all opened devices have finished their work, freed memory included. Call it at the end of a
/// process: unloading a driver while one of its threads still works can crash (SwiftShader does).
pub fn settle() {
    if let Ok(opened) = OPENED.lock() {
        // One that is lost has nothing left to do either.
        opened.iter().for_each(|device| drop(device.sync()));
    }
}

/// Configures how Burn fuses operations into kernels on every device that is opened after the first call.
///
/// By default Burn follows several groups of operations at once. If their order then conflicts, it runs all
/// of them one by one, which happens in AdamW and in the backward pass of LayerNorm. One group at a time
/// takes a third fewer kernels per step (BENCHMARKS.md).
pub fn configure_fusion() {
    let config = serde_json::json!({ "fusion": { "beam_search": { "max_blocks": 1 } } });
    if let Ok(config) = serde_json::from_value(config) {
        burn::BurnConfig::try_set(config);
    }
}

/// Lists the devices that this build can use on this machine.
pub fn list() -> Vec<DeviceInfo> {
    Api::ALL.into_iter().flat_map(list_api).collect()
}

fn list_api(api: Api) -> Vec<DeviceInfo> {
    match api {
        Api::Cpu if api.in_this_build() => {
            vec![DeviceInfo::new(api, 0, Kind::Cpu, cpu_name(), crate::platform::memory_bytes().map(|m| m.0))]
        }
        #[cfg(feature = "cuda")]
        Api::Cuda => cuda::list(),
        #[cfg(feature = "wgpu")]
        Api::Wgpu | Api::Vulkan | Api::Metal if api.in_this_build() => adapters::list(api),
        _ => Vec::new(),
    }
}

impl DeviceInfo {
    fn new(api: Api, index: usize, kind: Kind, description: String, memory_bytes: Option<u64>) -> Self {
        let choice = Choice { api, index };
        let name = choice.to_string();
        let instruction_set = if api == Api::Cpu { processor::instruction_set() } else { None };
        let software = kind == Kind::Software;
        Self { name, description, instruction_set, software, memory_bytes, problem: None, choice, kind }
    }

    fn open(&self) -> Device {
        match self.choice.api {
            #[cfg(feature = "flex")]
            Api::Cpu => Device::flex(),
            #[cfg(feature = "cuda")]
            Api::Cuda => Device::cuda(self.choice.index),
            #[cfg(feature = "wgpu")]
            Api::Wgpu | Api::Vulkan | Api::Metal => adapters::open(&self.choice),
            // `open` refuses what the build lacks before it gets here.
            _ => Device::default(),
        }
    }
}

fn cpu_name() -> String {
    let threads = crate::platform::threads();
    let plural = if threads == 1 { "" } else { "s" };
    let name = crate::platform::cpu_name();
    let generation = processor::generation().map(String::from);
    let parts = name.into_iter().chain(generation).chain([format!("{threads} thread{plural}")]);
    parts.collect::<Vec<_>>().join(", ")
}

/// Names of the element types that a device computes in.
pub fn dtypes(device: &Device) -> Vec<&'static str> {
    let all = [
        ("f64", FloatDType::F64),
        ("f32", FloatDType::F32),
        ("f16", FloatDType::F16),
        ("bf16", FloatDType::BF16),
    ];
    all.into_iter().filter(|(_, dtype)| device.supports_dtype(*dtype)).map(|(name, _)| name).collect()
}

/// Reads the numbers of a tensor, row by row. `action` says in an error what the device failed at.
///
/// # Errors
/// [`Error::DeviceFailed`].
pub async fn read_numbers<const D: usize>(tensor: Tensor<D>, action: &str) -> Result<Vec<f32>> {
    let device = tensor.device();
    let failed = |message| device_failed(&device, action, message);
    let data = tensor.into_data_async().await.map_err(|error| failed(error.to_string()))?;
    data.try_into_vec_as::<f32>().map_err(|error| failed(format!("{error:?}")))
}

/// Name of the kind of a device, as in `--device`: `cpu`, `cuda` or `wgpu`.
pub fn short_name(device: &Device) -> &'static str {
    // Burn does not tell but in the debug text.
    let text = format!("{device:?}");
    [("Cuda", "cuda"), ("Wgpu", "wgpu")]
        .into_iter()
        .find_map(|(part, name)| text.contains(part).then_some(name))
        .unwrap_or("cpu")
}

/// Makes the error for a device that failed while working.
pub fn device_failed(device: &Device, action: &str, message: String) -> Error {
    let message = cause(&message);
    let lower = message.to_lowercase();
    let hint = if lower.contains("memory") || lower.contains("alloc") {
        smaller_batch_hint()
    } else if action == "training" {
        hint![
            "try again, or another device ",
            Place::Device.by("with"),
            "; a run goes on from its last checkpoint ",
            Place::Resume.by("with")
        ]
    } else {
        hint!["try again, or another device ", Place::Device.by("with")]
    };
    Error::DeviceFailed {
        device: short_name(device).into(),
        action: action.into(),
        message: message.into(),
        hint: Some(hint),
    }
}

/// The line of a runtime's message that says what happened: the innermost cause, or the first line.
fn cause(message: &str) -> &str {
    const AFTER_IT: [&str; 4] = ["Backtrace", "No backtrace available", "Asked at:", "0: "];
    let is_told = |line: &&str| !AFTER_IT.iter().any(|start| line.starts_with(start));
    let told = || message.lines().map(str::trim).take_while(is_told);
    let line = match told().any(|line| line == "Caused by:") {
        true => told().filter(|line| !line.is_empty()).last(),
        false => told().next(),
    };
    line.unwrap_or_default()
}

/// Advice for a batch that does not fit into memory.
pub fn smaller_batch_hint() -> Hint {
    hint![
        "lower ",
        hint::key("train.batch_size"),
        " (raise ",
        hint::key("train.gradient_accumulation_steps"),
        " to keep the step the same)"
    ]
}

#[cfg(feature = "wgpu")]
mod adapters;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
pub use cuda::find_libdevice;
mod processor;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in ["cpu", "cuda", "cuda:1", "wgpu", "wgpu:2", "vulkan", "metal"] {
            assert_eq!(name.parse::<Choice>().unwrap().to_string(), name);
        }
        for name in ["gpu", "cuda:x", "cuda:-1", ""] {
            assert!(name.parse::<Choice>().is_err(), "{name}");
        }
    }

    #[test]
    fn the_innermost_cause_of_a_failure_is_told() {
        let nested = "An error happened\nCaused by:\n  While reading\nCaused by:\n  out of memory\n\n  Backtrace:\n 0: x\nBacktrace:\n0: y";
        assert_eq!(cause(nested), "out of memory");
        assert_eq!(cause("An error\nCaused by:\n  no room\nNo backtrace available\nBacktrace\n"), "no room");
        assert_eq!(cause("lost\nmore"), "lost");
        assert_eq!(cause(""), "");
    }

    #[test]
    fn auto_never_takes_a_software_adapter() {
        let auto = Choice::auto().info().unwrap();
        assert!(!auto.software, "{auto:?}");
    }

    #[test]
    fn an_absent_device_is_named_with_those_present() {
        let error = "cpu:3".parse::<Choice>().unwrap().open().unwrap_err();
        assert!(error.to_string().contains("`cpu:3` is not available: there is one CPU"), "{error}");
        let error = "cuda:99".parse::<Choice>().unwrap().open().unwrap_err();
        assert!(error.to_string().contains("`cuda:99`"), "{error}");
        assert!(error.hint().unwrap().to_string().contains("cpu"));
    }
}
