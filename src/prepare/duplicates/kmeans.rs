//! k-means by direction: only the directions of rows count, and a centroid is the direction of the sum of its
//! rows. k-means++ seeding (Arthur & Vassilvitskii 2007), then Lloyd's iterations. The same rows and seed
//! give the same clusters on every machine.

use super::super::random::SplitMix;

/// A matrix whose rows have `width` numbers, stored one after the other.
#[derive(Clone, Copy)]
pub(super) struct Vectors<'a> {
    values: &'a [f32],
    width: usize,
}

impl<'a> Vectors<'a> {
    /// Wraps the values of a matrix; `width` is at least 1.
    pub(super) fn new(values: &'a [f32], width: usize) -> Self {
        Self { values, width }
    }

    pub(super) fn len(&self) -> usize {
        self.values.len() / self.width
    }

    pub(super) fn get(&self, row: usize) -> &'a [f32] {
        &self.values[row * self.width..(row + 1) * self.width]
    }
}

/// Cluster of each row.
pub(super) struct Assignment {
    pub(super) clusters: Vec<u32>,
    /// Cosine of each row with its cluster's centroid.
    pub(super) similarities: Vec<f32>,
}

/// Assigns rows to clusters. `scales` has 1 / length for each row, or 0 for a row without a direction.
pub(super) fn kmeans(
    rows: Vectors,
    scales: &[f32],
    clusters: usize,
    iterations: usize,
    seed: u64,
) -> Assignment {
    let width = rows.width;
    let mut centroids = seed_centroids(rows, scales, clusters, seed);
    let mut assignment = assign(rows, scales, &centroids);
    for _ in 0..iterations {
        let mut sums = vec![0f64; clusters * width];
        let mut counts = vec![0usize; clusters];
        for (row, &cluster) in assignment.clusters.iter().enumerate() {
            counts[cluster as usize] += 1;
            let sum = &mut sums[cluster as usize * width..][..width];
            let scale = f64::from(scales[row]);
            sum.iter_mut().zip(rows.get(row)).for_each(|(sum, &x)| *sum += f64::from(x) * scale);
        }
        let mut farthest: Option<Vec<usize>> = None;
        for cluster in 0..clusters {
            let centroid = &mut centroids[cluster * width..][..width];
            if counts[cluster] == 0 {
                // A cluster that lost all rows takes the one that fits worst where it is.
                let order = farthest.get_or_insert_with(|| by_similarity(&assignment.similarities));
                if let Some(row) = order.pop() {
                    normalize(centroid, rows.get(row).iter().map(|&x| f64::from(x)));
                }
                continue;
            }
            normalize(centroid, sums[cluster * width..][..width].iter().copied());
        }
        let next = assign(rows, scales, &centroids);
        let is_done = next.clusters == assignment.clusters;
        assignment = next;
        if is_done {
            break;
        }
    }
    assignment
}

/// Indices of rows, from the most to the least similar.
fn by_similarity(similarities: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..similarities.len()).collect();
    order.sort_by(|&a, &b| similarities[b].total_cmp(&similarities[a]).then(a.cmp(&b)));
    order
}

/// Stores the direction of a vector; a vector without a direction changes nothing.
fn normalize(into: &mut [f32], vector: impl Iterator<Item = f64> + Clone) {
    let length = vector.clone().map(|x| x * x).sum::<f64>().sqrt();
    if length > 0.0 && length.is_finite() {
        into.iter_mut().zip(vector).for_each(|(slot, x)| *slot = (x / length) as f32);
    }
}

/// Chooses the first centroids by k-means++: each is a row, drawn with a probability proportional to its
/// squared distance from the nearest centroid so far.
fn seed_centroids(rows: Vectors, scales: &[f32], clusters: usize, seed: u64) -> Vec<f32> {
    let mut random = SplitMix::new(seed);
    let mut centroids = vec![0f32; clusters * rows.width];
    // Squared distances of directions are 2 - 2 cos; rows without a direction are never drawn.
    let mut distances: Vec<f32> = scales.iter().map(|&scale| if scale > 0.0 { 2.0 } else { 0.0 }).collect();
    for centroid in centroids.chunks_exact_mut(rows.width) {
        let total: f64 = distances.iter().map(|&distance| f64::from(distance)).sum();
        if total <= 0.0 {
            // Fewer distinct rows than clusters: those left over stay empty.
            break;
        }
        let mut left = random.uniform() * total;
        let drawn = distances.iter().position(|&distance| {
            left -= f64::from(distance);
            left < 0.0
        });
        // Rounding can leave a little of the total at the end.
        let Some(row) = drawn.or_else(|| distances.iter().rposition(|&distance| distance > 0.0)) else {
            break;
        };
        normalize(centroid, rows.get(row).iter().map(|&x| f64::from(x)));
        for (other, distance) in distances.iter_mut().enumerate() {
            if *distance > 0.0 {
                let cosine = dot(rows.get(other), centroid) * scales[other];
                *distance = distance.min((2.0 - 2.0 * cosine).max(0.0));
            }
        }
        distances[row] = 0.0;
    }
    centroids
}

fn assign(rows: Vectors, scales: &[f32], centroids: &[f32]) -> Assignment {
    let mut clusters = Vec::with_capacity(rows.len());
    let mut similarities = Vec::with_capacity(rows.len());
    for (row, &scale) in scales.iter().enumerate() {
        let mut best = (0, f32::NEG_INFINITY);
        if scale > 0.0 {
            for (cluster, centroid) in centroids.chunks_exact(rows.width).enumerate() {
                let cosine = dot(rows.get(row), centroid) * scale;
                if cosine > best.1 {
                    best = (cluster as u32, cosine);
                }
            }
        }
        clusters.push(best.0);
        similarities.push(best.1.max(-1.0));
    }
    Assignment { clusters, similarities }
}

/// Computes a dot product in 16 lanes, which compilers can vectorize, and in the same order on every machine.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; 16];
    let (a, a_rest) = a.as_chunks::<16>();
    let (b, b_rest) = b.as_chunks::<16>();
    for (a, b) in a.iter().zip(b) {
        for lane in 0..16 {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + rest
}
