//! Characters that mark parts of a text while it is rendered. They are for private use in Unicode, and text
//! that contains them is refused, so that nobody can forge a mark.

use std::{cmp::Reverse, collections::BTreeSet, ops::Range};

/// Begin and end of a part that the model generates.
pub const GENERATED: [char; 2] = ['\u{10FFF0}', '\u{10FFF1}'];

/// Begin and end of a text that reads like a control token, but was written by a user.
pub const SPELLED: [char; 2] = ['\u{10FFF2}', '\u{10FFF3}'];

/// The first character of a text that is a mark.
pub fn find(text: &str) -> Option<char> {
    text.chars().find(|&c| is_mark(c))
}

fn is_mark(c: char) -> bool {
    GENERATED.contains(&c) || SPELLED.contains(&c)
}

/// Texts of control tokens, which are found in other texts.
#[derive(Debug, Clone, Default)]
pub struct Controls {
    /// Sorted by length, longest first.
    texts: Vec<String>,
    /// Bytes that one of the texts begins with.
    first_bytes: BTreeSet<u8>,
}

impl Controls {
    pub fn new(texts: impl IntoIterator<Item = String>) -> Self {
        let mut texts: Vec<String> = texts.into_iter().filter(|text| !text.is_empty()).collect();
        texts.sort_by_key(|text| Reverse(text.len()));
        let first_bytes = texts.iter().map(|text| text.as_bytes()[0]).collect();
        Self { texts, first_bytes }
    }

    /// The longest of the texts that another one begins with.
    fn at(&self, text: &str) -> Option<&str> {
        let first = text.as_bytes().first()?;
        if !self.first_bytes.contains(first) {
            return None;
        }
        self.texts.iter().map(String::as_str).find(|control| text.starts_with(control))
    }

    /// Puts marks around each of them in a text.
    pub fn mark(&self, text: &str) -> String {
        let mut marked = String::with_capacity(text.len());
        let mut at = 0;
        while let Some(c) = text[at..].chars().next() {
            match self.at(&text[at..]) {
                Some(control) => {
                    marked.push(SPELLED[0]);
                    marked.push_str(control);
                    marked.push(SPELLED[1]);
                    at += control.len();
                }
                None => {
                    marked.push(c);
                    at += c.len_utf8();
                }
            }
        }
        marked
    }
}

/// Removes the marks of what is generated. Returns the rest, and the parts of it that were marked.
fn without_generated(marked: &str) -> (String, Vec<Range<usize>>) {
    let mut text = String::with_capacity(marked.len());
    let mut parts = Vec::new();
    let (mut start, mut depth) = (0, 0usize);
    for c in marked.chars() {
        if c == GENERATED[0] {
            if depth == 0 {
                start = text.len();
            }
            depth += 1;
        } else if c == GENERATED[1] {
            if depth == 1 {
                parts.push(start..text.len());
            }
            depth = depth.saturating_sub(1);
        } else {
            text.push(c);
        }
    }
    (text, parts)
}

/// A rendered text without its marks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unmarked {
    pub text: String,
    /// Parts that the model generates, in bytes of `text`.
    pub generated: Vec<Range<usize>>,
    /// Parts that are encoded one by one: consecutive, from the beginning of the text to its end.
    pub pieces: Vec<Piece>,
}

/// A part of a text that is encoded by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub bytes: Range<usize>,
    /// Whether nothing in it becomes a control token.
    pub is_spelled: bool,
}

impl Unmarked {
    /// Removes the marks of a rendered text and notes where they stood. A template may cut a text between
    /// its marks: a single mark separates what stands beside it and says no more.
    pub fn of(marked: &str, controls: &Controls) -> Self {
        let (spelled, generated) = without_generated(marked);
        let mut unmarked = Self { text: String::with_capacity(spelled.len()), ..Self::default() };
        // Place in the text of each byte of `spelled`.
        let mut places = Vec::with_capacity(spelled.len() + 1);
        let mut start = 0;
        while let Some(c) = spelled[places.len()..].chars().next() {
            let rest = &spelled[places.len() + c.len_utf8()..];
            let place = unmarked.text.len();
            places.resize(places.len() + c.len_utf8(), place);
            if !SPELLED.contains(&c) {
                unmarked.text.push(c);
                continue;
            }
            unmarked.cut(&mut start, false);
            let is_whole = |control: &&String| {
                rest.strip_prefix(control.as_str()).is_some_and(|rest| rest.starts_with(SPELLED[1]))
            };
            if let Some(control) = controls.texts.iter().find(is_whole).filter(|_| c == SPELLED[0]) {
                unmarked.text.push_str(control);
                unmarked.cut(&mut start, true);
                places.extend((0..control.len()).map(|byte| place + byte));
                places.resize(places.len() + SPELLED[1].len_utf8(), unmarked.text.len());
            }
        }
        places.push(unmarked.text.len());
        unmarked.generated = generated.into_iter().map(|part| places[part.start]..places[part.end]).collect();
        unmarked.cut(&mut start, false);
        unmarked
    }

    /// Ends a piece at the end of the text.
    fn cut(&mut self, start: &mut usize, is_spelled: bool) {
        let bytes = *start..self.text.len();
        *start = bytes.end;
        if !bytes.is_empty() {
            self.pieces.push(Piece { bytes, is_spelled });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn controls() -> Controls {
        Controls::new(["<|e", "<|end|>", "[X]"].map(str::to_owned))
    }

    fn mark(text: &str) -> String {
        controls().mark(text)
    }

    fn pieces(text: &str) -> Vec<(String, bool)> {
        let unmarked = Unmarked::of(text, &controls());
        let piece = |piece: &Piece| (unmarked.text[piece.bytes.clone()].to_owned(), piece.is_spelled);
        unmarked.pieces.iter().map(piece).collect()
    }

    #[test]
    fn the_longest_control_token_is_marked() {
        let marked = mark("a<|end|>é<|e[X");
        let piece = |text: &str, is_spelled| (text.to_owned(), is_spelled);
        let expected = [
            piece("a", false),
            piece("<|end|>", true),
            piece("é", false),
            piece("<|e", true),
            piece("[X", false),
        ];
        assert_eq!(pieces(&marked), expected);
        assert_eq!(mark("plain"), "plain");
    }

    #[test]
    fn a_mark_that_lost_its_partner_still_separates() {
        let marked = mark("[X]");
        let without_end: String = marked.chars().take(4).collect();
        assert_eq!(
            pieces(&format!("a{without_end}b")),
            [("a".to_owned(), false), ("[X]b".to_owned(), false)]
        );
    }

    #[test]
    fn generated_parts_are_noted_without_their_marks() {
        let [open, close] = GENERATED;
        let text = format!("a{open}bü{close}c{open}{}{close}", mark("[X]"));
        let unmarked = Unmarked::of(&text, &controls());
        assert_eq!((unmarked.text.as_str(), unmarked.generated), ("abüc[X]", vec![1..4, 5..8]));
        // A mark between those of a control token.
        let split = mark("[X]").replace("[X]", &format!("{open}[X]{close}"));
        let unmarked = Unmarked::of(&split, &controls());
        assert_eq!((unmarked.generated.first(), unmarked.pieces.len()), (Some(&(0..3)), 1));
        assert_eq!(find(&text), Some(open));
        assert_eq!(find("\u{E000} 🙂"), None);
    }
}
