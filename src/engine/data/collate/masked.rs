//! Masked language modelling (arXiv:1810.04805): some tokens of a row are masked, and the model predicts
//! them.

use crate::data::{
    Example, IGNORE_INDEX,
    random::{below, shuffle},
};
use crate::tokenizer::Tokenizer;
use rand_chacha::ChaCha8Rng;

/// Percentage of the chosen tokens that are replaced by the mask token; `REPLACED` is that of those replaced
/// by a random token. The rest stay unchanged.
const MASKED: u64 = 80;
const REPLACED: u64 = 10;

/// Settings of masking.
#[derive(Debug, Clone)]
pub struct Masking {
    /// Share of the tokens of a row that are chosen.
    pub fraction: f64,
    /// Tokenizer that finds the beginnings of words, if whole words are masked.
    pub whole_words: Option<Tokenizer>,
    /// Id of the mask token.
    pub mask_token: i32,
    /// Size of the vocabulary that random replacements are drawn from.
    pub vocab_size: usize,
    /// Special tokens, which are never masked.
    pub special: Vec<i32>,
}

impl Masking {
    /// Whether any of these tokens can be masked.
    pub(super) fn has_target(&self, tokens: &[i32]) -> bool {
        tokens.iter().any(|token| !self.special.contains(token))
    }

    /// Masks tokens of a row; at least one, if any can be masked.
    pub(super) fn row(&self, tokens: Vec<i32>, random: &mut ChaCha8Rng) -> Example {
        let mut targets = vec![IGNORE_INDEX; tokens.len()];
        let mut inputs = tokens.clone();
        for position in self.choose(&tokens, random) {
            targets[position] = tokens[position];
            match below(random, 100) {
                draw if draw < MASKED => inputs[position] = self.mask_token,
                draw if draw < MASKED + REPLACED => {
                    inputs[position] = below(random, self.vocab_size as u64) as i32;
                }
                _ => {}
            }
        }
        Example { inputs, targets, ..Example::default() }
    }

    /// Chooses the positions to mask.
    fn choose(&self, tokens: &[i32], random: &mut ChaCha8Rng) -> Vec<usize> {
        let allowed: Vec<usize> =
            (0..tokens.len()).filter(|&position| !self.special.contains(&tokens[position])).collect();
        let wanted = ((allowed.len() as f64 * self.fraction).round() as usize).max(1);
        let mut groups: Vec<Vec<usize>> = match &self.whole_words {
            None => allowed.into_iter().map(|position| vec![position]).collect(),
            Some(tokenizer) => {
                let begins = tokenizer.word_starts(tokens);
                let mut words: Vec<Vec<usize>> = Vec::new();
                for position in allowed {
                    // A word ends before a token that is never masked.
                    match words
                        .last_mut()
                        .filter(|word| !begins[position] && word.last() == Some(&(position - 1)))
                    {
                        Some(word) => word.push(position),
                        None => words.push(vec![position]),
                    }
                }
                words
            }
        };
        shuffle(&mut groups, random);
        let mut chosen = Vec::new();
        for group in groups {
            if chosen.len() >= wanted {
                break;
            }
            // The last word may be too long for what is left; the first is taken however long it is.
            if chosen.is_empty() || chosen.len() + group.len() <= wanted {
                chosen.extend(group);
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::TokenizerConfig, data::random::rng};

    fn masking(whole_words: Option<Tokenizer>) -> Masking {
        Masking { fraction: 0.15, whole_words, mask_token: 99, vocab_size: 50, special: vec![1] }
    }

    #[test]
    fn fifteen_in_a_hundred_of_which_eighty_are_masked() {
        let tokens: Vec<i32> = std::iter::once(1).chain((0..200).map(|i| 2 + i % 40)).collect();
        let (mut chosen, mut masked, mut kept) = (0, 0, 0);
        for step in 0..200 {
            let row = masking(None).row(tokens.clone(), &mut rng(3, step, "mask"));
            assert_eq!((row.inputs[0], row.targets[0]), (1, IGNORE_INDEX));
            for ((input, target), token) in row.inputs.iter().zip(&row.targets).zip(&tokens) {
                if *target == IGNORE_INDEX {
                    assert_eq!(input, token);
                    continue;
                }
                assert_eq!(target, token);
                chosen += 1;
                masked += i32::from(*input == 99);
                kept += i32::from(input == token);
            }
        }
        assert_eq!(chosen, 200 * 30);
        assert!((4700..4900).contains(&masked), "{masked}");
        // A tenth, and now and then a replacement by itself.
        assert!((550..720).contains(&kept), "{kept}");
    }

    #[test]
    fn whole_words_are_hidden_whole() {
        let text = "ab,".repeat(20);
        let tokenizer = Tokenizer::train(&TokenizerConfig::default(), &[], [&*text]).unwrap();
        let tokens: Vec<i32> = tokenizer.encode(&text).unwrap().into_iter().map(|id| id as i32).collect();
        let masking_words = Masking { special: vec![], ..masking(Some(tokenizer)) };
        for step in 0..50 {
            let row = masking_words.row(tokens.clone(), &mut rng(3, step, "mask"));
            let masked: Vec<bool> = row.targets.iter().map(|target| *target != IGNORE_INDEX).collect();
            assert!(masked.chunks(3).all(|word| word[0] == word[1]), "{masked:?}");
            assert_eq!(masked.iter().filter(|flag| **flag).count(), 9);
        }
        let short = masking(None).row(vec![5], &mut rng(3, 0, "mask"));
        assert_eq!(short.targets, [5]);
        let nothing = masking(None).row(vec![1, 1], &mut rng(3, 0, "mask"));
        assert_eq!(nothing.targets, [IGNORE_INDEX; 2]);
    }
}
