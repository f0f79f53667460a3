//! Scaling laws: from the final losses of small runs to the best size of a large one.
//!
//! A scaling law is a formula for the loss of a model with N parameters after D training tokens. This crate
//! reads runs, fits three kinds of law, says how certain the fit is, and advises on sizes:
//!
//! ```no_run
//! # fn main() -> kiln_scale::Result<()> {
//! # let text = String::new();
//! use kiln_scale::{advice, bootstrap, fit, read};
//! let runs = read::parse("runs.csv", &text, read::LossColumn::Loss)?;
//! let fit = fit::fit(&runs, &fit::FitConfig::default())?;
//! let bootstrap = bootstrap::bootstrap(&runs, &fit, &bootstrap::BootstrapConfig::default())?;
//! let advice = advice::optimal(&fit, Some(&bootstrap), 1e21)?;
//! # Ok(()) }
//! ```
//!
//! Compute is C = 6·N·D floating-point operations (arXiv:2001.08361, section 2.1). Losses are in nats per
//! token, but any positive loss with the same shape works. Everything is in `f64` and deterministic.

pub mod error; // What can be wrong with runs, budgets and plans.
pub mod runs; // Validated runs: N, D and loss.
pub mod read; // CSV, JSON and JSON Lines to runs.
pub mod law; // L(N, D) = E + A/N^α + B/D^β and its compute-optimal sizes.
pub mod lbfgs; // The optimizer.
pub mod fit; // Chinchilla's approach 3: the law from runs.
pub mod least_squares; // Straight lines and parabolas.
pub mod isoflop; // Chinchilla's approach 2: the best size of each budget.
pub mod kaplan; // Kaplan's power laws in N, D and C.
pub mod random; // The generator of the bootstrap.
pub mod bootstrap; // Intervals of everything that follows from a fit.
pub mod advice; // Sizes for a budget, and losses of larger runs.
pub mod plan; // Runs to train so that a law can be fitted.

#[cfg(test)]
mod synthetic;

pub use error::{Error, Result};
