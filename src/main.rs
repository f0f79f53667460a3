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
    cli::run(Arguments::parse())
}
