//! `ocelli models`: the zoo.

use clap::Args;
use ocelli_train::zoo::{Variant, variants};
use serde::Serialize;

use crate::error::Result;
use crate::output::{Align, Table, count, print_json, size};

/// List the models
#[derive(Debug, Args)]
#[command(after_help = "\
MACs are the multiply-accumulates of one image of the model's input size.

Examples:
  ocelli models
  ocelli models --json")]
pub struct Models {
    /// Print a list of {name, family, parameters, macs, input_size}
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    family: &'static str,
    parameters: usize,
    macs: u64,
    input_size: usize,
}

impl From<&Variant> for Row {
    fn from(&Variant { name, family, parameters, macs, input_size, .. }: &Variant) -> Self {
        Row { name, family, parameters, macs, input_size }
    }
}

impl Models {
    pub fn run(&self) -> Result<()> {
        let rows = variants().map(Row::from);
        if self.json {
            return print_json(&rows.collect::<Vec<_>>());
        }
        let mut table = Table::new([
            ("name", Align::Left),
            ("family", Align::Left),
            ("parameters", Align::Right),
            ("MACs", Align::Right),
            ("input size", Align::Right),
        ]);
        for Row { name, family, parameters, macs, input_size } in rows {
            table.row([name.into(), family.into(), count(parameters), size(macs), input_size.to_string()]);
        }
        table.print()
    }
}
