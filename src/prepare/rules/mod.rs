//! Rules that keep, rewrite or drop documents. Each profile is named after its source, since rules of the
//! same name differ between tools. Thresholds are compared as the source does, so that a value equal to one
//! is kept. A threshold of 0 switches its check off.

pub mod c4;
pub mod curator;
pub mod fineweb;
pub mod gopher_quality;
pub mod gopher_repetition;
pub mod lines;
mod phrases;
pub mod statistics;

use super::text::{
    Text,
    characters::{Classes, TERMINAL},
    language::Family,
};
use serde::{Deserialize, Serialize};

/// Verdict of a profile on a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    /// The document is kept with this text instead of its own.
    Rewrite(String),
    /// The document is dropped. `reason` is the source's own name for it, so that counts can be compared.
    Drop {
        reason: &'static str,
    },
}

/// The rules of one source, with their settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "profile", rename_all = "kebab-case")]
pub enum Profile {
    GopherRepetition(gopher_repetition::GopherRepetition),
    GopherQuality(gopher_quality::GopherQuality),
    C4(c4::C4),
    Fineweb(fineweb::Fineweb),
    Curator(curator::Curator),
    Lines(lines::Lines),
}

impl Profile {
    /// Name of the profile in a pipeline file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::GopherRepetition(_) => "gopher-repetition",
            Self::GopherQuality(_) => "gopher-quality",
            Self::C4(_) => "c4",
            Self::Fineweb(_) => "fineweb",
            Self::Curator(_) => "curator",
            Self::Lines(_) => "lines",
        }
    }

    pub fn check(&self, document: &Text) -> Verdict {
        match self {
            Self::GopherRepetition(rules) => rules.check(document),
            Self::GopherQuality(rules) => rules.check(document),
            Self::C4(rules) => rules.check(document),
            Self::Fineweb(rules) => rules.check(document),
            Self::Curator(rules) => rules.check(document),
            Self::Lines(rules) => rules.check(document),
        }
    }

    /// Profiles of FineWeb, in its order. Its use of C4's rules does not require end marks on lines
    /// (datatrove, `examples/fineweb.py`).
    pub fn fineweb_recipe() -> Vec<Self> {
        vec![
            Self::GopherRepetition(Default::default()),
            Self::GopherQuality(Default::default()),
            Self::C4(c4::C4 { require_end_mark: false, ..Default::default() }),
            Self::Fineweb(Default::default()),
        ]
    }
}

/// Applies profiles in order, each to the text that the one before left. If a profile drops the document, its
/// name is returned too.
pub fn check_all(profiles: &[Profile], document: &Text) -> (Verdict, Option<&'static str>) {
    let mut rewritten: Option<String> = None;
    for (position, profile) in profiles.iter().enumerate() {
        match profile.check(document) {
            Verdict::Keep => {}
            Verdict::Rewrite(text) => {
                let next = document.rewritten(&text);
                let (verdict, name) = check_all(&profiles[position + 1..], &next);
                if verdict != Verdict::Keep {
                    return (verdict, name);
                }
                rewritten = Some(text);
                break;
            }
            verdict => return (verdict, Some(profile.name())),
        }
    }
    (rewritten.map_or(Verdict::Keep, Verdict::Rewrite), None)
}

/// Computes `part / whole`, or 0 if `whole` is 0.
fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Returns whether a maximum is set and exceeded.
fn above(value: f64, maximum: f64) -> bool {
    maximum != 0.0 && value > maximum
}

/// Returns whether a minimum is set and not reached.
fn below(value: f64, minimum: f64) -> bool {
    minimum != 0.0 && value < minimum
}

/// C4's end marks.
const END_MARKS: [char; 5] = ['.', '?', '!', '"', '\''];
/// Closing marks that may follow the end mark in languages other than English.
const CLOSING_MARKS: [char; 8] = ['”', '’', '»', '」', '』', '）', '】', ')'];

