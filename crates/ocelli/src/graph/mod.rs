//! A picture of an architecture: stages from left to right, their blocks from top to bottom, repeated ones once.
//!
//! What is drawn comes from the data flow of one forward pass ([`series`]), and so holds for every model: operations
//! become layers and blocks ([`blocks`]), which are laid out and written as SVG ([`draw`]).

mod blocks;
mod draw;
mod series;

use std::collections::BTreeSet;

use ocelli_train::zoo::Model;

use self::blocks::{Item, items};
use crate::error::Result;
use crate::output::size;

/// What a picture shows.
struct Diagram {
    title: String,
    subtitle: String,
    input: [usize; 3],
    panels: Vec<Panel>,
    /// What is done everywhere and not drawn, such as `batch norm`.
    silent: BTreeSet<&'static str>,
}

/// A stage, or what comes behind the last.
struct Panel {
    title: String,
    subtitle: String,
    items: Vec<Item>,
    /// Its output: height, width, channels; or numbers alone.
    output: Vec<usize>,
    parameters: usize,
    macs: u64,
}

/// The picture of a model on images of that height and width, as SVG.
pub fn svg(model: &Model, side: usize) -> Result<String> {
    let variant = model.variant();
    let stages = model.stages()?;
    let mut panels = Vec::new();
    let (mut silent, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut panel = Panel::empty();
    for part in model.parts(side)? {
        panel.items.extend(items(&part));
        for entry in part.trace.entries() {
            silent.extend(silent_name(entry.name()));
            panel.macs += entry.cost().macs;
            panel.output = entry.output_shape()[1..].to_vec();
            if seen.insert(entry.scope().to_owned()) {
                panel.parameters += own_parameters(model, entry.scope());
            }
        }
        if let Some(stage) = part.ends {
            let name = &stages[stage].name;
            panel.title = format!("stage {stage}");
            panel.subtitle = format!("{name}, stride {}", stages[stage].stride);
            panels.push(std::mem::replace(&mut panel, Panel::empty()));
        }
    }
    panel.title = "head".into();
    panels.push(panel);
    panels.iter_mut().for_each(|panel| blocks::collapse(&mut panel.items));
    let (parameters, macs) = (variant.parameters as u64, panels.iter().map(|panel| panel.macs).sum());
    let diagram = Diagram {
        title: variant.name.into(),
        subtitle: format!("{} · {} parameters · {} multiply-accumulates", variant.family, size(parameters), size(macs)),
        input: [side, side, model.options().in_channels],
        panels,
        silent,
    };
    Ok(draw::svg(&diagram))
}

impl Panel {
    fn empty() -> Self {
        Panel {
            title: String::new(),
            subtitle: String::new(),
            items: Vec::new(),
            output: Vec::new(),
            parameters: 0,
            macs: 0,
        }
    }
}

/// How many numbers are learned right under a path.
fn own_parameters(model: &Model, path: &str) -> usize {
    let own = |name: &str| name.rsplit_once('.').is_some_and(|(layer, _)| layer == path);
    model.state().parameters().filter(|(name, _)| own(name)).map(|(_, parameter)| parameter.shape().len()).sum()
}

/// What people call an operation that is not drawn.
fn silent_name(operation: &str) -> Option<&'static str> {
    Some(match operation {
        "batch_norm_eval" => "batch norm",
        "relu" => "ReLU",
        "relu6" => "ReLU6",
        "silu" => "SiLU",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use ocelli_train::zoo::{Options, variant};

    use super::*;

    /// The texts of a picture, with where they are.
    fn texts(svg: &str) -> Vec<([f64; 2], &str)> {
        let attribute = |tag: &str, name: &str| -> f64 {
            let (_, rest) = tag.split_once(&format!(" {name}=\"")).unwrap();
            rest.split_once('"').unwrap().0.parse().unwrap()
        };
        let texts = svg.split("<text").skip(1).map(|text| text.split_once("</text>").unwrap().0);
        texts.map(|text| ([attribute(text, "x"), attribute(text, "y")], text.split_once('>').unwrap().1)).collect()
    }

    fn drawn(name: &str) -> String {
        let variant = variant(name).unwrap();
        let model = Model::zeroed(name, Options { classes: 10, in_channels: 3 }).unwrap();
        svg(&model, variant.least_size.max(32)).unwrap()
    }

    #[test]
    fn repeated_blocks_are_drawn_once() {
        let picture = drawn("resnet50");
        let texts: Vec<&str> = texts(&picture).into_iter().map(|(_, text)| text).collect();
        for expected in ["resnet50", "7×7 conv, 64, /2", "max 3×3, /2", "1×1 conv, 2048", "linear, 10", "stage 4"] {
            assert!(texts.contains(&expected), "{expected} is not in {texts:?}");
        }
        let repeats: Vec<&str> = texts.iter().copied().filter(|t| ["×3", "×4", "×6"].contains(t)).collect();
        // The first are the channels of the image.
        assert_eq!(repeats, ["×3", "×3", "×4", "×6", "×3"]);
        assert!(texts.contains(&"first: stride 2, projection"), "{texts:?}");
    }

    #[test]
    fn branches_and_excitations_are_seen_in_the_data_flow() {
        let googlenet = drawn("googlenet");
        let modules = texts(&googlenet).into_iter().filter(|(_, text)| *text == "max").count();
        assert_eq!(modules, 9, "a pooling branch in each module");
        let senet = drawn("legacy_seresnet18");
        assert_eq!(texts(&senet).into_iter().filter(|(_, text)| text.starts_with("squeeze-excite")).count(), 4);
        let densenet = drawn("densenet_bc100_k12");
        assert_eq!(texts(&densenet).into_iter().filter(|(_, text)| *text == "×16").count(), 3);
    }

    #[test]
    fn no_text_lies_on_another_or_outside() {
        for name in ["alexnet", "inception_v3", "resnext50_32x4d", "tf_efficientnet_lite0", "preact_resnet110"] {
            let picture = drawn(name);
            let (_, size) = picture.split_once("viewBox=\"0 0 ").unwrap();
            let size: Vec<f64> = size.split('"').next().unwrap().split(' ').map(|n| n.parse().unwrap()).collect();
            let texts = texts(&picture);
            for (i, ([x, y], text)) in texts.iter().enumerate() {
                assert!((0.0..size[0]).contains(x) && (0.0..size[1]).contains(y), "{name}: {text}");
                for ([other_x, other_y], other) in &texts[..i] {
                    let apart = (x - other_x).abs() >= 14.0 || (y - other_y).abs() >= 9.0;
                    assert!(apart, "{name}: {text} on {other}");
                }
            }
        }
    }
}
