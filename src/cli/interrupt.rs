//! Handles Ctrl-C: the first one asks the command to end cleanly, the second ends it at once.

use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Starts to listen for Ctrl-C; to be called once.
pub(crate) fn listen() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    })?;
    Ok(())
}

/// Returns whether the user asked to end the command.
pub(crate) fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}
