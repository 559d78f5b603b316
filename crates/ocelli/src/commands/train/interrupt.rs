//! Ctrl-C: the first time training stops after the step, the second time at once.

use std::io::{Write, stderr};
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

static STOP: AtomicBool = AtomicBool::new(false);

/// What shells report for a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// A flag that Ctrl-C (or the system's request to terminate) sets.
pub fn flag(folder: &Path) -> Result<&'static AtomicBool> {
    let folder = folder.display().to_string();
    let handler = move || {
        if STOP.swap(true, Ordering::Relaxed) {
            process::exit(INTERRUPTED);
        }
        let _ = writeln!(stderr(), "\nstopping: saving to {folder}; Ctrl-C again leaves at once");
    };
    ctrlc::set_handler(handler).map_err(|error| Error::message(format!("cannot watch for Ctrl-C: {error}")))?;
    Ok(&STOP)
}
