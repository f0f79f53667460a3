//! Drops gibberish: text that a language model of characters finds too improbable.

use serde::{Deserialize, Serialize};

/// Range of bits per character in which texts are kept.
///
/// The default was set with a model of 1 MB of Shakespeare's plays, on pieces of 300 characters (2026-11-25,
/// `examples/calibrate.rs` of the crate that this comes from). Above 6.0 bits are:
/// - 0.05% of 12,500 pieces of English prose from other sources (0.3% are above 4.5),
/// - 6% of 9,600 pieces of READMEs with their code and tables (0.7% are above 7.0),
/// - all random letters (1% of them are below 11.1), keys struck at random (9.6), Base64 (10.9), hexadecimal
///   digits and dumps (7.2), and shuffled letters (7.2 within words, 7.7 over all),
/// - 93% of the nonsense in which each letter is drawn given the one before as in English, but hardly any if
///   it is drawn given two or more. Shuffled words are English to the model.
///
/// Other languages in the model's letters score high too, in the median: French, Italian and Spanish 4.6 to
/// 4.9, German and Dutch 5.7, Polish 7.0. Identify languages first, or train on those to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NgramFilter {
    /// Minimum bits per character; lists and repetitions are below it.
    pub min_bits: f64,
    /// Maximum bits per character; gibberish is above it.
    pub max_bits: f64,
}

impl Default for NgramFilter {
    fn default() -> Self {
        Self { min_bits: 0.0, max_bits: 6.0 }
    }
}

impl NgramFilter {
    /// Returns whether a text with this score is kept; one without a score is.
    pub fn keeps(&self, bits_per_character: Option<f64>) -> bool {
        bits_per_character.is_none_or(|bits| (self.min_bits..=self.max_bits).contains(&bits))
    }
}

#[cfg(test)]
mod tests {
    use super::super::ngram::{
        NgramConfig,
        tests::{TEXT, counted},
    };
    use super::*;

    #[test]
    fn tells_text_from_gibberish() {
        let model = counted(&TEXT.repeat(3), &NgramConfig::default());
        let bits = |text: &str| model.bits_per_character(text).unwrap();
        assert!(bits("the dog jumps over the fox") < 2.5);
        assert!(bits("xq zkvj wpqh gjzx kqj") > 5.0);
        assert_eq!(bits("THE  DOG\n"), bits(" the dog"));
        assert_eq!(model.bits_per_character(" \n"), None);
        let filter = NgramFilter::default();
        assert!(filter.keeps(Some(2.0)) && !filter.keeps(Some(7.0)) && filter.keeps(None));
    }

    #[test]
    fn letters_decide() {
        let model = counted(&TEXT.repeat(3), &NgramConfig::default());
        let bits = |text: &str| model.bits_per_character(text);
        assert_eq!(bits("The dog: 17% [@3.5]; jumps!"), bits("the dog jumps"));
        assert_eq!(bits("12:30 -- 4.5 {}"), None);
        for gibberish in
            ["dGhlIHF1aWNrIGJyb3duIGZveCBqdW1w", "4f7a 0c1e d3b5 99ab cdfe a01f", "asdfjkl qwrtz bvcxn"]
        {
            assert!(bits(gibberish).unwrap() > 5.0, "{gibberish}: {:?}", bits(gibberish));
        }
    }

    #[test]
    fn other_scripts_have_no_score() {
        // One Greek word in much English does not make Greek known.
        let model =
            counted(&(TEXT.repeat(400) + "λόγος"), &NgramConfig { min_count: 1, ..Default::default() });
        let bits = |text: &str| model.bits_per_character(text);
        for (text, is_scored) in [
            ("Все счастливые семьи похожи друг на друга.", false),
            ("天地玄黃，宇宙洪荒。", false),
            ("すべての人間は、生まれながらにして自由である", false),
            ("모든 인간은 태어날 때부터 자유롭다", false),
            ("सभी मनुष्यों को गौरव और अधिकारों", false),
            ("يولد جميع الناس أحرارا", false),
            ("λόγος λόγος", false),
            ("Кошка said the dog", true),
        ] {
            assert_eq!(bits(text).is_some(), is_scored, "{text}");
            assert!(NgramFilter::default().keeps(bits(text)));
        }
        // What is foreign does not make the rest gibberish, nor less so.
        assert!(bits("the quick 天地 fox jumps").unwrap() < 4.0);
        assert!(bits("xqzkvjwpqh 天地").unwrap() > 6.0);
    }
}
