//! Layers in a row.

use ocelli_autograd::tensor::Element;
use ocelli_autograd::{Var, scope};

use super::Layer;
use crate::{Mode, Result};

/// Named layers, each applied to the value of the one before. An empty row is the identity.
///
/// ```
/// use ocelli_nn::autograd::{Var, ops::Activation};
/// use ocelli_nn::tensor::Tensor;
/// use ocelli_nn::{Builder, Conv2d, Conv2dOptions, Layer, Mode, Sequential};
///
/// let b = Builder::<f32>::new(0).enter("features");
/// let mut features = Sequential::new();
/// features.push("0", Conv2d::new(&b.enter("0"), 3, 8, Conv2dOptions::new(3).padding(1).bias(true))?);
/// features.push("1", Activation::Relu);
///
/// let y = features.forward(&Var::constant(Tensor::zeros([1, 4, 4, 3])), &Mode::Eval)?;
/// assert_eq!(y.shape()[..], [1, 4, 4, 8]);
/// assert_eq!(b.state().names().collect::<Vec<_>>(), ["features.0.weight", "features.0.bias"]);
/// # Ok::<(), ocelli_nn::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Sequential<T: Element = f32> {
    children: Vec<(Box<str>, Box<dyn Layer<T>>)>,
}

impl<T: Element> Sequential<T> {
    /// An empty row.
    pub fn new() -> Self {
        Sequential { children: Vec::new() }
    }

    /// Appends a layer. `name` is what traces call it, and should be what its parameters' names begin with; empty for a
    /// layer whose parts name themselves.
    pub fn push(&mut self, name: impl AsRef<str>, layer: impl Layer<T> + 'static) {
        self.children.push((name.as_ref().into(), Box::new(layer)));
    }

    /// The layers with their names, in order.
    pub fn children(&self) -> impl Iterator<Item = (&str, &dyn Layer<T>)> {
        self.children.iter().map(|(name, layer)| (&**name, &**layer))
    }

    /// The number of layers.
    pub fn len(&self) -> usize {
        self.children.len()
    }

    /// Whether there is no layer.
    pub fn is_empty(&self) -> bool {
        self.children.is_empty()
    }
}

impl<T: Element> Layer<T> for Sequential<T> {
    /// A layer that can takes the activation behind it along.
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        let (mut x, mut rest) = (x.clone(), &self.children[..]);
        while let [(name, layer), behind @ ..] = rest {
            let fused = match behind.first().and_then(|(_, next)| next.as_activation()) {
                Some(activation) => named(name, || layer.forward_activated(&x, activation, mode))?,
                None => None,
            };
            (x, rest) = match fused {
                Some(y) => (y, &behind[1..]),
                None => (named(name, || layer.forward(&x, mode))?, behind),
            };
        }
        Ok(x)
    }
}

/// In the scope of that name, if it has one.
fn named<R>(name: &str, f: impl FnOnce() -> R) -> R {
    if name.is_empty() { f() } else { scope(name, f) }
}
