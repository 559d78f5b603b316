//! `ocelli models`: the zoo.

use std::collections::BTreeSet;

use clap::Args;
use ocelli_train::published::{Published, published};
use ocelli_train::zoo::{Variant, variant, variants};
use ocelli_train::{Interpolation, Preprocessing};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::output::{Align, Table, count, percent, print_json, print_line, size};

/// List the models
#[derive(Debug, Args)]
#[command(after_help = "\
MACs are the multiply-accumulates of one image of the model's input size.

Examples:
  ocelli models
  ocelli models resnext
  ocelli models --families
  ocelli models --weights resnet50
  ocelli models --json")]
pub struct Models {
    /// Only those with this text in their name or family
    #[arg(value_name = "TEXT")]
    filter: Option<String>,
    /// A line for each family
    #[arg(long, conflicts_with = "json")]
    families: bool,
    /// The published weights that fit the models, which `--weights NAME` fetches
    #[arg(long, conflicts_with = "families")]
    weights: bool,
    /// Print a list of {name, family, parameters, macs, input_size}; of weights {name, model, parameters, preprocessing,
    /// top1, licence, address}
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

/// Published weights.
#[derive(Serialize)]
struct WeightsRow {
    name: &'static str,
    model: &'static str,
    parameters: usize,
    preprocessing: &'static Preprocessing,
    /// Percent.
    top1: Option<f64>,
    licence: Option<&'static str>,
    address: String,
}

impl WeightsRow {
    fn of(weights: &'static Published, variant: &Variant) -> Self {
        let Published { name, model, preprocessing, top1, licence, .. } = weights;
        let (top1, licence, address) = (*top1, *licence, weights.address());
        WeightsRow { name, model, parameters: variant.parameters, preprocessing, top1, licence, address }
    }
}

impl Models {
    pub fn run(&self) -> Result<()> {
        if self.weights {
            return self.list_weights();
        }
        let rows: Vec<Row> = variants().filter(|variant| self.wants(variant)).map(Row::from).collect();
        if let (true, Some(text)) = (rows.is_empty(), &self.filter) {
            return Err(Error::message(format!("no model has {text:?} in its name or family")));
        }
        match (self.json, self.families) {
            (true, _) => print_json(&rows),
            (false, true) => print_families(&rows),
            (false, false) => print_models(&rows),
        }
    }

    fn wants(&self, variant: &Variant) -> bool {
        self.mentions(&[variant.name, variant.family])
    }

    /// Whether one of the texts has the wanted one in it.
    fn mentions(&self, texts: &[&str]) -> bool {
        let Some(filter) = &self.filter else { return true };
        let filter = filter.to_lowercase();
        texts.iter().any(|text| text.to_lowercase().contains(&filter))
    }

    fn list_weights(&self) -> Result<()> {
        let mut rows = Vec::new();
        for weights in published() {
            let variant = variant(weights.model)?;
            if self.mentions(&[weights.name, variant.family]) {
                rows.push(WeightsRow::of(weights, variant));
            }
        }
        if let (true, Some(text)) = (rows.is_empty(), &self.filter) {
            return Err(Error::message(format!("no published weights have {text:?} in their name or family")));
        }
        if self.json { print_json(&rows) } else { print_weights(&rows) }
    }
}

fn print_models(rows: &[Row]) -> Result<()> {
    let mut table = Table::new([
        ("name", Align::Left),
        ("family", Align::Left),
        ("parameters", Align::Right),
        ("MACs", Align::Right),
        ("input size", Align::Right),
    ]);
    for Row { name, family, parameters, macs, input_size } in rows {
        table.row([(*name).into(), (*family).into(), count(*parameters), size(*macs), input_size.to_string()]);
    }
    table.print()?;
    let families: BTreeSet<&str> = rows.iter().map(|row| row.family).collect();
    let plural = |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    let (models, families) = (plural(rows.len(), "model", "models"), plural(families.len(), "family", "families"));
    print_line(&format!("\n{models}, {families}"))
}

fn print_weights(rows: &[WeightsRow]) -> Result<()> {
    let mut table = Table::new([
        ("name", Align::Left),
        ("parameters", Align::Right),
        ("resize", Align::Right),
        ("crop", Align::Right),
        ("interpolation", Align::Left),
        ("top-1", Align::Right),
        ("licence", Align::Left),
    ]);
    for WeightsRow { name, parameters, preprocessing, top1, licence, .. } in rows {
        let interpolation = match preprocessing.interpolation {
            Interpolation::Bilinear => "bilinear",
            Interpolation::Bicubic => "bicubic",
        };
        table.row([
            (*name).into(),
            count(*parameters),
            preprocessing.resize.to_string(),
            preprocessing.crop.to_string(),
            interpolation.into(),
            top1.map_or("–".into(), |share| percent(share / 100.0, 2)),
            licence.unwrap_or("–").into(),
        ]);
    }
    table.print()
}

fn print_families(rows: &[Row]) -> Result<()> {
    let mut table = Table::new([
        ("family", Align::Left),
        ("models", Align::Right),
        ("parameters", Align::Right),
        ("MACs", Align::Right),
    ]);
    let range = |numbers: &[u64]| {
        let (least, most) = (numbers.iter().min().copied(), numbers.iter().max().copied());
        match (least.unwrap_or(0), most.unwrap_or(0)) {
            (least, most) if least == most => size(least),
            (least, most) => format!("{} – {}", size(least), size(most)),
        }
    };
    let mut families: Vec<&str> = Vec::new();
    for row in rows {
        if !families.contains(&row.family) {
            families.push(row.family);
        }
    }
    for family in families {
        let members = rows.iter().filter(|row| row.family == family);
        let (parameters, macs): (Vec<u64>, Vec<u64>) = members.map(|row| (row.parameters as u64, row.macs)).unzip();
        table.row([family.into(), macs.len().to_string(), range(&parameters), range(&macs)]);
    }
    table.print()
}
