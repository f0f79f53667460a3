//! Types of numbers that matrix products are computed with.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Type that the factors of matrix products are rounded to. Sums are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 24 binary digits.
    #[default]
    F32,
    /// At least 11 digits and the range of f32, where a device has faster products of such numbers; f32 elsewhere.
    Tf32,
    /// 8 digits and the range of f32.
    Bf16,
    /// 11 digits up to 65,504.
    F16,
}

impl Precision {
    pub const ALL: [Self; 4] = [Self::F32, Self::Tf32, Self::Bf16, Self::F16];

    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// Whether numbers of this type take two bytes.
    pub fn is_small(self) -> bool {
        matches!(self, Self::Bf16 | Self::F16)
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|precision| precision.name() == name);
        found.ok_or_else(|| format!("expected one of {}", Self::ALL.map(Self::name).join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_alike() {
        for precision in Precision::ALL {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
        assert_eq!("half".parse::<Precision>().unwrap_err(), "expected one of f32, tf32, bf16, f16");
    }
}
