//! Phrases that the rules search for, in any case.

use aho_corasick::{AhoCorasick, AhoCorasickBuilder};
use std::{borrow::Cow, sync::LazyLock};

/// C4's `POLICY_SUBSTRINGS`, then the phrases that C4 searches for by name.
const C4: [&str; 8] = [
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
    "javascript",
    "lorem ipsum",
];

/// Kinds of phrase that a line or paragraph contains.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mentions {
    pub policy: bool,
    pub javascript: bool,
    pub lorem_ipsum: bool,
}

impl Mentions {
    pub(super) fn of(text: &str) -> Self {
        static PHRASES: LazyLock<AhoCorasick> = LazyLock::new(|| matcher(&C4));
        let mut mentions = Self::default();
        for found in PHRASES.find_iter(lower_kelvin(text).as_bytes()) {
            match found.pattern().as_usize() {
                6 => mentions.javascript = true,
                7 => mentions.lorem_ipsum = true,
                _ => mentions.policy = true,
            }
        }
        mentions
    }
}

/// Builds a matcher of phrases that ignores the case of ASCII letters.
pub(super) fn matcher<P: AsRef<[u8]>>(phrases: &[P]) -> AhoCorasick {
    // Only patterns of more than 2 GB are refused, and the phrases are few and short.
    AhoCorasickBuilder::new().ascii_case_insensitive(true).build(phrases).expect("short phrases")
}

/// Replaces the kelvin sign, the only character beyond ASCII whose lower case is a single ASCII letter.
fn lower_kelvin(text: &str) -> Cow<'_, str> {
    if !text.is_ascii() && text.contains('\u{212a}') {
        Cow::Owned(text.replace('\u{212a}', "k"))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_are_found_in_any_case() {
        assert!(Mentions::of("See our Privacy Policy").policy);
        assert!(Mentions::of("It uses coo\u{212a}ies.").policy);
        assert!(Mentions::of("JAVASCRIPT").javascript && Mentions::of("a Lorem Ipsum b").lorem_ipsum);
        assert_eq!(Mentions::of("nothing of the kind"), Mentions::default());
    }
}
