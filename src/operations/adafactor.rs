//! Settings of Adafactor (arXiv:1804.04235), in the form that PyTorch gives it.

/// Settings of one update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdafactorSpec {
    pub sizes: Sizes,
    pub learning_rate: f64,
    /// Exponent of the step, below 0: the second moment takes the share `step ^ beta2_decay` of the new squares.
    pub beta2_decay: f64,
    /// Smallest root of the second moment.
    pub epsilon1: f64,
    /// Smallest root mean square of the weights that the learning rate is multiplied by.
    pub epsilon2: f64,
    /// Largest root mean square of an update, before the learning rate.
    pub clip_threshold: f64,
    pub weight_decay: f64,
    /// Number of updates so far, this one included.
    pub updates: usize,
    /// Whether to change nothing if the scale is not finite.
    pub skip_non_finite: bool,
}

/// Sizes of a parameter, which decide how its second moment is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sizes {
    /// A vector, whose second moment is stored whole.
    Vector,
    /// Matrices, of whose second moment the means of rows and columns are stored.
    Matrices { count: usize, rows: usize, columns: usize },
}

impl Sizes {
    /// Sizes of a parameter: the last two axes are those of matrices.
    pub fn of(shape: &[usize]) -> Self {
        match *shape {
            [ref others @ .., rows, columns] => {
                Self::Matrices { count: others.iter().product(), rows, columns }
            }
            _ => Self::Vector,
        }
    }
}

/// Numbers that an update multiplies by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factors {
    /// Share of the new squares in the second moment.
    pub added: f32,
    /// Factor of the weights.
    pub decay: f32,
    /// Learning rate, before it is multiplied by the size of the weights.
    pub rate: f64,
    /// Smallest mean of a second moment.
    pub least_mean: f32,
    /// Smallest second moment.
    pub least: f32,
}

impl AdafactorSpec {
    pub fn factors(self) -> Factors {
        let step = self.updates as f64;
        Factors {
            added: step.powf(self.beta2_decay) as f32,
            decay: (1.0 - self.learning_rate * self.weight_decay) as f32,
            rate: self.learning_rate.min(1.0 / step.sqrt()),
            least_mean: self.epsilon1 as f32,
            least: (self.epsilon1 * self.epsilon1) as f32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_two_axes_are_factored() {
        assert_eq!(Sizes::of(&[3]), Sizes::Vector);
        assert_eq!(Sizes::of(&[3, 4]), Sizes::Matrices { count: 1, rows: 3, columns: 4 });
        assert_eq!(Sizes::of(&[2, 5, 3, 4]), Sizes::Matrices { count: 10, rows: 3, columns: 4 });
    }
}
