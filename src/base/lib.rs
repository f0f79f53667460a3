//! The foundation of all other crates of Kiln: one error type with hints, the platform (clock, storage,
//! memory), random numbers, edit distances, and the macro that declares sections of the configuration.

pub mod edit_distance;
pub mod error;
pub mod mersenne_twister;
pub mod platform;
pub mod random;
pub mod section;

pub use error::{Error, Result};
