//! The suffix array of a chunk.

use libsais::{LibsaisError, SuffixArrayConstruction};

/// Positions of a chunk in the order of the texts that begin there.
pub(super) struct SuffixArray<'a> {
    tokens: &'a [i32],
    positions: Vec<i32>,
}

impl<'a> SuffixArray<'a> {
    /// Sorts the positions of `tokens`, none of which is negative, and which are changed meanwhile. Buffers that
    /// are needed meanwhile have as many numbers as the largest token, and at most as many as there are tokens.
    pub fn new(tokens: &'a mut [i32]) -> Result<Self, LibsaisError> {
        let sorted =
            SuffixArrayConstruction::for_text_mut(tokens).in_owned_buffer32().single_threaded().run()?;
        Ok(Self { tokens: sorted.text(), positions: sorted.into_vec() })
    }

    /// The longest beginning of `text` that is in the chunk, and its position.
    pub fn longest_prefix(&self, text: &[i32]) -> (usize, usize) {
        let next = self.positions.partition_point(|&position| self.from(position) < text);
        // Texts in between would be nearer, so that one of the two neighbours has the longest common beginning.
        let neighbours = [next.checked_sub(1), Some(next)];
        let common = |&position: &i32| {
            let both = self.from(position).iter().zip(text);
            (both.take_while(|(own, other)| own == other).count(), position as usize)
        };
        let found =
            neighbours.into_iter().flatten().filter_map(|index| self.positions.get(index)).map(common);
        found.max_by_key(|(len, _)| *len).unwrap_or_default()
    }

    /// The chunk from a position on.
    fn from(&self, position: i32) -> &[i32] {
        &self.tokens[position as usize..]
    }
}
