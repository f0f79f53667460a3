//! Longest verbatim overlaps of some texts with a corpus of any size, both as token ids.
//!
//! The corpus is read in chunks. A suffix array of each chunk is searched for every position of every text, in
//! time proportional to the logarithm of the chunk. Chunks overlap by one token less than the longest text has,
//! so that no overlap is missed. Memory is bounded by the chunk, whatever the size of the corpus: 8 bytes for each
//! of its tokens, and a few numbers for each token of the vocabulary while it is sorted.
//!
//! ```text
//! let found = longest_overlaps(&texts, corpus.len(), CHUNK, &mut |range, tokens| corpus.copy(range, tokens), &|| false);
//! ```

mod search;

use libsais::LibsaisError;
use search::SuffixArray;
use std::{
    fmt::{self, Display, Formatter},
    ops::Range,
};

/// Tokens of a chunk by default, which need 128 MiB.
pub const CHUNK: usize = 1 << 24;

/// Longest part of a text that is also in the corpus.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overlap {
    /// Number of tokens; 0 if no token of the text is in the corpus.
    pub len: usize,
    /// Position of its first token in the text.
    pub text_start: usize,
    /// Position of its first token in the corpus; one of them, if there are several.
    pub corpus_start: usize,
}

/// Reason why a chunk could not be searched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Number of tokens of the chunk.
    pub tokens: usize,
    reason: LibsaisError,
}

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "cannot make the suffix array of {} tokens: {}", self.tokens, self.reason)
    }
}

impl std::error::Error for Error {}

/// Finds the longest overlap of each text with a corpus of `len` tokens. `read` copies the tokens in a range of the
/// corpus. `chunk` is the number of tokens that are searched together; with the longest text they are fewer than
/// 2³¹. `interrupted` is called for each chunk; `None` is returned if it is true.
///
/// # Errors
/// [`Error`] if memory runs out.
pub fn longest_overlaps(
    texts: &[Vec<i32>],
    len: usize,
    chunk: usize,
    read: &mut dyn FnMut(Range<usize>, &mut [i32]),
    interrupted: &dyn Fn() -> bool,
) -> Result<Option<Vec<Overlap>>, Error> {
    let mut found = vec![Overlap::default(); texts.len()];
    let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
    if longest == 0 {
        return Ok(Some(found));
    }
    // Tokens that are in no text are all the same, whatever an unusual corpus has.
    let other = texts.iter().flatten().max().map_or(0, |largest| largest.saturating_add(1));
    let chunk = chunk.clamp(1, (i32::MAX as usize).saturating_sub(longest).max(1));
    let mut tokens = Vec::new();
    for start in (0..len).step_by(chunk) {
        if interrupted() {
            return Ok(None);
        }
        let end = len.min(start + chunk + longest - 1);
        tokens.resize(end - start, 0);
        read(start..end, &mut tokens);
        tokens.iter_mut().filter(|token| !(0..other).contains(*token)).for_each(|token| *token = other);
        let array = SuffixArray::new(&mut tokens).map_err(|reason| Error { tokens: end - start, reason })?;
        for (text, best) in texts.iter().zip(&mut found) {
            improve(text, &array, start, best);
        }
    }
    Ok(Some(found))
}

