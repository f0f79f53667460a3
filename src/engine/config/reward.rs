//! Configuration of reward models.

use super::Range;
use kiln_base::section;

section! {
    /// Reward models, which give a text a number.
    #["reward"]
    pub struct RewardConfig {
        /// Weight of the squared sum of a pair's rewards, which keeps rewards around 0 (arXiv:2312.09244).
        center: f64 = 0.0, Range::FromZero;
    }
}
