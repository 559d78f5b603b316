//! `ocelli summary`: a model, layer by layer.

use std::collections::HashMap;

use clap::Args;
use ocelli_train::zoo::{Model, variant};
use serde::Serialize;

use crate::arguments::at_least_one;
use crate::error::Result;
use crate::output::{Align, Style, Table, count, print_json, print_line, size};

/// Show a model's layers, with shapes, parameters and costs
#[derive(Debug, Args)]
#[command(after_help = "\
Shapes are those of one image: height × width × channels. MACs are multiply-accumulates.

Examples:
  ocelli summary resnet18
  ocelli summary resnet50 --input-size 320
  ocelli summary tf_efficientnet_lite0 --json")]
pub struct Summary {
    /// A model of `ocelli models`
    #[arg(value_name = "MODEL")]
    model: String,
    /// Height and width of the images [default: the model's own]
    #[arg(long, value_name = "S", value_parser = at_least_one())]
    input_size: Option<usize>,
    /// Print {model, input_size, parameters, macs, layers}, of which each is {name, op, output, parameters, macs}
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    model: &'static str,
    input_size: usize,
    parameters: usize,
    macs: u64,
    layers: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    /// Where in the network, as in the names of its parameters.
    name: String,
    op: &'static str,
    /// The output's shape without the batch.
    output: Vec<usize>,
    parameters: usize,
    macs: u64,
}

impl Summary {
    pub fn run(&self) -> Result<()> {
        let report = self.report()?;
        if self.json { print_json(&report) } else { report.print() }
    }

    fn report(&self) -> Result<Report> {
        let variant = variant(&self.model)?;
        let input_size = self.input_size.unwrap_or(variant.input_size);
        let model = Model::zeroed(variant.name, variant.options())?;
        let trace = model.trace([1, input_size, input_size, variant.options().in_channels])?;
        let mut parameters = parameters_by_layer(&model);
        let layers = trace.entries().iter().map(|entry| Row {
            name: entry.scope().into(),
            op: entry.name(),
            output: entry.output_shape()[1..].to_vec(),
            // A layer of several operations owns its parameters once.
            parameters: parameters.remove(entry.scope()).unwrap_or(0),
            macs: entry.cost().macs,
        });
        Ok(Report {
            model: variant.name,
            input_size,
            parameters: variant.parameters,
            layers: layers.collect(),
            macs: trace.cost().macs,
        })
    }
}

/// How many numbers are learned under each path, such as `layer1.0.conv1`.
fn parameters_by_layer(model: &Model) -> HashMap<String, usize> {
    let mut layers = HashMap::new();
    for (name, parameter) in model.state().parameters() {
        let layer = name.rsplit_once('.').map_or("", |(layer, _)| layer);
        *layers.entry(layer.to_owned()).or_default() += parameter.shape().len();
    }
    layers
}

impl Report {
    fn print(&self) -> Result<()> {
        let mut table = Table::new([
            ("layer", Align::Left),
            ("operation", Align::Left),
            ("output", Align::Right),
            ("parameters", Align::Right),
            ("MACs", Align::Right),
        ]);
        let unless_zero = |n: u64, text: fn(u64) -> String| if n == 0 { String::new() } else { text(n) };
        for row in &self.layers {
            let output: Vec<String> = row.output.iter().map(usize::to_string).collect();
            table.row([
                row.name.clone(),
                row.op.into(),
                output.join(" × "),
                unless_zero(row.parameters as u64, count),
                unless_zero(row.macs, size),
            ]);
        }
        table.print()?;
        let (parameters, macs) = (count(self.parameters), size(self.macs));
        let total = format!("{}: {parameters} parameters, {macs} MACs", self.model);
        print_line(&format!("\n{} at {1} × {1} pixels", Style::stdout().strong(&total), self.input_size))
    }
}
