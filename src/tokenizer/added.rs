//! Added tokens of the fast codecs: texts that always become one token. They are found before the rest of the
//! text is encoded.

use super::json;
use serde_json::Value;

/// A text that becomes one token.
struct AddedText {
    text: String,
    id: u32,
}

pub(super) struct AddedTexts {
    /// Sorted by length, longest first.
    list: Vec<AddedText>,
    /// Whether an added token begins with this byte, by byte.
    first_bytes: Box<[bool; 256]>,
}

impl AddedTexts {
    /// Reads the `added_tokens` of a `tokenizer.json`. Returns `None` if one of them depends on the
    /// surrounding text (`single_word`, `lstrip`, `rstrip`), or if they differ in `normalized`, which would
    /// need two passes.
    pub(super) fn read(document: &Value) -> Option<Self> {
        let list = document["added_tokens"].as_array()?;
        let is_plain = |token: &Value| {
            ["single_word", "lstrip", "rstrip"].iter().all(|flag| token[*flag] == false)
                && token["normalized"] == list[0]["normalized"]
        };
        let mut added = list
            .iter()
            .map(|token| {
                let text = token["content"].as_str().filter(|text| !text.is_empty() && is_plain(token))?;
                Some(AddedText { text: text.into(), id: json::id(&token["id"])? })
            })
            .collect::<Option<Vec<_>>>()?;
        added.sort_by_key(|token| std::cmp::Reverse(token.text.len()));
        let mut first_bytes = Box::new([false; 256]);
        for token in &added {
            first_bytes[usize::from(token.text.as_bytes()[0])] = true;
        }
        Some(Self { list: added, first_bytes })
    }

    /// Whether `text` is an added token.
    pub(super) fn contains(&self, text: &str) -> bool {
        self.list.iter().any(|token| token.text == text)
    }

    /// Whether an added token contains a line break.
    pub(super) fn cross_lines(&self) -> bool {
        self.list.iter().any(|token| token.text.contains('\n'))
    }

    /// Appends the tokens of `text`. `encode` is called with each part between two added tokens and the byte
    /// offset at which it begins, and appends its tokens.
    pub(super) fn encode<E>(
        &self,
        text: &str,
        tokens: &mut Vec<u32>,
        encode: impl Fn(usize, &str, &mut Vec<u32>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut done = 0;
        while let Some((start, token)) = self.find(text, done) {
            encode(done, &text[done..start], tokens)?;
            tokens.push(token.id);
            done = start + token.text.len();
        }
        encode(done, &text[done..], tokens)
    }

    /// The first added token at or after `from` and its byte offset; if several begin there, the longest.
    fn find(&self, text: &str, from: usize) -> Option<(usize, &AddedText)> {
        if self.list.is_empty() {
            return None;
        }
        let bytes = text.as_bytes();
        let mut at = from;
        while let Some(step) = bytes.get(at..)?.iter().position(|&byte| self.first_bytes[usize::from(byte)]) {
            at += step;
            if let Some(token) = self.list.iter().find(|token| bytes[at..].starts_with(token.text.as_bytes()))
            {
                return Some((at, token));
            }
            at += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn added(texts: &[&str]) -> AddedTexts {
        let list: Value = texts
            .iter()
            .zip(0u32..)
            .map(|(text, id)| json::special_token(text, id))
            .collect::<Vec<_>>()
            .into();
        AddedTexts::read(&json!({ "added_tokens": list })).unwrap()
    }

    #[test]
    fn finds_the_leftmost_and_of_those_the_longest() {
        let added = added(&["<a>", "<a><b>", "<b>", "é<"]);
        let parts = |text: &str| {
            let mut ids = Vec::new();
            let between = std::cell::RefCell::new(Vec::new());
            added
                .encode(text, &mut ids, |start, part, _| {
                    between.borrow_mut().push((start, part.to_owned()));
                    Ok::<_, ()>(())
                })
                .unwrap();
            (ids, between.into_inner())
        };
        let at = |start: usize, text: &str| (start, text.to_owned());
        assert_eq!(parts("x<a><b>y"), (vec![1], vec![at(0, "x"), at(7, "y")]));
        assert_eq!(parts("<a><a"), (vec![0], vec![at(0, ""), at(3, "<a")]));
        assert_eq!(parts("<b><b>"), (vec![2, 2], vec![at(0, ""), at(3, ""), at(6, "")]));
        // The one that begins first, though another that it overlaps is longer.
        assert_eq!(parts("né<a><b>è"), (vec![3, 2], vec![at(0, "n"), at(4, "a>"), at(9, "è")]));
        assert_eq!(parts(""), (vec![], vec![at(0, "")]));
    }

    #[test]
    fn conditions_are_not_for_the_fast_code() {
        let mut token = json::special_token("<a>", 0);
        token["lstrip"] = true.into();
        assert!(AddedTexts::read(&json!({ "added_tokens": [token] })).is_none());
        assert!(AddedTexts::read(&json!({ "added_tokens": [] })).is_some());
    }
}
