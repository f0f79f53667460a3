//! Handles Ctrl-C: the first one asks the command to end cleanly, the second ends it at once.

use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);
static IN_TURN: AtomicBool = AtomicBool::new(false);

/// Starts to listen for Ctrl-C; to be called once.
pub(crate) fn listen() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    })?;
    Ok(())
}

/// Starts to listen for Ctrl-C in a command that works in turns: it ends the turn or, between turns, the command.
/// To be called once.
pub(crate) fn listen_in_turns() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        if !IN_TURN.load(Ordering::SeqCst) || ASKED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    })?;
    Ok(())
}

pub(crate) fn begin_turn() {
    ASKED.store(false, Ordering::SeqCst);
    IN_TURN.store(true, Ordering::SeqCst);
}

pub(crate) fn end_turn() {
    IN_TURN.store(false, Ordering::SeqCst);
}

/// Returns whether the user asked to end the command.
pub(crate) fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}
