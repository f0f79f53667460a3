//! The `kiln` binary: parse, run, print the error, exit code (2 for what the user asked wrongly, 1
//! for what failed).

use clap::Parser;
use kiln::{
    cli::{self, Arguments},
    memory::Allocator,
};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    kiln::platform::compute_on_this_thread();
    cli::run(Arguments::parse())
}
