//! Language codes of ISO 639-1 and 639-3.

use std::fmt;
use whatlang::Lang;

/// A language, given by its codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Language {
    /// Code of ISO 639-1, two letters, if there is one.
    two: Option<&'static str>,
    /// Code of ISO 639-3, three letters.
    three: &'static str,
}

impl Language {
    /// The code `und`, for a text that is in no language or in an uncertain one.
    pub const UNDETERMINED: Self = Self { two: None, three: "und" };

    pub(super) const fn new(two: &'static str, three: &'static str) -> Self {
        Self { two: Some(two), three }
    }

    /// The ISO 639-1 code if there is one, otherwise the ISO 639-3 code.
    pub fn code(self) -> &'static str {
        self.two.unwrap_or(self.three)
    }

    /// The ISO 639-3 code.
    pub fn three_letters(self) -> &'static str {
        self.three
    }

    /// Returns whether `code` names this language. The codes of Mandarin, Iranian Persian and Bokmål also name
    /// Chinese, Persian and Norwegian.
    pub fn is(self, code: &str) -> bool {
        let code = match code {
            "cmn" => "zho",
            "pes" => "fas",
            "nob" | "nb" => "no",
            other => other,
        };
        self.two == Some(code) || self.three == code
    }
}

impl fmt::Display for Language {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

pub(super) const ARABIC: Language = Language::new("ar", "ara");
pub(super) const CHINESE: Language = Language::new("zh", "zho");
pub(super) const HINDI: Language = Language::new("hi", "hin");
pub(super) const JAPANESE: Language = Language::new("ja", "jpn");
pub(super) const KOREAN: Language = Language::new("ko", "kor");
pub(super) const PERSIAN: Language = Language::new("fa", "fas");
pub(super) const RUSSIAN: Language = Language::new("ru", "rus");
pub(super) const URDU: Language = Language::new("ur", "urd");
pub(super) const VIETNAMESE: Language = Language::new("vi", "vie");

/// Language of whatlang's value.
pub(super) fn from_whatlang(language: Lang) -> Language {
    let two = match language {
        Lang::Cmn => return CHINESE,
        Lang::Pes => return PERSIAN,
        Lang::Nob => return Language::new("no", "nor"),
        Lang::Epo => "eo",
        Lang::Eng => "en",
        Lang::Rus => "ru",
        Lang::Spa => "es",
        Lang::Por => "pt",
        Lang::Ita => "it",
        Lang::Ben => "bn",
        Lang::Fra => "fr",
        Lang::Deu => "de",
        Lang::Ukr => "uk",
        Lang::Kat => "ka",
        Lang::Ara => "ar",
        Lang::Hin => "hi",
        Lang::Jpn => "ja",
        Lang::Heb => "he",
        Lang::Yid => "yi",
        Lang::Pol => "pl",
        Lang::Amh => "am",
        Lang::Jav => "jv",
        Lang::Kor => "ko",
        Lang::Dan => "da",
        Lang::Swe => "sv",
        Lang::Fin => "fi",
        Lang::Tur => "tr",
        Lang::Nld => "nl",
        Lang::Hun => "hu",
        Lang::Ces => "cs",
        Lang::Ell => "el",
        Lang::Bul => "bg",
        Lang::Bel => "be",
        Lang::Mar => "mr",
        Lang::Kan => "kn",
        Lang::Ron => "ro",
        Lang::Slv => "sl",
        Lang::Hrv => "hr",
        Lang::Srp => "sr",
        Lang::Mkd => "mk",
        Lang::Lit => "lt",
        Lang::Lav => "lv",
        Lang::Est => "et",
        Lang::Tam => "ta",
        Lang::Vie => "vi",
        Lang::Urd => "ur",
        Lang::Tha => "th",
        Lang::Guj => "gu",
        Lang::Uzb => "uz",
        Lang::Pan => "pa",
        Lang::Aze => "az",
        Lang::Ind => "id",
        Lang::Tel => "te",
        Lang::Mal => "ml",
        Lang::Ori => "or",
        Lang::Mya => "my",
        Lang::Nep => "ne",
        Lang::Sin => "si",
        Lang::Khm => "km",
        Lang::Tuk => "tk",
        Lang::Aka => "ak",
        Lang::Zul => "zu",
        Lang::Sna => "sn",
        Lang::Afr => "af",
        Lang::Lat => "la",
        Lang::Slk => "sk",
        Lang::Cat => "ca",
        Lang::Tgl => "tl",
        Lang::Hye => "hy",
        _ => return Language { two: None, three: language.code() },
    };
    Language::new(two, language.code())
}
