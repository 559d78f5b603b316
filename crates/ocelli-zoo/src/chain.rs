//! A network as a row of layers, of which some end a stage: what a whole network, its logits, its inner maps and its
//! embedding are all made of.

use crate::nn::autograd::{Trace, Var, no_grad, scope, trace};
use crate::nn::tensor::Element;
use crate::nn::{ConvNorm, Layer, Mode, Result, Sequential};

/// The layers of a network in the order in which they run. The last is the classifier.
///
/// ```
/// use ocelli_zoo::Chain;
/// use ocelli_zoo::nn::autograd::{Var, ops::Activation};
/// use ocelli_zoo::nn::tensor::Tensor;
/// use ocelli_zoo::nn::{Flatten, Mode};
///
/// let chain = Chain::new().then("relu", &Activation::Relu).stage("relu", 1).then("flatten", &Flatten);
/// let x = Var::constant(Tensor::full([1, 2, 2, 3], -1.0f32));
/// assert_eq!(chain.forward(&x, &Mode::Eval)?.shape()[..], [1, 12]);
/// assert_eq!(chain.features(&x, &[0], &Mode::Eval)?[0].shape()[..], [1, 2, 2, 3]);
/// # Ok::<(), ocelli_zoo::nn::Error>(())
/// ```
#[derive(Debug)]
pub struct Chain<'a, T: Element = f32> {
    links: Vec<Link<'a, T>>,
    stages: Vec<Stage>,
}

/// A layer's path, the stage that it ends, and what it does.
pub(crate) type Traced<'c, T> = (&'c str, Option<usize>, Trace<T>);

#[derive(Debug)]
struct Link<'a, T: Element> {
    /// The scope around the layer; empty if its parts name themselves.
    path: String,
    /// What the paths of its parameters begin with.
    prefixes: Vec<String>,
    layer: &'a dyn Layer<T>,
}

impl<T: Element> Link<'_, T> {
    fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        self.scoped(|| self.layer.forward(x, mode))
    }

    fn scoped<R>(&self, f: impl FnOnce() -> R) -> R {
        if self.path.is_empty() { f() } else { scope(&self.path, f) }
    }
}

#[derive(Debug)]
struct Stage {
    name: String,
    stride: usize,
    /// How many links there are to its end.
    end: usize,
}

impl<'a, T: Element> Chain<'a, T> {
    /// An empty row.
    pub fn new() -> Self {
        Chain { links: Vec::new(), stages: Vec::new() }
    }

    /// Appends a layer, whose parameters' names begin with `path`.
    pub fn then(mut self, path: impl Into<String>, layer: &'a dyn Layer<T>) -> Self {
        let path = path.into();
        self.links.push(Link { prefixes: vec![format!("{path}.")], path, layer });
        self
    }

    /// Appends a unit, which names itself.
    pub fn unit(mut self, unit: &'a ConvNorm<T>) -> Self {
        let prefixes = unit.names().map(|name| format!("{name}.")).into();
        self.links.push(Link { path: String::new(), prefixes, layer: unit });
        self
    }

    /// Appends the children of a row of layers which is called `outer` (or nothing), each as a layer of its own. Those
    /// in `ends` end a stage; each has the stride of its map beside it.
    pub fn each(mut self, outer: &str, layers: &'a Sequential<T>, ends: &[(&str, usize)]) -> Self {
        for (name, layer) in layers.children() {
            let path = if outer.is_empty() { name.to_owned() } else { format!("{outer}.{name}") };
            self = self.then(path.clone(), layer);
            if let Some((_, stride)) = ends.iter().find(|(end, _)| *end == name) {
                self = self.stage(path, *stride);
            }
        }
        self
    }

    /// Ends a stage, whose map has a pixel for `stride` × `stride` of the image's.
    pub fn stage(mut self, name: impl Into<String>, stride: usize) -> Self {
        self.stages.push(Stage { name: name.into(), stride, end: self.links.len() });
        self
    }

