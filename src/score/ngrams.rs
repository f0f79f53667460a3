//! Counts of n-grams: of words for BLEU and ROUGE, of characters for chrF.

use std::{collections::HashMap, hash::Hash};

/// Number of occurrences of each n-gram. N-grams of several orders can be in one map.
pub(crate) type Counts<'a, T> = HashMap<&'a [T], u64>;

/// Largest order of n-grams that a configuration may ask for.
pub(crate) const MAX_ORDER: usize = 100;

/// Counts the n-grams of one order. The order must be at least 1.
pub(crate) fn count<T: Eq + Hash>(items: &[T], order: usize) -> Counts<'_, T> {
    let mut counts = Counts::new();
    items.windows(order).for_each(|ngram| *counts.entry(ngram).or_default() += 1);
    counts
}

/// Number of n-grams that two texts have in common. An n-gram counts as often as it occurs in the text that
/// has fewer of it.
pub(crate) fn overlap<T: Eq + Hash>(a: &Counts<'_, T>, b: &Counts<'_, T>) -> u64 {
    a.iter().map(|(ngram, &count)| b.get(ngram).map_or(0, |&other| count.min(other))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_is_clipped() {
        let (a, b) = (["x", "x", "x", "y"], ["x", "x", "z"]);
        assert_eq!(overlap(&count(&a, 1), &count(&b, 1)), 2);
        assert_eq!(overlap(&count(&a, 2), &count(&b, 2)), 1);
        assert_eq!(overlap(&count(&a, 5), &count(&b, 5)), 0);
    }
}
