//! C4's rules (Raffel et al., 2020, <https://jmlr.org/papers/volume21/20-074/20-074.pdf>), as
//! `C4QualityFilter` of datatrove 0.10.1 has them. They drop lines, so the text may be rewritten.

use super::super::text::{
    Text,
    characters::{Classes, DECIMAL, count, lines, split_space, strip},
    sentences,
};
use super::{Verdict, ends_sentence, phrases::Mentions};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct C4 {
    /// Applies the rules to sentences instead of lines.
    pub by_sentence: bool,
    /// Removes `[1]`, `[edit]` and `[citation needed]`.
    pub remove_citations: bool,
    /// Drops lines without an end mark.
    pub require_end_mark: bool,
    /// Minimum sentences in the lines that are left; documents with fewer are dropped.
    pub min_sentences: usize,
    /// Minimum words of a line.
    pub min_line_words: usize,
    /// Maximum characters of a word in a line; not checked where words are written without spaces.
    pub max_word_length: usize,
    /// Drops documents with `lorem ipsum`.
    pub drop_lorem_ipsum: bool,
    /// Drops lines with `javascript`.
    pub drop_javascript: bool,
    /// Drops documents with `{`.
    pub drop_curly_bracket: bool,
    /// Drops lines with `privacy policy` and the like.
    pub drop_policy: bool,
}

impl Default for C4 {
    fn default() -> Self {
        Self {
            by_sentence: false,
            remove_citations: true,
            require_end_mark: true,
            min_sentences: 5,
            min_line_words: 3,
            max_word_length: 1000,
            drop_lorem_ipsum: true,
            drop_javascript: true,
            drop_curly_bracket: true,
            drop_policy: true,
        }
    }
}

/// Outcome of the rules for a line.
enum Fate<'a> {
    Keep(Cow<'a, str>),
    Drop,
    DropDocument(&'static str),
}

impl C4 {
    pub fn check(&self, document: &Text) -> Verdict {
        let text = document.text();
        let mut kept = String::with_capacity(text.len());
        let (mut sentences, mut first) = (0, true);
        let mut each = |line| {
            let line = match self.line(document, line) {
                Fate::Keep(line) => line,
                Fate::Drop => return None,
                Fate::DropDocument(reason) => return Some(reason),
            };
            // Counting goes no further than is asked for.
            if sentences < self.min_sentences {
                sentences += if self.by_sentence { 1 } else { document.sentences_in(&line) };
            }
            if !first {
                kept.push(if self.by_sentence { ' ' } else { '\n' });
            }
            first = false;
            kept.push_str(&line);
            None
        };
        let dropped = if self.by_sentence {
            sentences::pieces(text, document.tokens()).into_iter().find_map(&mut each)
        } else {
            lines(text).find_map(&mut each)
        };
        if let Some(reason) = dropped {
            return Verdict::Drop { reason };
        }
        if document.family().has_end_marks() && sentences < self.min_sentences {
            return Verdict::Drop { reason: "too_few_sentences" };
        }
        let kept = strip(&kept);
        if kept == text { Verdict::Keep } else { Verdict::Rewrite(kept.into()) }
    }

    fn line<'a>(&self, document: &Text, line: &'a str) -> Fate<'a> {
        let family = document.family();
        let whole = strip(line);
        let limit = self.max_word_length;
        // No word is longer than its line.
        if limit != 0
            && whole.len() > limit
            && family.has_spaces()
            && split_space(whole).any(|word| word.len() > limit && count(word) > limit)
        {
            return Fate::Drop;
        }
        let line = if self.remove_citations { without_citations(whole) } else { Cow::Borrowed(whole) };
        let ends = ends_sentence(&line, family) && !line.ends_with("...");
        if self.require_end_mark && family.has_end_marks() && !ends {
            return Fate::Drop;
        }
        if document.plain_words_in(whole, self.min_line_words) < self.min_line_words {
            return Fate::Drop;
        }
        let mentions = Mentions::of(&line);
        if self.drop_lorem_ipsum && mentions.lorem_ipsum {
            Fate::DropDocument("lorem_ipsum")
        } else if self.drop_javascript && mentions.javascript {
            Fate::Drop
        } else if self.drop_curly_bracket && memchr::memchr(b'{', line.as_bytes()).is_some() {
            Fate::DropDocument("curly_bracket")
        } else if self.drop_policy && mentions.policy {
            Fate::Drop
        } else {
            Fate::Keep(line)
        }
    }
}

/// Removes the parts of a line that `\[\d*]|\[edit]|\[citation needed]` matches.
fn without_citations(line: &str) -> Cow<'_, str> {
    let mut kept = String::new();
    let (mut from, mut at) = (0, 0);
    while let Some(open) = memchr::memchr(b'[', &line.as_bytes()[at..]) {
        let open = at + open;
        at = open + 1;
        if let Some(length) = citation(&line[at..]) {
            kept.push_str(&line[from..open]);
            at += length;
            from = at;
        }
    }
    if from == 0 {
        return Cow::Borrowed(line);
    }
    kept.push_str(&line[from..]);
    Cow::Owned(kept)
}

/// Length of a citation in `rest`, which begins after its `[`.
fn citation(rest: &str) -> Option<usize> {
    let words = ["edit]", "citation needed]"];
    if let Some(word) = words.iter().find(|word| rest.starts_with(**word)) {
        return Some(word.len());
    }
    let classes = Classes::get();
    let digits = rest.find(|character| !classes.is(character, DECIMAL))?;
    rest[digits..].starts_with(']').then_some(digits + 1)
}

#[cfg(test)]
mod tests {
    use super::super::Profile;
    use super::super::tests::verdict;
    use super::*;

    fn check(text: &str) -> Verdict {
        verdict(&Profile::C4(Default::default()), text)
    }

    /// Expected results, made by datatrove 0.10.1: `C4QualityFilter().filter(Document(text=text, id=""))`.
    #[test]
    fn lines_and_documents_go_as_in_datatrove() {
        let good = "The cat sat down. It was very tired then.\nAnother line is here! Is it so?\nHe said \"this is fine.\"";
        assert_eq!(check(good), Verdict::Keep);
        assert_eq!(check("The cat sat down."), Verdict::Drop { reason: "too_few_sentences" });
        assert_eq!(
            check(&format!("{good}\nHere is Lorem ipsum text.")),
            Verdict::Drop { reason: "lorem_ipsum" }
        );
        assert_eq!(check(&format!("{good}\nHere is {{ a brace.")), Verdict::Drop { reason: "curly_bracket" });
        let rewritten = Verdict::Rewrite(good.into());
        let long = format!("{} a b.", "x".repeat(1001));
        for line in [
            "no punctuation {",
            "ends with dots and...",
            "Please enable Javascript in browser.",
            "See our Privacy Policy right now.",
            "Two words.",
            "citation at the end. [2]",
            &long,
        ] {
            assert_eq!(check(&format!("{good}\r\n{line}")), rewritten, "{line}");
        }
        let cited = good.replace("down.", "down[1][edit] [12x][٣].");
        assert_eq!(check(&cited), Verdict::Rewrite(good.replace("down.", "down [12x].")));
    }

    #[test]
    fn sentences_can_take_the_place_of_lines() {
        let rules = C4 { by_sentence: true, min_sentences: 2, ..Default::default() };
        let text = "The cat sat down. No. It was very\ntired then.";
        let kept = Verdict::Rewrite("The cat sat down. It was very\ntired then.".into());
        assert_eq!(verdict(&Profile::C4(rules), text), kept);
    }
}
