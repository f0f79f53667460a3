//! Normalizes text to one of Unicode's forms.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick, is_nfkc_quick};

/// Normalization form of Unicode's annex 15.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    None,
    /// Letters and their accents become one character where Unicode has one. Nothing is lost.
    #[default]
    Nfc,
    /// As NFC; ligatures, full-width letters, superscripts and the like also become plain characters: `x²`
    /// becomes `x2`.
    Nfkc,
}

/// Normalizes a text to a form.
pub fn normalize(text: &str, form: Form) -> Cow<'_, str> {
    let normal = match form {
        Form::None => true,
        _ if text.is_ascii() => true,
        Form::Nfc => is_nfc_quick(text.chars()) == IsNormalized::Yes,
        Form::Nfkc => is_nfkc_quick(text.chars()) == IsNormalized::Yes,
    };
    match form {
        _ if normal => Cow::Borrowed(text),
        Form::Nfkc => Cow::Owned(text.nfkc().collect()),
        _ => Cow::Owned(text.nfc().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_as_unicode_has_them() {
        assert_eq!(normalize("e\u{301} ﬁ x² Ａ", Form::Nfc), "é ﬁ x² Ａ");
        assert_eq!(normalize("e\u{301} ﬁ x² Ａ", Form::Nfkc), "é fi x2 A");
        assert_eq!(normalize("e\u{301}", Form::None), "e\u{301}");
        assert!(matches!(normalize("é plain", Form::Nfc), Cow::Borrowed(_)));
    }
}
