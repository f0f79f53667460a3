//! Everything that takes a whole model or the whole binary. Unit tests stand beside the code.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

mod bad_input;
mod commands;
mod devices;
mod parity;
mod readme;
mod resume;
mod train;
mod weights;
