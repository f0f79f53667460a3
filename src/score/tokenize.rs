//! Tokenizers of sacrebleu for BLEU: `13a`, `intl`, `char`, `zh` and `none`.
//!
//! Rules: `sacrebleu/tokenizers` of sacrebleu 2.6.0, after `mteval-v13a.pl` and `mteval-v14.pl` of Moses.

use crate::{
    error::{Error, Result},
    text::is_space,
};
use regex::Regex;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// Way to split a text into the tokens that BLEU compares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tokenizer {
    /// Separates ASCII punctuation, as the conferences on machine translation do.
    #[default]
    #[serde(rename = "13a")]
    V13a,
    /// Separates punctuation and symbols of all of Unicode.
    #[serde(rename = "intl")]
    International,
    /// Takes each character for a token.
    #[serde(rename = "char")]
    Characters,
    /// Separates each Chinese character, and the rest as `13a` does.
    #[serde(rename = "zh")]
    Chinese,
    /// Splits at white space only.
    #[serde(rename = "none")]
    None,
}

impl Tokenizer {
    pub const ALL: [Self; 5] = [Self::V13a, Self::International, Self::Characters, Self::Chinese, Self::None];

    /// Name of the tokenizer in sacrebleu.
    pub fn name(self) -> &'static str {
        match self {
            Self::V13a => "13a",
            Self::International => "intl",
            Self::Characters => "char",
            Self::Chinese => "zh",
            Self::None => "none",
        }
    }

    /// Tokenizer with a name of sacrebleu.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] if no tokenizer has the name.
    pub fn from_name(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|tokenizer| tokenizer.name() == name)
            .ok_or_else(|| Error::invalid("tokenizer", name, "must be `13a`, `intl`, `char`, `zh` or `none`"))
    }

    /// The text with white space between its tokens.
    pub fn tokenize(self, text: &str) -> String {
        match self {
            Self::V13a => {
                let text = text.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
                // The order counts: `&amp;lt;` becomes `<`.
                let text = text.replace("&quot;", "\"").replace("&amp;", "&");
                apply(&WESTERN, format!(" {} ", text.replace("&lt;", "<").replace("&gt;", ">")))
            }
            Self::International => apply(&INTERNATIONAL, text.to_owned()),
            Self::Characters => text.chars().flat_map(|c| [c, ' ']).collect(),
            Self::Chinese => {
                let mut separated = String::with_capacity(2 * text.len());
                for c in text.trim_matches(is_space).chars() {
                    if is_chinese(c) {
                        separated.extend([' ', c, ' ']);
                    } else {
                        separated.push(c);
                    }
                }
                apply(&WESTERN, separated)
            }
            Self::None => text.to_owned(),
        }
    }
}

/// Replacements in the order in which they are applied.
type Rules = Vec<(Regex, &'static str)>;

fn rules(of: &[(&str, &'static str)]) -> Rules {
    of.iter().map(|(pattern, by)| (Regex::new(pattern).expect("the pattern is valid"), *by)).collect()
}

/// Rules of `13a` and `zh`.
static WESTERN: LazyLock<Rules> = LazyLock::new(|| {
    rules(&[
        (r"([{-~\[-` -&(-+:-@/])", " ${1} "),
        // A period or a comma is separated unless it is between digits.
        (r"([^0-9])([.,])", "${1} ${2} "),
        (r"([.,])([^0-9])", " ${1} ${2}"),
        // A dash is separated if a digit precedes it.
        (r"([0-9])(-)", "${1} ${2} "),
    ])
});

/// Rules of `intl`.
static INTERNATIONAL: LazyLock<Rules> = LazyLock::new(|| {
    rules(&[(r"(\P{N})(\p{P})", "${1} ${2} "), (r"(\p{P})(\P{N})", " ${1} ${2}"), (r"(\p{S})", " ${1} ")])
});

fn apply(rules: &Rules, text: String) -> String {
    rules.iter().fold(text, |text, (pattern, by)| pattern.replace_all(&text, *by).into_owned())
}

/// Whether the tokenizer `zh` separates a character.
fn is_chinese(c: char) -> bool {
    matches!(c,
        '\u{3400}'..='\u{4db5}' // CJK Unified Ideographs Extension A
        | '\u{4e00}'..='\u{9fbb}' // CJK Unified Ideographs
        | '\u{f900}'..='\u{fa2d}' // CJK Compatibility Ideographs
        | '\u{fa30}'..='\u{fa6a}'
        | '\u{fa70}'..='\u{fad9}'
        // sacrebleu means the ideographs from U+20000 to U+2A6D6, and from U+2F800 to U+2FA1D. But it writes
        // `\u20000`, which Python reads as U+2000 and the digit 0. These are the characters that its
        // comparison of strings accepts. Quotation marks and arrows are among them.
        | '\u{2001}'..='\u{2a6d}'
        | '\u{2f81}'..='\u{2fa1}'
        | '\u{ff00}'..='\u{ffef}' // Full width and half width forms
        | '\u{2e80}'..='\u{2eff}' // CJK Radicals Supplement
        | '\u{3000}'..='\u{303f}' // CJK punctuation
        | '\u{31c0}'..='\u{31ef}' // CJK strokes
        | '\u{2f00}'..='\u{2fdf}' // Kangxi radicals
        | '\u{2ff0}'..='\u{2fff}' // Ideographic description
        | '\u{3100}'..='\u{312f}' // Bopomofo
        | '\u{31a0}'..='\u{31bf}'
        | '\u{fe10}'..='\u{fe1f}'
        | '\u{fe30}'..='\u{fe4f}'
        | '\u{3200}'..='\u{33ff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::words;

    fn tokens(tokenizer: Tokenizer, text: &str) -> String {
        words(&tokenizer.tokenize(text)).collect::<Vec<_>>().join(" ")
    }

    /// The expected texts are `sacrebleu.metrics.bleu._get_tokenizer(name)()(text)`.
    #[test]
    fn tokens_are_those_of_sacrebleu() {
        let text = "It's $1,234.56 (or 5%) in 2,a.b -- 3-4. &amp;lt; x&quot;";
        assert_eq!(
            tokens(Tokenizer::V13a, text),
            "It's $ 1,234.56 ( or 5 % ) in 2 , a . b -- 3 - 4 . < x \""
        );
        assert_eq!(
            tokens(Tokenizer::International, text),
            "It ' s $ 1,234.56 ( or 5 % ) in 2 , a . b - - 3-4 . & amp ; lt ; x & quot ;"
        );
        assert_eq!(tokens(Tokenizer::V13a, "a-\nb\nc <skipped>d"), "ab c d");
        assert_eq!(tokens(Tokenizer::V13a, "...1.,.2"), ". . . 1 . , .2");
        assert_eq!(tokens(Tokenizer::Chinese, "中文，a.b “x”→y 3.5"), "中 文 ， a . b “ x ” → y 3.5");
        // U+20000 is an ideograph that sacrebleu does not separate.
        assert_eq!(tokens(Tokenizer::Chinese, "a\u{20000}b"), "a\u{20000}b");
        assert_eq!(tokens(Tokenizer::Characters, "a b\tç"), "a b ç");
        assert_eq!(tokens(Tokenizer::None, " a.  b, "), "a. b,");
    }

    #[test]
    fn an_unknown_name_is_refused() {
        assert_eq!(Tokenizer::from_name("intl"), Ok(Tokenizer::International));
        assert!(Tokenizer::from_name("14a").is_err());
    }
}
