//! The `kiln` binary: parses the arguments, runs the command, prints an error and sets the exit code (2 for a
//! mistake of the user, 1 for a failure).

use clap::Parser;
use kiln::{
    cli::{self, Arguments},
    memory::Allocator,
};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    // SAFETY: no thread has been started.
    #[cfg(feature = "cuda")]
    unsafe {
        kiln::device::find_libdevice();
    }
    kiln::platform::compute_on_this_thread();
    cli::run(Arguments::parse())
}
