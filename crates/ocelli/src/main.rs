//! `ocelli`, the command-line program: trains, fine-tunes, evaluates and runs image classifiers.
//!
//! A command is a file in [`commands`]. Results go to standard output, progress and warnings to standard error. The
//! exit status is 0 on success, 1 with one line `error: …` on failure, and 2 for wrong usage.

#![forbid(unsafe_code)]

mod arguments;
mod classifier;
mod commands;
mod error;
mod graph;
mod output;
mod progress;
mod weights;

use std::io::{Write, stderr};
use std::process::ExitCode;

use clap::Parser;

use crate::commands::Command;

/// Train, fine-tune, evaluate and run convolutional image classifiers on the CPU.
#[derive(Debug, Parser)]
#[command(name = "ocelli", version, propagate_version = true, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  ocelli predict cat.jpg                     What is in a picture (EfficientNet-Lite0, built in)
  ocelli train                               Train a small network on handwritten digits, built in
  ocelli train --data photos                 Fine-tune on photos/CLASS/*.jpg
  ocelli evaluate --run runs/photos          How good it became
  ocelli predict --run runs/photos new.jpg   Use it

`ocelli COMMAND --help` explains a command, with examples.";

fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    match command.run() {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output (`head`, a pager) has seen enough.
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            // Written so that a closed standard error is no panic.
            let _ = writeln!(stderr(), "error: {}", error.line());
            ExitCode::FAILURE
        }
    }
}
