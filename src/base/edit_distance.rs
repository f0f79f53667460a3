//! Edit distance of sequences.

/// Least number of items to replace, insert or delete to make `a` of `b` (Levenshtein, 1966).
pub fn edit_distance<T: PartialEq>(a: &[T], b: &[T]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, item) in a.iter().enumerate() {
        let mut above_left = std::mem::replace(&mut row[0], i + 1);
        for (j, other) in b.iter().enumerate() {
            let replaced = above_left + usize::from(item != other);
            above_left = row[j + 1];
            row[j + 1] = replaced.min(above_left + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_the_least() {
        assert_eq!(edit_distance(b"kitten", b"sitting"), 3);
        assert_eq!(
            (edit_distance(b"", b"abc"), edit_distance(b"abc", b""), edit_distance(b"abc", b"abc")),
            (3, 3, 0)
        );
        assert_eq!(edit_distance(b"abcd", b"acbd"), 2);
    }
}
