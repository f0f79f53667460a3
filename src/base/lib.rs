//! What every crate of Kiln stands on: one error type with hints, the platform (clock, storage, memory), random
//! numbers, and the sections that a configuration is declared in.

pub mod error;
pub mod platform;
pub mod random;
pub mod section;

pub use error::{Error, Result};
