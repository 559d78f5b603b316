//! `ocelli summary`: a model, layer by layer.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use clap::Args;
use ocelli_train::zoo::{Model, variant};
use serde::Serialize;

use crate::arguments::at_least_one;
use crate::error::{Error, Result};
use crate::graph;
use crate::output::{Align, Style, Table, count, print_json, print_line, size};

/// Show a model's layers, with shapes, parameters and costs
#[derive(Debug, Args)]
#[command(after_help = "\
Shapes are those of one image: height × width × channels. MACs are multiply-accumulates. The memory of a layer is that \
of its output; training keeps most of these for each image, inference few at once.

Examples:
  ocelli summary resnet18
  ocelli summary resnet50 --input-size 320
  ocelli summary resnet50 --graph resnet50.svg
  ocelli summary tf_efficientnet_lite0 --json")]
pub struct Summary {
    /// A model of `ocelli models`
    #[arg(value_name = "MODEL")]
    model: String,
    /// Height and width of the images [default: the model's own]
    #[arg(long, value_name = "S", value_parser = at_least_one())]
    input_size: Option<usize>,
    /// Draw the architecture, as SVG, rather than print a table
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    graph: Option<PathBuf>,
    /// Print {model, input_size, parameters, macs, memory, layers}, of which each is {name, op, output, parameters, macs,
    /// memory}; memory in bytes
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    model: &'static str,
    input_size: usize,
    parameters: usize,
    macs: u64,
    /// Bytes of all outputs.
    memory: usize,
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
    /// Bytes of the output.
    memory: usize,
}

impl Summary {
    pub fn run(&self) -> Result<()> {
        if let Some(path) = &self.graph {
            return self.draw(path);
        }
        let report = self.report()?;
        if self.json { print_json(&report) } else { report.print() }
    }

    /// The model with weights of zero, and the height and width of its images.
    fn model(&self) -> Result<(Model, usize)> {
        let variant = variant(&self.model)?;
        let model = Model::zeroed(variant.name, variant.options())?;
        Ok((model, self.input_size.unwrap_or(variant.input_size)))
    }

    fn draw(&self, path: &Path) -> Result<()> {
        let (model, side) = self.model()?;
        let picture = graph::svg(&model, side)?;
        std::fs::write(path, picture).map_err(|error| Error::file(path, format!("cannot write: {error}")))
    }

    fn report(&self) -> Result<Report> {
        let (model, input_size) = self.model()?;
        let variant = model.variant();
        let trace = model.trace([1, input_size, input_size, model.options().in_channels])?;
        let mut parameters = parameters_by_layer(&model);
        let layers: Vec<Row> = (trace.entries().iter())
            .map(|entry| Row {
                name: entry.scope().into(),
                op: entry.name(),
                output: entry.output_shape()[1..].to_vec(),
                // A layer of several operations owns its parameters once.
                parameters: parameters.remove(entry.scope()).unwrap_or(0),
                macs: entry.cost().macs,
                memory: entry.output_shape().len() * size_of::<f32>(),
            })
            .collect();
        Ok(Report {
            model: variant.name,
            input_size,
            parameters: variant.parameters,
            macs: trace.cost().macs,
            memory: layers.iter().map(|row| row.memory).sum(),
            layers,
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

fn bytes(n: usize) -> String {
    let text = size(n as u64);
    if n < 1000 { format!("{text} B") } else { format!("{text}B") }
}

impl Report {
    fn print(&self) -> Result<()> {
        let mut table = Table::new([
            ("layer", Align::Left),
            ("operation", Align::Left),
            ("output", Align::Right),
            ("parameters", Align::Right),
            ("MACs", Align::Right),
            ("memory", Align::Right),
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
                bytes(row.memory),
            ]);
        }
        table.print()?;
        let (parameters, macs) = (count(self.parameters), size(self.macs));
        let total = format!("{}: {parameters} parameters, {macs} MACs", self.model);
        let memory =
            format!("{} of weights, {} of outputs", bytes(self.parameters * size_of::<f32>()), bytes(self.memory));
        print_line(&format!("\n{} at {1} × {1} pixels; {memory}", Style::stdout().strong(&total), self.input_size))
    }
}
