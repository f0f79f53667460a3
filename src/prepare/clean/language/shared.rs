//! Distinguishes languages that share a script: by letters that only one of them has, by their commonest
//! words, and otherwise by trigrams (`whatlang`).

use super::{
    Identified,
    codes::{ARABIC, Language, PERSIAN, RUSSIAN, URDU, VIETNAMESE, from_whatlang},
    script::Script,
    words,
};

pub(super) fn by_trigrams(text: &str) -> Option<Identified> {
    let info = whatlang::detect(text)?;
    Some(Identified { language: from_whatlang(info.lang()), confidence: info.confidence() })
}

/// Identifies a language in Latin script. Vietnamese has so many letters of its own that it needs no
/// trigrams.
pub(super) fn latin(text: &str, letters: usize, share: f64) -> Identified {
    let own = text.chars().filter(|&character| {
        matches!(u32::from(character), 0x1ea0..=0x1ef9 | 0x110 | 0x111 | 0x1a0 | 0x1a1 | 0x1af | 0x1b0)
    });
    if own.count() * 12 > letters {
        return Identified { language: VIETNAMESE, confidence: share };
    }
    if let Some(language) = words::identify(text) {
        return Identified { language, confidence: share };
    }
    let guess = by_trigrams(text).unwrap_or(Identified::NONE);
    Identified { confidence: guess.confidence * share, ..guess }
}

/// Identifies Arabic, Persian or Urdu. The latter two have letters that Arabic lacks in nearly every
/// sentence.
pub(super) fn arabic(text: &str) -> Language {
    let (mut letters, mut persian, mut urdu) = (0, 0, 0);
    for character in text.chars() {
        letters += usize::from(Script::of(character) == Some(Script::Arabic));
        match character {
            'ٹ' | 'ڈ' | 'ڑ' | 'ں' | 'ے' | 'ہ' | 'ھ' => urdu += 1,
            'پ' | 'چ' | 'ژ' | 'گ' | 'ک' | 'ی' => persian += 1,
            _ => {}
        }
    }
    match () {
        () if urdu * 25 > letters => URDU,
        () if persian * 25 > letters => PERSIAN,
        () => ARABIC,
    }
}

/// Identifies a language in Cyrillic script: by trigrams if they are certain, otherwise by letters that only
/// one language has.
pub(super) fn cyrillic(text: &str, share: f64) -> Identified {
    let has = |letters: &str| text.chars().filter(|&character| letters.contains(character)).count();
    let guess = by_trigrams(text);
    if let Some(guess) = guess.filter(|guess| guess.confidence > 0.8) {
        return Identified { confidence: guess.confidence * share, ..guess };
    }
    let candidates = [
        (Language::new("be", "bel"), has("ўЎ") * 2),
        (Language::new("uk", "ukr"), has("іїєґІЇЄҐ")),
        (Language::new("mk", "mkd"), has("ѓќѕЃЌЅ") * 3),
        (Language::new("sr", "srp"), has("ђћљњјЂЋЉЊЈ")),
        (Language::new("kk", "kaz"), has("қңұһәҚҢҰҺӘ")),
        (RUSSIAN, has("ыэёЫЭЁ")),
    ];
    let best = candidates.into_iter().rev().max_by_key(|&(_, count)| count).filter(|&(_, count)| count > 0);
    match (best, guess) {
        (Some((language, _)), _) => Identified { language, confidence: 0.8 * share },
        (None, Some(guess)) if guess.language.is("bg") => Identified { confidence: 0.6 * share, ..guess },
        (None, _) => Identified { language: RUSSIAN, confidence: 0.6 * share },
    }
}
