//! Tests that run whole task files.
#![allow(clippy::disallowed_methods)]

mod errors;
mod golden;
mod hash_model;
