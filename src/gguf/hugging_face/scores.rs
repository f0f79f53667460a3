//! SentencePiece's scores of pieces, and the merges of a BPE that gives the same tokens: transformers makes
//! the `tokenizer.json` of Llama in this way.

use std::{cmp::Ordering, collections::HashMap};

/// A piece and its score. Pieces with higher scores are made first.
pub(super) struct Piece<'a> {
    pub text: &'a str,
    pub id: u32,
    pub score: f32,
}

/// Makes the merges, the first one first: of each piece, every pair of pieces that it consists of.
pub(super) fn merges<'a>(pieces: &[Piece<'a>]) -> Vec<(&'a str, &'a str)> {
    let ids: HashMap<&str, u32> = pieces.iter().map(|piece| (piece.text, piece.id)).collect();
    let mut merges = Vec::new();
    for piece in pieces {
        let pairs = piece.text.char_indices().skip(1).filter_map(|(at, _)| {
            let (left, right) = piece.text.split_at(at);
            Some((*ids.get(left)?, *ids.get(right)?, left, right))
        });
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort_unstable_by_key(|(left, right, ..)| (*left, *right));
        merges.extend(pairs.into_iter().map(|(_, _, left, right)| {
            (piece.score, left.chars().count(), right.chars().count(), left, right)
        }));
    }
    merges.sort_by(|a, b| {
        let by_score = b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal);
        by_score.then((b.1, b.2).cmp(&(a.1, a.2)))
    });
    merges.into_iter().map(|(.., left, right)| (left, right)).collect()
}

/// Gives each of `texts` the score with which [`merges`] makes these merges again: the earlier a text is
/// merged, the higher it is. Texts that are never merged have the lowest scores.
///
/// # Errors
/// A message if no scores give these merges.
pub(super) fn scores(texts: &[(&str, u32)], wanted: &[(&str, &str)]) -> Result<Vec<f32>, String> {
    let mut places: HashMap<String, usize> = HashMap::new();
    for (left, right) in wanted {
        let place = places.len();
        places.entry(format!("{left}{right}")).or_insert(place);
    }
    let last = places.len();
    let scores: Vec<f32> =
        texts.iter().map(|(text, _)| -(places.get(*text).copied().unwrap_or(last) as f32)).collect();
    let pieces = texts.iter().zip(&scores).map(|((text, id), score)| Piece { text, id: *id, score: *score });
    match merges(&pieces.collect::<Vec<_>>()) == wanted {
        true => Ok(scores),
        false => Err("its merges are in an order that GGUF's scores of tokens cannot express".into()),
    }
}
