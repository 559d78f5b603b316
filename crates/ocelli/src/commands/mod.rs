//! The commands, a file each.

mod bench;
mod convert;
mod evaluate;
mod forward;
mod models;
mod predict;
mod summary;
mod train;

use clap::Subcommand;

use crate::error::Result;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Train(train::Train),
    Evaluate(evaluate::Evaluate),
    Predict(predict::Predict),
    Models(models::Models),
    Summary(summary::Summary),
    Forward(forward::Forward),
    Bench(bench::Bench),
    Convert(convert::Convert),
}

impl Command {
    /// Does it.
    pub fn run(&self) -> Result<()> {
        match self {
            Command::Train(command) => command.run(),
            Command::Evaluate(command) => command.run(),
            Command::Predict(command) => command.run(),
            Command::Models(command) => command.run(),
            Command::Summary(command) => command.run(),
            Command::Forward(command) => command.run(),
            Command::Bench(command) => command.run(),
            Command::Convert(command) => command.run(),
        }
    }
}
