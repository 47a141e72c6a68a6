//! Ctrl-C: the program ends at once, but never in the middle of writing a file; long work ends in order.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::failure::{Code, Failure};

/// Held while a result is written and announced.
static WRITING: Mutex<()> = Mutex::new(());

/// From here on, Ctrl-C ends the program with exit code 5.
pub fn install() -> Result<(), Failure> {
    let handler = || {
        let _written = writing();
        // The progress bar's line has no end.
        let newline = if std::io::stderr().is_terminal() { "\n" } else { "" };
        eprintln!("{newline}error: cancelled");
        std::process::exit(Code::Cancelled as i32);
    };
    ctrlc::set_handler(handler).map_err(|error| Failure::failed(format!("cannot listen for Ctrl-C: {error}")))
}

/// From here on, Ctrl-C sets the flag that this returns, and the one who works looks at it; a second one ends the program.
pub fn flag() -> Result<Arc<AtomicBool>, Failure> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&flag);
    let handler = move || {
        if set.swap(true, Ordering::Relaxed) {
            eprintln!("error: cancelled");
            std::process::exit(Code::Cancelled as i32);
        }
    };
    ctrlc::set_handler(handler).map_err(|error| Failure::failed(format!("cannot listen for Ctrl-C: {error}")))?;
    Ok(flag)
}

/// While this lives, Ctrl-C waits.
pub fn writing() -> MutexGuard<'static, ()> {
    WRITING.lock().unwrap_or_else(PoisonError::into_inner)
}
