//! `ocelli evaluate`: how good a network is on a data set.

use std::sync::Arc;

use clap::Args;
use ocelli_train::{Data, Dataset, Picture, Report, Run, evaluate, evaluate_half, evaluate_quantized, quantize};
use serde::Serialize;

use crate::arguments::{NetworkChoice, Threads, at_least_one};
use crate::classifier::Classifier;
use crate::error::{Error, Result};
use crate::output::{Align, Style, Table, count, percent, print_json, print_line};
use crate::progress::{Bar, warning};

/// How many confusions are shown, the most frequent first.
const CONFUSIONS: usize = 5;

/// Measure a network on the validation part of a data set
#[derive(Debug, Args)]
#[command(after_help = "\
SOURCE is `digits` (built in) or a folder: train/CLASS/* and val/CLASS/*, of which val is measured, or CLASS/*, of which \
the fifth is measured that --seed holds out. With --run, data and seed are those of the run, unless given.

With --int8 the network is measured twice: as it is, and with its convolutions and fully connected layers in eight bits, \
for which it looks at some training images first. With --f16 it is measured as it is and as it computes a single image if \
layers whose weights have to come from memory keep them in 16 bits. See docs/quantization.md.

Examples:
  ocelli evaluate --run runs/digits
  ocelli evaluate --run runs/photos --data other-photos
  ocelli evaluate --run runs/photos --int8
  ocelli evaluate --model resnet18 --weights resnet18.pth --data photos --json")]
#[command(group(clap::ArgGroup::new("network").args(["run", "weights"]).required(true)))]
pub struct Evaluate {
    #[command(flatten)]
    network: NetworkChoice,
    /// The data set [default: the run's, else digits]
    #[arg(long, value_name = "SOURCE")]
    data: Option<String>,
    /// Which fifth of a folder without val/ is measured [default: the run's, else 1]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Images at once
    #[arg(long, value_name = "N", default_value = "32", value_parser = at_least_one())]
    batch_size: usize,
    /// Measure the network in eight bits, too
    #[arg(long)]
    int8: bool,
    /// Measure the network with the weights of memory-bound layers in 16 bits, too
    #[arg(long)]
    f16: bool,
    /// How many training images tell --int8 the ranges of the network's values
    #[arg(long, value_name = "N", default_value = "64", value_parser = at_least_one(), requires = "int8")]
    calibration: usize,
    /// Print {model, data, images, loss, top1, top5, classes, confusion, skipped}; with --int8 or --f16 also `int8` or
    /// `f16`, {images, loss, top1, …}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    threads: Threads,
}

#[derive(Serialize)]
struct Answer<'a> {
    model: &'a str,
    data: &'a str,
    #[serde(flatten)]
    report: &'a Report,
    #[serde(flatten)]
    lesser: &'a Lesser,
}

/// What the network is worth with fewer bits.
#[derive(Serialize)]
struct Lesser {
    #[serde(skip_serializing_if = "Option::is_none")]
    int8: Option<Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    f16: Option<Report>,
}

impl Evaluate {
    pub fn run(&self) -> Result<()> {
        self.threads.apply();
        let run = self.network.run.as_deref().map(Run::open).transpose()?;
        let config = run.as_ref().map(Run::config);
        let source = self.data.as_deref().or(config.map(|c| c.data.as_str())).unwrap_or("digits");
        let seed = self.seed.or(config.map(|c| c.seed)).unwrap_or(1);
        let data = Data::open(source, seed)?;
        let classifier = match &run {
            Some(run) => Classifier::of_run(run)?,
            None => Classifier::chosen(&self.network)?.ok_or_else(|| Error::message("no network chosen"))?,
        };
        let (report, lesser) = self.measure(&classifier, &data)?;
        for picture in &report.skipped {
            Bar::none().line_err(&warning(&format!("skipped {}", picture.reason)));
        }
        let model = classifier.model.variant().name;
        if self.json {
            return print_json(&Answer { model, data: &data.source, report: &report, lesser: &lesser });
        }
        print(model, &data.source, &report)?;
        let kinds = [(lesser.int8, "in eight bits"), (lesser.f16, "with weights in 16 bits")];
        kinds
            .into_iter()
            .try_for_each(|(lesser, kind)| lesser.map_or(Ok(()), |lesser| print_lesser(&report, &lesser, kind)))
    }

    /// The measures of the network, and those with fewer bits that are asked for.
    fn measure(&self, classifier: &Classifier, data: &Data) -> Result<(Report, Lesser)> {
        let Classifier { model, preprocessing, classes } = classifier;
        let (dataset, size) = (Arc::new(Relabelled::new(data, classes)?), self.batch_size);
        let images = dataset.len();
        let report = shown(images, "evaluating", |progress| {
            evaluate(model, dataset.clone(), classes, preprocessing, size, progress)
        })?;
        let int8 = || {
            let plan = quantize(model, data.train.clone(), self.calibration, preprocessing)?;
            shown(images, "evaluating in eight bits", |progress| {
                evaluate_quantized(&plan, dataset.clone(), classes, preprocessing, size, progress)
            })
        };
        let f16 = || {
            shown(images, "evaluating with weights in 16 bits", |progress| {
                evaluate_half(model, dataset.clone(), classes, preprocessing, size, progress)
            })
        };
        let lesser = Lesser { int8: self.int8.then(int8).transpose()?, f16: self.f16.then(f16).transpose()? };
        Ok((report, lesser))
    }
}

/// A measurement that takes a while, with a bar.
fn shown(
    images: usize,
    what: &str,
    measure: impl FnOnce(&dyn Fn(usize, usize)) -> ocelli_train::Result<Report>,
) -> Result<Report> {
    let bar = Bar::new(images, what);
    let report = measure(&|done, _| bar.set(done, "images"));
    bar.clear();
    Ok(report?)
}

/// A data set whose labels are the outputs of a network that may know more classes.
struct Relabelled {
    inner: Arc<dyn Dataset>,
    outputs: Vec<usize>,
}

impl Relabelled {
    fn new(data: &Data, classes: &[String]) -> Result<Self> {
        let output = |class: &String| {
            classes.iter().position(|known| known == class).ok_or_else(|| {
                let known = classes.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
                Error::message(format!("{}: the network knows no class {class:?} (it knows {known}, …)", data.source))
            })
        };
        let outputs = data.classes.iter().map(output).collect::<Result<_>>()?;
        Ok(Relabelled { inner: data.validation.clone(), outputs })
    }
}

impl Dataset for Relabelled {
    fn len(&self) -> usize {
        self.inner.len()
    }

    fn label(&self, index: usize) -> usize {
        self.outputs[self.inner.label(index)]
    }

    fn picture(&self, index: usize) -> ocelli_train::Result<Picture> {
        self.inner.picture(index)
    }

    fn name(&self, index: usize) -> String {
        self.inner.name(index)
    }
}

fn print(model: &str, data: &str, report: &Report) -> Result<()> {
    let mut table = Table::new([
        ("class", Align::Left),
        ("images", Align::Right),
        ("accuracy", Align::Right),
        ("precision", Align::Right),
    ]);
    let share = |share: Option<f64>| share.map_or("–".into(), |share| percent(share, 1));
    for class in report.classes.iter().filter(|class| class.images > 0) {
        table.row([class.class.clone(), count(class.images), share(class.accuracy), share(class.precision)]);
    }
    table.print()?;
    print_confusions(report)?;
    let mut total = percent(report.top1, 2);
    if report.classes.len() > 5 {
        total += &format!(" ({} among the first five)", percent(report.top5, 2));
    }
    let images = count(report.images);
    print_line(&format!("\n{} of {images} images of {data} right", Style::stdout().strong(&total)))?;
    print_line(&format!("{model}, mean cross-entropy {:.4}", report.loss))
}

fn print_lesser(report: &Report, lesser: &Report, kind: &str) -> Result<()> {
    let [top1, exact] = [lesser, report].map(|report| percent(report.top1, 2));
    let loss = format!("mean cross-entropy {:.4} ({:.4})", lesser.loss, report.loss);
    print_line(&format!("{kind}: {} right ({exact} in 32), {loss}", Style::stdout().strong(&top1)))
}

fn print_confusions(report: &Report) -> Result<()> {
    let mut found: Vec<(u32, usize, usize)> = Vec::new();
    for (class, row) in report.confusion.iter().enumerate() {
        let wrong = row.iter().enumerate().filter(|&(taken, &n)| taken != class && n > 0);
        found.extend(wrong.map(|(taken, &n)| (n, class, taken)));
    }
    found.sort_by_key(|&(n, class, taken)| (std::cmp::Reverse(n), class, taken));
    if found.is_empty() {
        return Ok(());
    }
    print_line("\nmost often taken for another:")?;
    for (n, class, taken) in found.into_iter().take(CONFUSIONS) {
        let name = |class: usize| &report.classes[class].class;
        print_line(&format!("  {n:>3} × {} for {}", name(class), name(taken)))?;
    }
    Ok(())
}
