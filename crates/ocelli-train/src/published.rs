//! The published weights that fit the zoo's models: torchvision's and timm's, trained on ImageNet.

use std::sync::LazyLock;

use crate::{Error, Interpolation, Preprocessing, Result};

/// A line for each, with tabs between: see [`Published`]. `location` is an address, or a repository of the Hugging Face
/// hub; `sha256` the first digits of the file's, where its publisher gives them.
static TABLE: &str = include_str!("../weights/published.tsv");

static PUBLISHED: LazyLock<Vec<Published>> =
    LazyLock::new(|| TABLE.lines().skip(1).map(|line| Published::parse(line).expect("a line of the table")).collect());

/// A set of published weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// The model and, behind a dot, the library's name of the weights: `resnet50.IMAGENET1K_V2` (torchvision),
    /// `resnet50.a1_in1k` (timm).
    pub name: &'static str,
    /// The model, a name of the zoo's.
    pub model: &'static str,
    /// Where the file is.
    pub source: Source,
    /// How pictures are prepared for it.
    pub preprocessing: Preprocessing,
    /// Percent of ImageNet's validation images told right, as the library says it for this preprocessing.
    pub top1: Option<f64>,
    /// The licence's SPDX name in small letters, where the publisher states one for the weights.
    pub licence: Option<&'static str>,
}

/// Where a file is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `model.safetensors` of a repository of the Hugging Face hub.
    Hub(&'static str),
    /// A file of its own, with the first digits of its SHA-256 if they are known.
    File(&'static str, Option<&'static str>),
}

impl Published {
    /// The address of the file at its publisher's.
    pub fn address(&self) -> String {
        match self.source {
            Source::Hub(repository) => format!("https://huggingface.co/{repository}/resolve/main/model.safetensors"),
            Source::File(address, _) => address.into(),
        }
    }

    fn parse(line: &'static str) -> Option<Self> {
        let mut fields = line.split('\t');
        let mut next = || fields.next();
        let (name, model, location, sha256) = (next()?, next()?, next()?, next()?);
        let (resize, crop) = (next()?.parse().ok()?, next()?.parse().ok()?);
        let interpolation = match next()? {
            "bilinear" => Interpolation::Bilinear,
            "bicubic" => Interpolation::Bicubic,
            _ => return None,
        };
        let (mean, std) = match next()? {
            "imagenet" => (Preprocessing::imagenet().mean, Preprocessing::imagenet().std),
            // To −1..1.
            "half" => (vec![0.5; 3], vec![0.5; 3]),
            _ => return None,
        };
        let top1 = match next()? {
            "" => None,
            percent => Some(percent.parse().ok()?),
        };
        let licence = next()?;
        Some(Published {
            name,
            model,
            source: match location.starts_with("https://") {
                true => Source::File(location, Some(sha256).filter(|digits| !digits.is_empty())),
                false => Source::Hub(location),
            },
            preprocessing: Preprocessing { resize, crop, interpolation, mean, std },
            top1,
            licence: Some(licence).filter(|licence| !licence.is_empty()),
        })
    }
}

/// All of them, model by model.
pub fn published() -> &'static [Published] {
    &PUBLISHED
}

/// The one of that name.
pub fn find(name: &str) -> Result<&'static Published> {
    published().iter().find(|weights| weights.name == name).ok_or_else(|| {
        let model = name.split('.').next().unwrap_or(name);
        let known = published().iter().filter(|weights| weights.model == model).map(|weights| weights.name);
        let known: Vec<&str> = known.take(4).collect();
        let reason = match known[..] {
            [] => "no such file, and no published weights of this name".into(),
            _ => format!("no such file, and no published weights of this name; there are {}, …", known.join(", ")),
        };
        Error::Weights { name: name.into(), reason }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use ocelli_zoo::variant;

    use super::*;

    #[test]
    fn every_line_is_of_a_model_and_has_its_own_name() {
        let names: HashSet<_> = published().iter().map(|weights| weights.name).collect();
        assert_eq!(names.len(), published().len());
        assert_eq!(published().len(), TABLE.lines().count() - 1);
        for weights in published() {
            let variant = variant(weights.model).unwrap();
            assert_eq!(variant.classes, 1000);
            assert!(weights.name.starts_with(&format!("{}.", weights.model)), "{}", weights.name);
            weights.preprocessing.validate().unwrap();
            assert!(weights.preprocessing.crop >= variant.least_size && weights.preprocessing.channels() == 3);
            assert!(weights.top1.is_none_or(|percent| (50.0..95.0).contains(&percent)), "{}", weights.name);
            if let Source::File(_, Some(digits)) = weights.source {
                assert!(digits.len() >= 8 && digits.bytes().all(|b| b.is_ascii_hexdigit()), "{}", weights.name);
            }
        }
    }

    #[test]
    fn the_classics_are_as_their_publishers_say() {
        let v2 = find("resnet50.IMAGENET1K_V2").unwrap();
        let address = "https://download.pytorch.org/models/resnet50-11ad3fa6.pth";
        assert_eq!((v2.source, v2.top1), (Source::File(address, Some("11ad3fa6")), Some(80.858)));
        assert_eq!((v2.preprocessing.resize, v2.preprocessing.crop), (232, 224));
        let a1 = find("resnet50.a1_in1k").unwrap();
        assert_eq!((a1.source, a1.licence), (Source::Hub("timm/resnet50.a1_in1k"), Some("apache-2.0")));
        assert_eq!((a1.preprocessing.crop, a1.preprocessing.interpolation), (288, Interpolation::Bicubic));
    }

    #[test]
    fn an_unknown_name_is_answered_with_those_of_its_model() {
        let message = find("resnet50.a9_in1k").unwrap_err().to_string();
        assert!(message.starts_with("resnet50.a9_in1k: ") && message.contains("resnet50.IMAGENET1K_V1"), "{message}");
        assert!(find("weights.pth").unwrap_err().to_string().ends_with("no published weights of this name"));
    }
}
