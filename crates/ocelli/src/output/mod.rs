//! What commands print: JSON on one line, tables, numbers for people, colour where it is welcome.

mod numbers;
mod style;
mod table;

use std::io::{self, Write, stdout};

use serde::Serialize;

pub use numbers::{bar, count, duration, percent, size};
pub use style::Style;
pub use table::{Align, Table};

use crate::error::Result;

/// Prints `value` as JSON on one line.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    let line = serde_json::to_string(value).map_err(io::Error::from)?;
    print_line(&line)
}

/// Prints `line`. Unlike `println!`, a closed pipe is an error, not a panic.
pub fn print_line(line: &str) -> Result<()> {
    Ok(writeln!(stdout().lock(), "{line}")?)
}
