//! Scripts of characters by Unicode block, and the languages of scripts that have only one.

use super::codes::{CHINESE, JAPANESE, KOREAN, Language};

/// Scripts that are distinguished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Script {
    Latin,
    Cyrillic,
    Arabic,
    Devanagari,
    Bengali,
    Hebrew,
    Han,
    Kana,
    Hangul,
    Thai,
    Greek,
    Armenian,
    Georgian,
    Gurmukhi,
    Gujarati,
    Oriya,
    Tamil,
    Telugu,
    Kannada,
    Malayalam,
    Sinhala,
    Lao,
    Tibetan,
    Myanmar,
    Ethiopic,
    Khmer,
}

pub(super) const SCRIPTS: usize = Script::Khmer as usize + 1;

impl Script {
    /// Finds the script of a letter by its block; other characters have no script.
    pub(super) fn of(character: char) -> Option<Self> {
        Some(match u32::from(character) {
            0x41..=0x5a | 0x61..=0x7a | 0xc0..=0xd6 | 0xd8..=0xf6 | 0xf8..=0x24f | 0x1e00..=0x1eff => {
                Self::Latin
            }
            0x370..=0x3ff | 0x1f00..=0x1fff => Self::Greek,
            0x400..=0x52f => Self::Cyrillic,
            0x531..=0x587 => Self::Armenian,
            0x5d0..=0x5f4 => Self::Hebrew,
            0x620..=0x64a
            | 0x66e..=0x6d3
            | 0x6fa..=0x6ff
            | 0x750..=0x77f
            | 0xfb50..=0xfdff
            | 0xfe70..=0xfefc => Self::Arabic,
            0x900..=0x963 | 0x970..=0x97f => Self::Devanagari,
            0x980..=0x9e3 | 0x9f0..=0x9f1 => Self::Bengali,
            0xa00..=0xa65 | 0xa70..=0xa75 => Self::Gurmukhi,
            0xa80..=0xae3 => Self::Gujarati,
            0xb00..=0xb63 => Self::Oriya,
            0xb80..=0xbe5 => Self::Tamil,
            0xc00..=0xc65 => Self::Telugu,
            0xc80..=0xce5 => Self::Kannada,
            0xd00..=0xd65 => Self::Malayalam,
            0xd80..=0xdf3 => Self::Sinhala,
            0xe01..=0xe4e => Self::Thai,
            0xe81..=0xecf => Self::Lao,
            0xf40..=0xfbc => Self::Tibetan,
            0x1000..=0x103f => Self::Myanmar,
            0x10a0..=0x10ff | 0x1c90..=0x1cbf => Self::Georgian,
            0x1100..=0x11ff | 0x3131..=0x318e | 0xac00..=0xd7a3 => Self::Hangul,
            0x1200..=0x139f => Self::Ethiopic,
            0x1780..=0x17d3 => Self::Khmer,
            0x3041..=0x30ff | 0x31f0..=0x31ff | 0xff66..=0xff9d => Self::Kana,
            0x3005..=0x3007 | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0x20000..=0x3ffff => {
                Self::Han
            }
            _ => return None,
        })
    }

    /// Language of a script that has only one, or nearly.
    pub(super) fn language(self) -> Option<Language> {
        Some(match self {
            Self::Han => CHINESE,
            Self::Kana => JAPANESE,
            Self::Hangul => KOREAN,
            Self::Thai => Language::new("th", "tha"),
            Self::Greek => Language::new("el", "ell"),
            Self::Armenian => Language::new("hy", "hye"),
            Self::Georgian => Language::new("ka", "kat"),
            Self::Gurmukhi => Language::new("pa", "pan"),
            Self::Gujarati => Language::new("gu", "guj"),
            Self::Oriya => Language::new("or", "ori"),
            Self::Tamil => Language::new("ta", "tam"),
            Self::Telugu => Language::new("te", "tel"),
            Self::Kannada => Language::new("kn", "kan"),
            Self::Malayalam => Language::new("ml", "mal"),
            Self::Sinhala => Language::new("si", "sin"),
            Self::Lao => Language::new("lo", "lao"),
            Self::Tibetan => Language::new("bo", "bod"),
            Self::Myanmar => Language::new("my", "mya"),
            Self::Ethiopic => Language::new("am", "amh"),
            Self::Khmer => Language::new("km", "khm"),
            Self::Latin | Self::Cyrillic | Self::Arabic | Self::Devanagari | Self::Bengali | Self::Hebrew => {
                return None;
            }
        })
    }
}

/// Scripts for which [`Script::language`] alone decides, without those of Chinese and Japanese.
pub(super) const ALONE: [Script; 18] = [
    Script::Hangul,
    Script::Thai,
    Script::Greek,
    Script::Armenian,
    Script::Georgian,
    Script::Gurmukhi,
    Script::Gujarati,
    Script::Oriya,
    Script::Tamil,
    Script::Telugu,
    Script::Kannada,
    Script::Malayalam,
    Script::Sinhala,
    Script::Lao,
    Script::Tibetan,
    Script::Myanmar,
    Script::Ethiopic,
    Script::Khmer,
];
