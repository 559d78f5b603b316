//! The list of variants, by name.

use crate::nn::{self, Builder};
use crate::{
    Architecture, Error, Result, alexnet, cifar_resnet, deformable_resnet, densenet, efficientnet, efficientnet_v2,
    googlenet, inception, preact_resnet, resnet, resnext, senet, vgg, wide_resnet,
};

/// What a network is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Classes to tell apart; 0 for a network without its classifier, whose output is the embedding.
    pub classes: usize,
    /// Channels of the input images.
    pub in_channels: usize,
}

/// Makes a network for some classes and channels.
pub type Build = fn(&Builder<f32>, Options) -> nn::Result<Box<dyn Architecture<f32>>>;

/// One published configuration of an architecture.
#[derive(Debug)]
pub struct Variant {
    /// The library's name of it (torchvision's; timm's where torchvision lacks the model; the paper's otherwise).
    pub name: &'static str,
    /// The architecture's name.
    pub family: &'static str,
    /// Height and width of its images.
    pub input_size: usize,
    /// The smallest height and width that leave a pixel at its end.
    pub least_size: usize,
    /// Classes of the published weights.
    pub classes: usize,
    /// Parameters with these classes and three input channels, as the library counts them that publishes the weights.
    pub parameters: usize,
    /// Multiply-accumulates of its convolutions and fully connected layers for one such image.
    pub macs: u64,
    /// The path of the last layer.
    pub classifier: &'static str,
    /// Makes the network.
    pub build: Build,
}

impl Variant {
    /// The options of the published weights: their classes, and colour images.
    pub fn options(&self) -> Options {
        Options { classes: self.classes, in_channels: 3 }
    }
}

/// All variants, family by family.
pub fn variants() -> impl Iterator<Item = &'static Variant> {
    let families = [
        alexnet::VARIANTS,
        vgg::VARIANTS,
        googlenet::VARIANTS,
        inception::VARIANTS,
        resnet::VARIANTS,
        cifar_resnet::VARIANTS,
        preact_resnet::VARIANTS,
        wide_resnet::VARIANTS,
        resnext::VARIANTS,
        deformable_resnet::VARIANTS,
        densenet::VARIANTS,
        senet::VARIANTS,
        efficientnet::VARIANTS,
        efficientnet_v2::VARIANTS,
    ];
    families.into_iter().flatten()
}

/// The variant of that name, or an error that offers the nearest ones.
pub fn variant(name: &str) -> Result<&'static Variant> {
    variants().find(|variant| variant.name == name).ok_or_else(|| {
        let mut ranked: Vec<_> =
            variants().map(|v| (strsim::jaro_winkler(&name.to_lowercase(), v.name), v.name)).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        let nearest = ranked.iter().take_while(|(likeness, _)| *likeness > 0.75).take(3).map(|(_, name)| *name);
        Error::UnknownModel { name: name.into(), nearest: nearest.collect() }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let names: HashSet<_> = variants().map(|v| v.name).collect();
        assert_eq!(names.len(), variants().count());
    }

    #[test]
    fn a_typo_is_answered_with_the_nearest_names() {
        let message = variant("resnet81").unwrap_err().to_string();
        assert!(message.contains("did you mean") && message.contains("resnet18"), "{message}");
        let message = variant("mobilenet_v9000").unwrap_err().to_string();
        assert!(message.contains("mobilenet_v9000"), "{message}");
    }
}
