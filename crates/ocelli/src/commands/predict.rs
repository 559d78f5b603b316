//! `ocelli predict`: what is in a picture.

use std::path::{Path, PathBuf};

use clap::Args;
use ocelli_train::{Prediction, Predictor, read_image};
use serde::Serialize;

use crate::arguments::{NetworkChoice, Threads, at_least_one};
use crate::classifier::Classifier;
use crate::error::Result;
use crate::output::{Style, bar, percent, print_json, print_line};

/// The longest bar, in characters.
const BAR: usize = 20;

/// Say what is in pictures
#[derive(Debug, Args)]
#[command(after_help = "\
Without --run or --weights, the network is EfficientNet-Lite0 with its ImageNet weights, which are built in and know a \
thousand things. PNG, JPEG, WebP, BMP and GIF (the first frame) are read.

Examples:
  ocelli predict cat.jpg
  ocelli predict --run runs/photos --top 3 new/*.jpg
  ocelli predict --model resnet50 --weights resnet50.pth cat.jpg --json")]
pub struct Predict {
    /// The pictures
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
    #[command(flatten)]
    network: NetworkChoice,
    /// How many classes to name, the most probable first
    #[arg(long, value_name = "K", default_value = "5", value_parser = at_least_one())]
    top: usize,
    /// Print a list of {image, predictions: [{class, index, probability}]}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    threads: Threads,
}

#[derive(Serialize)]
struct Answer<'a> {
    image: String,
    predictions: &'a [Prediction],
}

impl Predict {
    pub fn run(&self) -> Result<()> {
        self.threads.apply();
        let classifier = match Classifier::chosen(&self.network)? {
            Some(chosen) => chosen,
            None => Classifier::embedded()?,
        };
        let Classifier { model, preprocessing, classes } = &classifier;
        let mut predictor = Predictor::new(model, preprocessing, classes)?;
        let mut predictions = Vec::new();
        for path in &self.images {
            let found = predictor.predict(&read_image(path)?, self.top)?;
            if !self.json {
                print_answer(path, &found)?;
            }
            predictions.push(found);
        }
        if self.json {
            let answers = self.images.iter().zip(&predictions);
            let answers = answers.map(|(path, found)| Answer { image: path.display().to_string(), predictions: found });
            print_json(&answers.collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

fn print_answer(path: &Path, predictions: &[Prediction]) -> Result<()> {
    let style = Style::stdout();
    print_line(&style.strong(&path.display().to_string()))?;
    let width = predictions.iter().map(|p| p.class.chars().count()).max().unwrap_or(0);
    for (i, Prediction { class, probability, .. }) in predictions.iter().enumerate() {
        let bar = bar(*probability, BAR);
        let bar = if i == 0 { style.good(&bar) } else { bar };
        let line = format!("  {class:<width$}  {:>6}  {bar}", percent(*probability, 1));
        print_line(line.trim_end())?;
    }
    Ok(())
}