    /// The names of the stages and the strides of their maps.
    pub fn stages(&self) -> impl ExactSizeIterator<Item = (&str, usize)> {
        self.stages.iter().map(|stage| (stage.name.as_str(), stage.stride))
    }

    /// Logits `[N, classes]` of images `[N, H, W, C]`.
    pub fn forward(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        Ok(self.run(x, mode, self.links.len(), &[])?.0)
    }

    /// What the classifier takes: `[N, numbers]`.
    pub fn embedding(&self, x: &Var<T>, mode: &Mode) -> Result<Var<T>> {
        Ok(self.run(x, mode, self.links.len().saturating_sub(1), &[])?.0)
    }

    /// The maps of the stages of these numbers, in their order. Nothing behind the last of them is computed.
    ///
    /// # Panics
    /// If there is no such stage.
    pub fn features(&self, x: &Var<T>, stages: &[usize], mode: &Mode) -> Result<Vec<Var<T>>> {
        let ends: Vec<usize> = stages.iter().map(|&stage| self.stages[stage].end).collect();
        let (_, maps) = self.run(x, mode, ends.iter().copied().max().unwrap_or(0), &ends)?;
        Ok(maps)
    }

    /// The paths of the layers, empty where a layer's parts name themselves, each with the stage that it ends, and what
    /// it does with this input in evaluation mode.
    pub(crate) fn trace(&self, x: &Var<T>) -> Result<Vec<Traced<'_, T>>> {
        let (mut x, mut traced) = (x.clone(), Vec::new());
        for (i, link) in self.links.iter().enumerate() {
            let (y, trace) = no_grad(|| trace(|| link.forward(&x, &Mode::Eval)));
            x = y?;
            traced.push((&*link.path, self.stages.iter().position(|stage| stage.end == i + 1), trace));
        }
        Ok(traced)
    }

    /// The logits, and the values of the layers of these paths.
    ///
    /// # Panics
    /// If there is no such layer.
    pub fn forward_with(&self, x: &Var<T>, mode: &Mode, paths: &[&str]) -> Result<(Var<T>, Vec<Var<T>>)> {
        let end = |path: &&str| 1 + self.links.iter().position(|link| link.path == *path).expect("a layer's path");
        let ends: Vec<usize> = paths.iter().map(end).collect();
        self.run(x, mode, self.links.len(), &ends)
    }

    /// What the names of the parameters begin with that belong to the first `stages` stages.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn prefixes(&self, stages: usize) -> impl Iterator<Item = &str> {
        let end = stages.checked_sub(1).map_or(0, |last| self.stages[last].end);
        self.links[..end].iter().flat_map(|link| &link.prefixes).map(String::as_str)
    }

    /// The value of the first `end` layers, and of those numbers of layers that are `kept`. A layer that can takes the
    /// activation behind it along, unless the value between them is to be kept.
    fn run(&self, x: &Var<T>, mode: &Mode, end: usize, kept: &[usize]) -> Result<(Var<T>, Vec<Var<T>>)> {
        let mut values: Vec<Option<Var<T>>> = vec![None; kept.len()];
        let (mut x, mut done) = (x.clone(), 0);
        while done < end {
            let link = &self.links[done];
            done += 1;
            let next = self.links[done..end].first().filter(|_| !kept.contains(&done));
            let fused = match next.and_then(|next| next.layer.as_activation()) {
                Some(activation) => link.scoped(|| link.layer.forward_activated(&x, activation, mode))?,
                None => None,
            };
            done += usize::from(fused.is_some());
            x = fused.map_or_else(|| link.forward(&x, mode), Ok)?;
            let slots = values.iter_mut().zip(kept).filter(|(_, end)| **end == done);
            slots.for_each(|(slot, _)| *slot = Some(x.clone()));
        }
        Ok((x, values.into_iter().flatten().collect()))
    }
}

impl<T: Element> Default for Chain<'_, T> {
    fn default() -> Self {
        Chain::new()
    }
}
