//! Finds duplicates by meaning: documents whose embeddings point in nearly the same direction (SemDeDup,
//! arXiv:2303.09540). Embeddings are clustered, and only those of the same cluster are compared.

use super::{
    super::{Error, Result},
    kmeans::{Vectors, dot, kmeans},
};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Settings of the similarity of duplicates, and of how many documents are compared with each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SemanticConfig {
    /// Checkpoint of the encoder that embeds documents.
    pub model: PathBuf,
    /// Number of k-means clusters; 0 for the square root of the number of documents. More are faster and miss
    /// more.
    pub clusters: usize,
    pub max_iterations: usize,
    /// Duplicates have a cosine above 1 - `epsilon`.
    pub epsilon: f32,
    pub seed: u64,
}

impl Default for SemanticConfig {
    fn default() -> Self {
        Self { model: PathBuf::new(), clusters: 0, max_iterations: 50, epsilon: 0.01, seed: 1 }
    }
}

/// A document to drop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SemanticDuplicate {
    pub document: usize,
    /// Most similar document of the same cluster, among those farther from the centroid. As in the paper, it
    /// may itself be dropped.
    pub of: usize,
    /// Cosine of the two embeddings.
    pub similarity: f32,
    pub cluster: u32,
}

/// Finds the duplicates among `embeddings`, `[N, D]` with `D` = `width`, in the order of the documents. The
/// document farthest from the centroid of each group is kept. Embeddings that are zero or not finite have no
/// duplicates. Apart from the embeddings this takes memory for the centroids and 20 bytes a document; it
/// makes no matrix of similarities.
///
/// # Errors
/// [`Error::InvalidValue`] if `width` does not divide the embeddings or `epsilon` is not between 0 and 2.
pub fn semantic_duplicates(
    embeddings: &[f32],
    width: usize,
    config: &SemanticConfig,
) -> Result<Vec<SemanticDuplicate>> {
    if width == 0 || !embeddings.len().is_multiple_of(width) {
        let message = format!("does not divide {} numbers into rows", embeddings.len());
        return Err(Error::invalid_value("width", width, &message));
    }
    if !(0.0..=2.0).contains(&config.epsilon) {
        return Err(Error::invalid_value("semantic.epsilon", config.epsilon, "must be between 0 and 2"));
    }
    let rows = Vectors::new(embeddings, width);
    let scales: Vec<f32> = (0..rows.len()).map(|row| inverse_length(rows.get(row))).collect();
    let clusters = if config.clusters == 0 { rows.len().isqrt() } else { config.clusters };
    let clusters = clusters.clamp(1, rows.len().max(1));
    let assignment = kmeans(rows, &scales, clusters, config.max_iterations, config.seed);

    let mut members = vec![Vec::new(); clusters];
    for (row, &cluster) in assignment.clusters.iter().enumerate() {
        if scales[row] > 0.0 {
            members[cluster as usize].push(row);
        }
    }
    let mut duplicates = Vec::new();
    for (members, cluster) in members.iter_mut().zip(0..) {
        let from_centroid = |row: usize| assignment.similarities[row];
        members.sort_by(|&a, &b| from_centroid(a).total_cmp(&from_centroid(b)).then(a.cmp(&b)));
        for (i, &document) in members.iter().enumerate() {
            let mut nearest = (0, f32::NEG_INFINITY);
            for &other in &members[..i] {
                let cosine = dot(rows.get(document), rows.get(other)) * scales[document] * scales[other];
                if cosine > nearest.1 {
                    nearest = (other, cosine);
                }
            }
            let (of, similarity) = nearest;
            if similarity > 1.0 - config.epsilon {
                duplicates.push(SemanticDuplicate { document, of, similarity, cluster });
            }
        }
    }
    duplicates.sort_by_key(|duplicate| duplicate.document);
    Ok(duplicates)
}

/// Computes 1 / length of a row, or 0 if it has no direction.
fn inverse_length(row: &[f32]) -> f32 {
    let length = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    let scale = (1.0 / length) as f32;
    if length > 0.0 && length.is_finite() && scale.is_finite() { scale } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::super::super::random::SplitMix;
    use super::*;

    /// Makes `groups` directions, and `copies` of each with a little noise and of different lengths.
    fn embeddings(groups: usize, copies: usize, width: usize, noise: f64) -> Vec<f32> {
        let mut random = SplitMix::new(3);
        let centres: Vec<f64> = (0..groups * width).map(|_| random.uniform() - 0.5).collect();
        let mut values = Vec::new();
        for copy in 0..copies {
            for centre in &centres {
                let value = centre + noise * (random.uniform() - 0.5);
                values.push((value * (1 + copy) as f64) as f32);
            }
        }
        values
    }

    #[test]
    fn one_of_each_group_stays() {
        let values = embeddings(40, 5, 33, 0.02);
        let config = SemanticConfig { clusters: 8, ..SemanticConfig::default() };
        let found = semantic_duplicates(&values, 33, &config).unwrap();
        assert_eq!(found.len(), 160);
        assert!(found.iter().all(|d| d.document % 40 == d.of % 40 && d.similarity > 0.99));
        let mut kept = vec![5; 40];
        found.iter().for_each(|d| kept[d.document % 40] -= 1);
        assert_eq!(kept, [1; 40]);
        assert_eq!(found, semantic_duplicates(&values, 33, &config).unwrap());
    }

    #[test]
    fn the_farthest_from_the_centroid_stays() {
        // The centroid is between the three, nearest to the second.
        let values = [1.0, 0.0, 1.0, 0.05, 1.0, 0.12];
        let config = SemanticConfig { clusters: 1, ..SemanticConfig::default() };
        let found = semantic_duplicates(&values, 2, &config).unwrap();
        assert_eq!(found.iter().map(|d| d.document).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn odd_inputs_are_no_duplicates() {
        let config = SemanticConfig::default();
        assert_eq!(semantic_duplicates(&[], 4, &config).unwrap(), []);
        assert!(semantic_duplicates(&[1.0; 5], 2, &config).is_err());
        assert!(semantic_duplicates(&[1.0; 5], 0, &config).is_err());
        assert!(
            semantic_duplicates(&[], 1, &SemanticConfig { epsilon: f32::NAN, ..config.clone() }).is_err()
        );
        let odd = [0.0, 0.0, 0.0, 0.0, f32::NAN, 1.0, f32::NAN, 1.0, f32::INFINITY, 0.0];
        assert_eq!(semantic_duplicates(&odd, 2, &config).unwrap(), []);
        let same = [1.0; 20];
        let config = SemanticConfig { clusters: 9, ..config };
        assert_eq!(semantic_duplicates(&same, 2, &config).unwrap().len(), 9);
    }
}
