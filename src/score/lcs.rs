//! Longest common subsequence of two lists.

/// Length of the longest common subsequence.
pub(crate) fn length<T: PartialEq>(a: &[T], b: &[T]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for item in a {
        let mut above_left = 0;
        for (j, other) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if item == other { above_left + 1 } else { above.max(row[j]) };
            above_left = above;
        }
    }
    row[b.len()]
}

/// Marks the items of `a` that are in one longest common subsequence with `b`, the one that rouge-score reads
/// out of its table.
pub(crate) fn mark<T: PartialEq>(a: &[T], b: &[T], marks: &mut [bool]) {
    // One bit for each pair of positions: whether the subsequence is longer without `b[j]` than without `a[i]`.
    let mut left = vec![0u64; (a.len() * b.len()).div_ceil(64)];
    let mut row = vec![0usize; b.len() + 1];
    for (i, item) in a.iter().enumerate() {
        let mut above_left = 0;
        for (j, other) in b.iter().enumerate() {
            let above = row[j + 1];
            let bit = i * b.len() + j;
            left[bit / 64] |= u64::from(row[j] > above) << (bit % 64);
            row[j + 1] = if item == other { above_left + 1 } else { above.max(row[j]) };
            above_left = above;
        }
    }
    let (mut i, mut j) = (a.len(), b.len());
    while i > 0 && j > 0 {
        let bit = (i - 1) * b.len() + j - 1;
        if a[i - 1] == b[j - 1] {
            (i, j) = (i - 1, j - 1);
            marks[i] = true;
        } else if left[bit / 64] >> (bit % 64) & 1 == 1 {
            j -= 1;
        } else {
            i -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_a_longest_subsequence() {
        let (a, b) = (b"the cat sat on the mat", b"on a mat the cat sat");
        let mut marks = vec![false; a.len()];
        mark(a, b, &mut marks);
        assert_eq!(marks.iter().filter(|&&mark| mark).count(), length(a, b));
        assert_eq!(length(b"ABCBDAB", b"BDCABA"), 4);
        assert_eq!(length::<u8>(&[], b"a"), 0);
        mark::<u8>(b"a", &[], &mut [false]);
    }

    /// `rouge_scorer.lcs_ind("ab", "ba")` is `[0]`.
    #[test]
    fn ties_are_decided_as_in_rouge_score() {
        let mut marks = [false; 2];
        mark(b"ab", b"ba", &mut marks);
        assert_eq!(marks, [true, false]);
    }
}
