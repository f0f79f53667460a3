//! Adapters as Burn's wgpu runtime numbers them: it chooses the first graphics API that has hardware, and
//! counts each type of adapter from zero.

use super::{Api, Choice, DeviceInfo, Kind};
use burn::tensor::{Device, DeviceKind};
use wgpu::{Adapter, Backend, DeviceType};

pub(super) fn list(api: Api) -> Vec<DeviceInfo> {
    let adapters = ranked(api).into_iter().enumerate();
    adapters
        .map(|(index, (adapter, kind, _))| {
            let info = adapter.get_info();
            let description = format!("{} ({:?})", info.name, info.backend);
            DeviceInfo::new(api, index, kind, description, memory_bytes(&adapter))
        })
        .collect()
}

pub(super) fn open(choice: &Choice) -> Device {
    let kind = ranked(choice.api).into_iter().nth(choice.index);
    let kind = kind.map_or(DeviceKind::DefaultDevice, |(_, _, kind)| kind);
    match choice.api {
        #[cfg(feature = "vulkan")]
        Api::Vulkan => Device::vulkan(kind),
        #[cfg(feature = "metal")]
        Api::Metal => Device::metal(kind),
        _ => Device::wgpu(kind),
    }
}

/// Adapters of one API, best first, each with the selector that Burn uses for it.
fn ranked(api: Api) -> Vec<(Adapter, Kind, DeviceKind)> {
    let mut counts = [0usize; 3];
    let mut next = |i: usize| {
        counts[i] += 1;
        counts[i] - 1
    };
    let mut adapters: Vec<_> = settled(api)
        .into_iter()
        .filter_map(|adapter| {
            let (kind, selector) = match adapter.get_info().device_type {
                DeviceType::DiscreteGpu => (Kind::DiscreteGpu, DeviceKind::DiscreteGpu(next(0))),
                DeviceType::IntegratedGpu => (Kind::IntegratedGpu, DeviceKind::IntegratedGpu(next(1))),
                DeviceType::VirtualGpu => (Kind::OtherGpu, DeviceKind::VirtualGpu(next(2))),
                DeviceType::Cpu => (Kind::Software, DeviceKind::Cpu),
                // Burn has no selector for these.
                DeviceType::Other => return None,
            };
            Some((adapter, kind, selector))
        })
        .collect();
    adapters.sort_by_key(|(_, kind, _)| std::cmp::Reverse(*kind));
    adapters
}

fn settled(api: Api) -> Vec<Adapter> {
    let chain: &[Backend] = match api {
        Api::Vulkan => &[Backend::Vulkan],
        Api::Metal => &[Backend::Metal],
        _ if cfg!(target_os = "macos") => &[Backend::Metal],
        _ if cfg!(target_os = "windows") => &[Backend::Vulkan, Backend::Dx12, Backend::Gl],
        _ => &[Backend::Vulkan, Backend::Gl],
    };
    let mut software_only = Vec::new();
    for &backend in chain {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends: backend.into(),
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        let adapters = pollster::block_on(instance.enumerate_adapters(backend.into()));
        if adapters.iter().any(|adapter| adapter.get_info().device_type != DeviceType::Cpu) {
            return adapters;
        }
        if software_only.is_empty() {
            software_only = adapters;
        }
    }
    software_only
}

/// Size of the largest device-local heap under Vulkan; `None` if the API does not report it.
fn memory_bytes(adapter: &Adapter) -> Option<u64> {
    #[cfg(any(target_os = "linux", target_os = "windows"))]
    {
        // SAFETY: the handles are read while `adapter` keeps the instance alive, and only
        // queried, never destroyed.
        unsafe {
            let vulkan = adapter.as_hal::<wgpu::hal::api::Vulkan>()?;
            let instance = vulkan.shared_instance().raw_instance();
            let properties = instance.get_physical_device_memory_properties(vulkan.raw_physical_device());
            let heaps = properties.memory_heaps_as_slice().iter();
            // VK_MEMORY_HEAP_DEVICE_LOCAL_BIT
            heaps.filter(|heap| heap.flags.as_raw() & 1 != 0).map(|heap| heap.size).max()
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "windows")))]
    {
        let _ = adapter;
        None
    }
}
