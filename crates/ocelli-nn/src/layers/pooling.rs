//! Pooling: images to smaller images.

use ocelli_autograd::Var;
use ocelli_autograd::ops::Window;
use ocelli_autograd::tensor::Element;

use super::Layer;
use crate::{Mode, Result};

/// The largest value in each window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MaxPool2d {
    /// The window.
    pub window: Window,
    /// Whether the last window may reach beyond the edge.
    pub ceil_mode: bool,
}

impl MaxPool2d {
    /// A window that stays within the padded image.
    pub fn new(window: Window) -> Self {
        MaxPool2d { window, ceil_mode: false }
    }
}

impl<T: Element> Layer<T> for MaxPool2d {
    fn forward(&self, x: &Var<T>, _: &Mode) -> Result<Var<T>> {
        Ok(x.max_pool2d(&self.window, self.ceil_mode)?)
    }
}

/// The mean of each window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AvgPool2d {
    /// The window.
    pub window: Window,
    /// Whether the last window may reach beyond the edge.
    pub ceil_mode: bool,
    /// Whether padding counts as zeros, or not at all.
    pub count_include_pad: bool,
}

impl AvgPool2d {
    /// A window that stays within the padded image, whose padding counts as zeros.
    pub fn new(window: Window) -> Self {
        AvgPool2d { window, ceil_mode: false, count_include_pad: true }
    }
}

impl<T: Element> Layer<T> for AvgPool2d {
    fn forward(&self, x: &Var<T>, _: &Mode) -> Result<Var<T>> {
        Ok(x.avg_pool2d(&self.window, self.ceil_mode, self.count_include_pad)?)
    }
}

/// The means of a grid of nearly equal parts, whatever the image's size: `[N, H, W, C]` to `[N, size…, C]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptiveAvgPool2d {
    /// `[height, width]` of the grid.
    pub size: [usize; 2],
}

impl<T: Element> Layer<T> for AdaptiveAvgPool2d {
    fn forward(&self, x: &Var<T>, _: &Mode) -> Result<Var<T>> {
        Ok(x.adaptive_avg_pool2d(self.size)?)
    }
}

/// The mean of each channel: `[N, H, W, C]` to `[N, C]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GlobalAvgPool;

impl<T: Element> Layer<T> for GlobalAvgPool {
    fn forward(&self, x: &Var<T>, _: &Mode) -> Result<Var<T>> {
        Ok(x.global_avg_pool2d()?)
    }
}
