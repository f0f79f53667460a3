//! The foundation of all other crates of Kiln: one error type with hints, the platform (clock, storage,
//! memory), random numbers, and the macro that declares sections of the configuration.

pub mod error;
pub mod platform;
pub mod random;
pub mod section;

pub use error::{Error, Result};