/// Returns whether a line ends as a sentence does: in one of C4's marks or, if the text is not English, in
/// one of its own script.
fn ends_sentence(line: &str, family: Family) -> bool {
    let Some(last) = line.chars().next_back() else { return false };
    END_MARKS.contains(&last)
        || !family.is_english() && (Classes::get().is(last, TERMINAL) || CLOSING_MARKS.contains(&last))
}

/// Counts the elements that occurred before in the list, and their characters (datatrove's
/// `find_duplicates`).
fn duplicates<'a>(elements: impl Iterator<Item = &'a str>) -> (usize, usize) {
    let mut seen = rustc_hash::FxHashSet::default();
    let (mut count, mut characters) = (0, 0);
    for element in elements {
        if !seen.insert(element) {
            count += 1;
            characters += super::text::characters::count(element);
        }
    }
    (count, characters)
}

#[cfg(test)]
mod tests {
    use super::super::text::words::Words;
    use super::*;

    /// Checks an English text.
    pub fn verdict(profile: &Profile, text: &str) -> Verdict {
        profile.check(&Text::new(text, "en", &Words::default()))
    }

    #[test]
    fn profiles_are_read_with_defaults_and_refuse_unknown_fields() {
        let read = |json: &str| serde_json::from_str::<Profile>(json);
        let profile = read(r#"{"profile": "c4", "min_sentences": 2}"#).unwrap();
        assert_eq!(profile, Profile::C4(c4::C4 { min_sentences: 2, ..Default::default() }));
        for name in ["gopher-repetition", "gopher-quality", "c4", "fineweb", "curator", "lines"] {
            let profile = read(&format!(r#"{{"profile": "{name}"}}"#)).unwrap();
            assert_eq!(profile.name(), name);
            assert!(read(&format!(r#"{{"profile": "{name}", "mistyped": 1}}"#)).is_err(), "{name}");
        }
    }

    #[test]
    fn later_profiles_see_what_earlier_ones_rewrote() {
        let words = Words::default();
        let text = "A line of text.\n[1] no end mark here\nAnd another line of text.";
        let c4 = Profile::C4(c4::C4 { min_sentences: 1, ..Default::default() });
        let fineweb = Profile::Fineweb(fineweb::Fineweb {
            max_short_lines: 0.0,
            min_end_marks: 0.7,
            ..Default::default()
        });
        let document = Text::new(text, "en", &words);
        assert_eq!(fineweb.check(&document), Verdict::Drop { reason: "line_punct_ratio" });
        let kept = Verdict::Rewrite("A line of text.\nAnd another line of text.".into());
        assert_eq!(check_all(&[c4.clone(), fineweb.clone()], &document), (kept, None));
        let dropped = (Verdict::Drop { reason: "line_punct_ratio" }, Some("fineweb"));
        assert_eq!(check_all(&[fineweb, c4], &document), dropped);
    }

    #[test]
    fn texts_without_words_divide_by_nothing() {
        let recipe = Profile::fineweb_recipe();
        let others = [Profile::Curator(Default::default()), Profile::Lines(Default::default())];
        for text in ["", " ", "\n", "\u{85}", "a", "。"] {
            for language in ["en", "zh", "de", "th", ""] {
                for profile in recipe.iter().chain(&others) {
                    profile.check(&Text::new(text, language, &Words::default()));
                }
            }
        }
    }

    #[test]
    fn no_profile_drops_good_text_of_other_scripts() {
        let samples = include_str!("../../../tests/fixtures/languages.jsonl");
        let samples = samples.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let profiles = [
            Profile::GopherRepetition(Default::default()),
            Profile::GopherQuality(Default::default()),
            Profile::C4(Default::default()),
            Profile::Fineweb(Default::default()),
            Profile::Curator(Default::default()),
            Profile::Lines(Default::default()),
        ];
        for sample in samples {
            let (language, text) = (sample["id"].as_str().unwrap(), sample["text"].as_str().unwrap());
            for name in [language, ""] {
                for profile in &profiles {
                    let verdict = profile.check(&Text::new(text, name, &Words::default()));
                    assert_eq!(verdict, Verdict::Keep, "{language} {}", profile.name());
                }
            }
        }
    }
}
