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
            let problem = spirv_problem(&adapter);
            DeviceInfo { problem, ..DeviceInfo::new(api, index, kind, description, memory_bytes(&adapter)) }
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

/// Says why SPIR-V kernels would compute wrong results on an adapter. Without an explicit layout of workgroup
/// memory, CubeCL 0.11 exchanges the types of a variable and of its pointer (`tests/README.md`).
fn spirv_problem(adapter: &Adapter) -> Option<String> {
    #[cfg(all(feature = "vulkan", any(target_os = "linux", target_os = "windows")))]
    {
        use ash::{khr::workgroup_memory_explicit_layout as explicit_layout, vk};
        // SAFETY: the handles are read while `adapter` keeps the instance alive, and only queried.
        let vulkan = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>()? };
        if vulkan.shared_instance().instance_api_version() < vk::API_VERSION_1_1 {
            return None;
        }
        let mut model = vk::PhysicalDeviceVulkanMemoryModelFeatures::default();
        let mut address = vk::PhysicalDeviceBufferDeviceAddressFeatures::default();
        let mut layout = vk::PhysicalDeviceWorkgroupMemoryExplicitLayoutFeaturesKHR::default();
        let mut features =
            vk::PhysicalDeviceFeatures2::default().push_next(&mut model).push_next(&mut address);
        if vulkan.physical_device_capabilities().supports_extension(explicit_layout::NAME) {
            features = features.push_next(&mut layout);
        }
        // SAFETY: as above.
        unsafe {
            let instance = vulkan.shared_instance().raw_instance();
            instance.get_physical_device_features2(vulkan.raw_physical_device(), &mut features);
        }
        let makes_spirv = model.vulkan_memory_model & model.vulkan_memory_model_device_scope;
        if makes_spirv & address.buffer_device_address & !layout.workgroup_memory_explicit_layout & 1 != 0 {
            return Some(format!(
                "its driver lacks {}, without which CubeCL's SPIR-V computes wrong results; a build without the \
                 feature `vulkan` computes on it by WGSL",
                explicit_layout::NAME.to_string_lossy()
            ));
        }
    }
    let _ = adapter;
    None
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
