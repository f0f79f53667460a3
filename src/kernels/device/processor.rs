//! Finds the generation of the processor, which its name may not include (virtual machines only report "AMD
//! EPYC"), and the instruction set that the kernels use. Both determine how fast it can be.

/// The widest vector instructions of this processor that matrix products of f32 use; `None` if they are
/// unknown.
pub(super) fn instruction_set() -> Option<&'static str> {
    // As the `gemm` crate chooses.
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected;
        let fma = is_x86_feature_detected!("fma");
        Some(match fma {
            _ if is_x86_feature_detected!("avx512f") => "AVX-512",
            true if is_x86_feature_detected!("avx2") => "AVX2+FMA",
            true => "AVX+FMA",
            false => "SSE2",
        })
    }
    #[cfg(target_arch = "aarch64")]
    {
        std::arch::is_aarch64_feature_detected!("neon").then_some("NEON")
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    None
}

/// Generation of this processor, such as `Zen 4`; `None` if it is unknown.
pub(super) fn generation() -> Option<&'static str> {
    #[cfg(all(feature = "flex", target_arch = "x86_64"))]
    {
        let cpuid = raw_cpuid::CpuId::new();
        let features = cpuid.get_feature_info()?;
        let (family, model) = (features.family_id(), features.model_id());
        match cpuid.get_vendor_info()?.as_str() {
            "AuthenticAMD" => amd(family, model),
            "GenuineIntel" if family == 6 => intel(model, features.stepping_id()),
            _ => None,
        }
    }
    #[cfg(not(all(feature = "flex", target_arch = "x86_64")))]
    None
}

/// Generation of an AMD processor by family and model, as in Linux's `arch/x86/kernel/cpu/amd.c`.
#[cfg_attr(not(all(feature = "flex", target_arch = "x86_64")), allow(dead_code))]
fn amd(family: u8, model: u8) -> Option<&'static str> {
    Some(match (family, model) {
        (0x17, 0x00..=0x2f | 0x50..=0x5f) => "Zen",
        (0x17, 0x30..=0x4f | 0x60..=0x7f | 0x90..=0x91 | 0xa0..=0xaf) => "Zen 2",
        (0x19, 0x00..=0x0f | 0x20..=0x5f) => "Zen 3",
        (0x19, 0x10..=0x1f | 0x60..=0xaf) => "Zen 4",
        (0x1a, 0x00..=0x2f | 0x40..=0x4f | 0x60..=0x7f) => "Zen 5",
        _ => return None,
    })
}

/// Generation of an Intel processor by model, as in Linux's `arch/x86/include/asm/intel-family.h`. Begins
/// with Haswell, the first with AVX2.
#[cfg_attr(not(all(feature = "flex", target_arch = "x86_64")), allow(dead_code))]
fn intel(model: u8, stepping: u8) -> Option<&'static str> {
    Some(match model {
        0x3c | 0x3f | 0x45 | 0x46 => "Haswell",
        0x3d | 0x47 | 0x4f | 0x56 => "Broadwell",
        0x55 => match stepping {
            0..=4 => "Skylake",
            5..=7 => "Cascade Lake",
            _ => "Cooper Lake",
        },
        0x4e | 0x5e => "Skylake",
        0x8e | 0x9e => "Kaby Lake",
        0xa5 | 0xa6 => "Comet Lake",
        0x6a | 0x6c | 0x7d | 0x7e => "Ice Lake",
        0x8c | 0x8d => "Tiger Lake",
        0xa7 => "Rocket Lake",
        0x8f => "Sapphire Rapids",
        0xcf => "Emerald Rapids",
        0xad | 0xae => "Granite Rapids",
        0x97 | 0x9a => "Alder Lake",
        0xb7 | 0xba | 0xbf => "Raptor Lake",
        0xaa | 0xac => "Meteor Lake",
        0xb5 | 0xc5 | 0xc6 => "Arrow Lake",
        0xbd => "Lunar Lake",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uses family and model of EPYC 7001, 7002, 7003, 9004 (Genoa and Bergamo) and 9005, and of Xeons.
    #[test]
    fn generations_are_told_by_family_and_model() {
        let amd: Vec<_> = [
            (0x17, 0x01),
            (0x17, 0x31),
            (0x19, 0x01),
            (0x19, 0x11),
            (0x19, 0xa0),
            (0x1a, 0x02),
            (0x15, 0x02),
        ]
        .map(|(family, model)| amd(family, model).unwrap_or("?"))
        .into();
        assert_eq!(amd, ["Zen", "Zen 2", "Zen 3", "Zen 4", "Zen 4", "Zen 5", "?"]);
        let intel: Vec<_> = [(0x3f, 2), (0x55, 4), (0x55, 7), (0x6a, 6), (0x8f, 8), (0x0f, 1)]
            .map(|(model, stepping)| intel(model, stepping).unwrap_or("?"))
            .into();
        assert_eq!(intel, ["Haswell", "Skylake", "Cascade Lake", "Ice Lake", "Sapphire Rapids", "?"]);
    }

    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    #[test]
    fn the_instruction_set_is_known() {
        assert!(instruction_set().is_some());
    }
}
