//! The encoder of character tokenizers: one array lookup per character.

/// Token ids by code point.
pub(super) struct CharTable {
    ids: Vec<u32>,
    unknown: u32,
}

/// Marks a character that is not in the vocabulary.
const MISSING: u32 = u32::MAX;

impl CharTable {
    /// Makes the table of a vocabulary. `unknown` is the token for characters that are not in it, if there is
    /// one.
    pub(super) fn new(vocabulary: impl Iterator<Item = (char, u32)>, unknown: Option<u32>) -> Self {
        let mut ids = Vec::new();
        for (character, id) in vocabulary {
            let code = character as usize;
            if ids.len() <= code {
                ids.resize(code + 1, MISSING);
            }
            ids[code] = id;
        }
        Self { ids, unknown: unknown.unwrap_or(MISSING) }
    }

    /// Appends the tokens of `text`.
    ///
    /// # Errors
    /// The first character without a token, and its byte offset.
    pub(super) fn encode(&self, text: &str, tokens: &mut Vec<u32>) -> Result<(), (char, usize)> {
        tokens.reserve(text.len());
        for (offset, character) in text.char_indices() {
            match self.ids.get(character as usize).copied().unwrap_or(MISSING) {
                MISSING if self.unknown == MISSING => return Err((character, offset)),
                MISSING => tokens.push(self.unknown),
                id => tokens.push(id),
            }
        }
        Ok(())
    }
}
