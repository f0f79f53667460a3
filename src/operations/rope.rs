//! Settings of the rotary position embedding (arXiv:2104.09864).

/// Settings of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RopeSpec {
    /// Number of heads to rotate, from the first on; the rest of each row is copied.
    pub heads: usize,
    pub head_size: usize,
    /// Whether the elements of a pair are neighbours instead of half a head apart.
    pub interleaved: bool,
    /// Whether to rotate by the negative angle.
    pub inverse: bool,
}