/// Replaces `best` by a longer overlap of `text` with a chunk that begins at `start`, if there is one.
fn improve(text: &[i32], array: &SuffixArray, start: usize, best: &mut Overlap) {
    for text_start in 0..text.len() {
        let rest = &text[text_start..];
        if rest.len() <= best.len {
            return;
        }
        let (len, position) = array.longest_prefix(rest);
        if len > best.len {
            *best = Overlap { len, text_start, corpus_start: start + position };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random tokens below `symbols`, the same each time.
    fn random(count: usize, symbols: u64, mut state: u64) -> Vec<i32> {
        let next = |_| {
            // Knuth's MMIX generator.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % symbols) as i32
        };
        (0..count).map(next).collect()
    }

    fn overlaps(texts: &[Vec<i32>], corpus: &[i32], chunk: usize) -> Vec<Overlap> {
        let mut read = |range: Range<usize>, tokens: &mut [i32]| tokens.copy_from_slice(&corpus[range]);
        longest_overlaps(texts, corpus.len(), chunk, &mut read, &|| false).unwrap().unwrap()
    }

    /// Length of the longest overlap, by the table of all pairs of positions.
    fn naive(text: &[i32], corpus: &[i32]) -> usize {
        let (mut above, mut longest) = (vec![0usize; text.len() + 1], 0);
        for token in corpus {
            for position in (0..text.len()).rev() {
                above[position + 1] = if text[position] == *token { above[position] + 1 } else { 0 };
                longest = longest.max(above[position + 1]);
            }
        }
        longest
    }

    /// Compares with the naive search, and each overlap with the tokens that it names.
    fn check(texts: &[Vec<i32>], corpus: &[i32], chunks: &[usize]) {
        let expected: Vec<usize> = texts.iter().map(|text| naive(text, corpus)).collect();
        for &chunk in chunks {
            let found = overlaps(texts, corpus, chunk);
            let lengths: Vec<usize> = found.iter().map(|overlap| overlap.len).collect();
            assert_eq!(lengths, expected, "chunks of {chunk}");
            for (Overlap { len, text_start, corpus_start }, text) in found.into_iter().zip(texts) {
                assert_eq!(text[text_start..text_start + len], corpus[corpus_start..corpus_start + len]);
            }
        }
    }

    #[test]
    fn a_megabyte_is_searched_as_naively() {
        for symbols in [2, 100] {
            let mut corpus = random(1 << 20, symbols, symbols);
            // Repeats within the corpus, one of which crosses a border of chunks.
            let piece = corpus[1000..1100].to_vec();
            for start in [65_490, 500_000, (1 << 20) - 100] {
                corpus[start..start + 100].copy_from_slice(&piece);
            }
            let mut texts = vec![random(30, symbols, 99), random(100, symbols, 98), Vec::new(), vec![300]];
            // Texts with planted parts: in the middle of a chunk, across a border, the whole, at the end.
            let mut planted = random(120, symbols, 97);
            planted[30..110].copy_from_slice(&corpus[777_000..777_080]);
            texts.push(planted);
            texts.push(corpus[65_500..65_620].to_vec());
            texts.push(corpus[(1 << 20) - 60..].to_vec());
            check(&texts, &corpus, &[1 << 16, 100_000, 1 << 20, 1 << 21]);
        }
    }

    #[test]
    fn small_chunks_miss_nothing() {
        let corpus = random(300, 3, 5);
        let texts: Vec<Vec<i32>> = (0..20).map(|seed| random(1 + seed, 3, seed as u64)).collect();
        let chunks: Vec<usize> = (1..40).chain([299, 300, 301]).collect();
        check(&texts, &corpus, &chunks);
        let equal = vec![7; 100];
        check(&[vec![7; 30], vec![7; 200], vec![8; 5]], &equal, &[1, 10, 100]);
        // Tokens of a large vocabulary.
        check(&[vec![128_000, 5], vec![262_143]], &[262_143, 128_000, 5, 70_000], &[2, 10]);
    }

    #[test]
    fn nothing_is_found_in_nothing() {
        check(&[vec![1, 2]], &[], &[10]);
        check(&[vec![1, 2]], &[3], &[10]);
        check(&[], &[3], &[10]);
        // Ids that no vocabulary has.
        check(&[vec![1, 2]], &[-1, i32::MAX, 1, 2], &[10]);
    }

    #[test]
    fn an_interrupt_ends_the_search() {
        let mut read = |_: Range<usize>, _: &mut [i32]| ();
        assert_eq!(longest_overlaps(&[vec![1]], 10, 5, &mut read, &|| true), Ok(None));
    }
}
