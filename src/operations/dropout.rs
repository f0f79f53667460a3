//! Dropout (JMLR 15, 2014) whose random numbers are a function of a seed and an element's position: its row
//! in the step and its index in that row.

/// Probability and seed of one dropout.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Probability that an element becomes 0; the others are multiplied by 1 / (1 - probability).
    pub probability: f32,
    pub seed: u32,
    /// Number of the batch's first row in the step.
    pub first_row: u32,
}

impl Dropout {
    pub const NONE: Self = Self { probability: 0.0, seed: 0, first_row: 0 };

    pub fn is_on(self) -> bool {
        self.probability > 0.0
    }

    /// Factor that kept elements are multiplied by.
    pub fn scale(self) -> f32 {
        if self.probability < 1.0 { 1.0 / (1.0 - self.probability) } else { 0.0 }
    }

    /// Elements whose random number is below this are dropped.
    pub fn threshold(self) -> u32 {
        (f64::from(self.probability) * f64::from(u32::MAX)) as u32
    }

    /// Random numbers of a row of the batch.
    #[inline(always)]
    pub fn row(self, row: usize) -> Draws {
        Draws(mix(self.seed ^ self.first_row.wrapping_add(row as u32)))
    }
}

/// Random numbers of a row, or of a part of it. A part is named by a sequence of indices, each of which fits
/// in 32 bits however many elements there are.
#[derive(Debug, Clone, Copy)]
pub struct Draws(u32);

impl Draws {
    /// Random numbers of a part: a position, or a head and then a query.
    #[inline(always)]
    pub fn part(self, index: usize) -> Self {
        Self(self.draw(index as u32))
    }

    /// Random number of a single element.
    #[inline(always)]
    pub fn draw(self, index: u32) -> u32 {
        mix(self.0.wrapping_add(index))
    }
}

/// Mixes bits, so that every bit of the result depends on every bit of `x` (Chris Wellons' lowbias32).
#[inline(always)]
fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}
