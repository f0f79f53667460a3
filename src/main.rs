//! The `kiln` binary: parse, run, print the error, exit code (2 for what the user asked wrongly, 1
//! for what failed).

mod memory;

use clap::Parser;
use kiln::cli::{self, Arguments};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: memory::Allocator = memory::Allocator;

fn main() -> ExitCode {
    kiln::platform::compute_on_this_thread();
    // mimalloc reads it too: small buffers and large ones go back at once, or none do.
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_some_and(|delay| delay == "0") {
        memory::keep_nothing();
    }
    cli::run(Arguments::parse())
}
