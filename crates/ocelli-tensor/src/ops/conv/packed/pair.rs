//! A pointwise convolution and the depthwise one behind it, band by band, so that the many channels between them never leave
//! the second-level cache: the inverted bottleneck of MobileNetV2, <https://arxiv.org/abs/1801.04381>.
//!
//! ```text
//! task:    a band of output rows × some panels of channels
//!   pointwise: the rows of pixels under the band's windows, into scratch memory    neighbouring bands repeat a few
//!   depthwise: the band's rows, from there
//! ```

use std::borrow::Cow;
use std::ops::Range;

use super::{Geometry, PackedConv, Weights, clamp_or_curve};
use crate::memory::Scratch;
use crate::ops::Window;
use crate::ops::conv::grouped::{self, Row, Windows};
use crate::ops::gemm::gather::{Epilogue, Panels};
use crate::ops::gemm::{Grid, Shared, cut, pointers};
use crate::{Element, Error, Result, Shape, Tensor, threads};

/// Bytes between the two convolutions from which on bands are faster.
const LARGE: usize = 128 * 1024;
/// Bytes of a task's band, meant to stay in the second-level cache.
const BAND_BYTES: usize = 256 * 1024;
/// Tasks for each thread, if there are rows enough.
const TASKS: usize = 4;

/// `depthwise(pointwise(x))`, each with its bias and activation.
#[derive(Clone)]
pub struct PackedPair<T: Element = f32> {
    pointwise: PackedConv<T>,
    depthwise: PackedConv<T>,
}

impl<T: Element> PackedPair<T> {
    /// The two as one, if they are of these kinds and what lies between them for the inputs that they were made for is
    /// large enough.
    pub fn new(pointwise: &PackedConv<T>, depthwise: &PackedConv<T>) -> Option<Self> {
        let (Weights::Panels(panels), Weights::Grouped(filters)) = (&pointwise.weights, &depthwise.weights) else {
            return None;
        };
        let (first, second) = (&pointwise.planned.0, &depthwise.planned.0);
        let is_pointwise = pointwise.window == Window::square(1) && pointwise.groups == 1 && !pointwise.scaled;
        let is_large = second.x_shape().iter().product::<usize>() * size_of::<T>() >= LARGE;
        let fits = first.y_shape() == second.x_shape() && filters.has_whole_registers() && panels.isa == filters.isa;
        let pair = || PackedPair { pointwise: pointwise.clone(), depthwise: depthwise.clone() };
        (is_pointwise && is_large && fits).then(pair)
    }

    /// How it computes.
    pub fn algorithm(&self) -> &'static str {
        match &self.pointwise.weights {
            Weights::Panels(packed) if packed.is_halved() => "in bands f16",
            _ => "in bands",
        }
    }

    /// The output for `x` `[N, H, W, Cin]`, in `y`, which is [resized](Tensor::resize), and if they are wanted the means over
    /// each row of its pixels, `[N, Ho, 1, Cout]`.
    pub fn run_into(&self, x: &Tensor<T>, y: &mut Tensor<T>, means: Option<&mut Tensor<T>>) -> Result<()> {
        let PackedPair { pointwise, depthwise } = self;
        let first = Geometry::new("conv2d", x.shape(), &pointwise.w_shape, &pointwise.window, 1)?;
        let between = Shape::new(&first.y_shape())?;
        let second = Geometry::new("conv2d", &between, &depthwise.w_shape, &depthwise.window, depthwise.groups)?;
        let means = means.map(|means| Ok::<_, Error>(means.resize(second.means_shape()?))).transpose()?;
        let y = y.resize(Shape::new(&second.y_shape())?);
        let (planned, grid) = &depthwise.planned;
        let grid =
            if second == *planned { Cow::Borrowed(grid) } else { Cow::Owned(second.forward_grid(grid.taps.clone())) };
        if y.is_empty() {
            return Ok(());
        }
        let means = means.map(|means| Shared(means.as_mut_ptr()));
        let bands = Bands { pair: self, first, second, grid: &grid, x: x.data(), y: Shared(y.as_mut_ptr()), means };
        bands.run();
        Ok(())
    }
}

struct Bands<'a, T: Element> {
    pair: &'a PackedPair<T>,
    first: Geometry,
    second: Geometry,
    grid: &'a Grid,
    x: &'a [T],
    y: Shared<*mut T>,
    means: Option<Shared<*mut T>>,
}

impl<T: Element> Bands<'_, T> {
    fn run(&self) {
        let Weights::Panels(weights) = &self.pair.pointwise.weights else { return };
        let (height, panels) = (self.second.output[0], weights.panels());
        let window = &self.second.window;
        // The rows of pixels that fit, and the rows of outputs over them.
        let row_bytes = self.first.output[1] * weights.width * size_of::<T>();
        let fit = BAND_BYTES / row_bytes;
        let rows = fit.saturating_sub(window.extent(0)) / window.stride[0] + 1;
        let (mut bands, threads) = (height.div_ceil(rows), threads::count());
        let wanted = TASKS * threads;
        while self.first.batch * bands * panels < wanted && bands * 2 <= height {
            bands *= 2;
        }
        if !(self.first.batch * bands).is_multiple_of(threads) && bands > 1 {
            bands = bands.next_multiple_of(threads).min(height);
        }
        // Panels of a task: as many as fit if bands are whole images.
        let images = self.first.batch * bands;
        let most = (fit / self.first.output[0].max(1)).clamp(1, panels);
        let groups = panels.div_ceil(most).max(wanted.div_ceil(images)).min(panels);
        threads::for_each(images * groups, |task| {
            let (image, band, group) = (task / groups / bands, task / groups % bands, task % groups);
            self.task(image, cut(height, bands, band), cut(panels, groups, group));
        });
    }

    /// Some rows of an image's outputs, some panels of channels.
    fn task(&self, image: usize, rows: Range<usize>, panels: Range<usize>) {
        let PackedPair { pointwise, depthwise } = self.pair;
        let (Weights::Panels(weights), Weights::Grouped(filters)) = (&pointwise.weights, &depthwise.weights) else {
            return;
        };
        let (window, cin, channels) = (&self.second.window, self.first.in_channels, self.second.in_channels);
        let [height, width] = self.first.output;
        let top = window.padding.top;
        let from = (rows.start * window.stride[0]).saturating_sub(top).min(height);
        let to = ((rows.end - 1) * window.stride[0] + window.extent(0)).saturating_sub(top).clamp(from, height);
        let columns = panels.start * weights.width..channels.min(panels.end * weights.width);

        // Pixels lie `columns.len()` elements apart, each at its channels' places from the first on.
        let pixels = (to - from) * width;
        let mut between = Scratch::<T>::new(columns.start + pixels * columns.len());
        let (mut sources, mut targets) = (Scratch::new(pixels), Scratch::new(pixels));
        let x = &self.x[(image * height + from) * width * cin..][..pixels * cin];
        let sources = pointers(&mut sources);
        for (i, (source, target)) in sources.iter_mut().zip(&mut *targets).enumerate() {
            *source = x[i * cin..].as_ptr();
            *target = i * columns.len();
        }
        let panels = Panels {
            sources,
            targets: &targets,
            taps: 1,
            k: cin,
            apart: cin,
            b: weights,
            group: 0,
            next: if panels.end < weights.panels() { panels.end } else { 0 },
            panels,
            out: between.as_mut_ptr(),
            column: 0,
            onto: false,
            finish: Some(epilogue(pointwise).finish()),
            gate: None,
        };
        // SAFETY: the sources are pixels of x, the targets' columns lie in the scratch memory, and the bias has all columns.
        unsafe { panels.run() };

        let Epilogue { bias, clamp, curve, .. } = epilogue(depthwise);
        let lanes = filters.channels.lanes;
        // Where the image's first pixel would be, of which there may be none.
        let first = between.as_ptr().wrapping_sub(from * width * columns.len());
        for y in rows {
            let row = image * self.second.output[0] + y;
            let out = row * self.second.output[1] * channels;
            let row = Row {
                windows: Windows::of_row(self.grid, &filters.taps, first, columns.len(), y),
                filters,
                vectors: columns.start / lanes..columns.end / lanes,
                out: self.y.get().wrapping_add(out),
                stride: channels,
                below: self.y.get().wrapping_add(out + self.second.output[1] * channels),
                fetches: true,
                bias: bias.map_or(std::ptr::null(), <[T]>::as_ptr),
                residual: std::ptr::null(),
                clamp,
                curve,
                means: self.means.map_or(std::ptr::null_mut(), |means| means.get().wrapping_add(row * channels)),
                share: grouped::share(self.second.output[1]),
            };
            // SAFETY: all rows of pixels that the row's windows have inside of the image were made above, of the channels of
            // these registers; outputs and means are those of y, registers are whole, and no two tasks have both rows and channels in common.
            unsafe { T::grouped_row(row) };
        }
    }
}

fn epilogue<T: Element>(conv: &PackedConv<T>) -> Epilogue<'_, T> {
    let (clamp, curve) = clamp_or_curve(conv.activation);
    Epilogue { bias: conv.bias.as_ref().map(Tensor::data), clamp, curve, ..Epilogue::NONE }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ops::testing::{Rng, on_every_isa, same_bits};
    use crate::ops::{Activation, Storage};

    /// A pointwise convolution to `channels` and a depthwise one, for inputs of that shape, and the input.
    fn convolutions(input: [usize; 4], channels: usize, window: Window) -> (PackedConv, PackedConv, Tensor) {
        let [batch, height, width, cin] = input;
        let between = Shape::from([batch, height, width, channels]);
        let [w, bias, x] = [vec![1, 1, cin, channels], vec![channels], input.to_vec()]
            .map(|shape| Rng::new(shape.len() as u64).tensor::<f32>(Shape::new(&shape).unwrap()));
        let pointwise = PackedConv::new(&w, Some(&bias), Some(Activation::Silu), Window::square(1), 1, x.shape());
        let w = Rng::new(7).tensor([window.kernel_size[0], window.kernel_size[1], 1, channels]);
        let depthwise = PackedConv::new(&w, Some(&bias), Some(Activation::Relu), window, channels, &between);
        (pointwise.unwrap(), depthwise.unwrap(), x)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn a_pair_is_its_convolutions_one_after_the_other(
            batch in 1..3usize,
            size in prop::array::uniform2(20..70usize),
            cin in 1..20usize,
            sixteens in 2..6usize,
            kernel in prop::sample::select(vec![1usize, 2, 3, 5]),
            stride in 1..4usize,
            padding in 0..3usize,
            dilation in 1..3usize,
        ) {
            let window = Window::square(kernel).stride(stride).padding(padding).dilation(dilation);
            on_every_isa(|| {
                let shape = [batch, size[0], size[1], cin];
                let (pointwise, depthwise, x) = convolutions(shape, 16 * sixteens, window);
                let Some(pair) = PackedPair::new(&pointwise, &depthwise) else {
                    return assert!(batch * size[0] * size[1] * 16 * sixteens * 4 < LARGE);
                };
                let expected = depthwise.run(&pointwise.run(&x, None).unwrap(), None).unwrap();
                let [mut y, mut means, mut expected_means, mut workspace] = [(); 4].map(|()| Tensor::default());
                pair.run_into(&x, &mut y, None).unwrap();
                assert_eq!(y, expected);
                pair.run_into(&x, &mut y, Some(&mut means)).unwrap();
                assert_eq!(y, expected);
                let between = pointwise.run(&x, None).unwrap();
                depthwise.run_averaged_into(&between, &mut workspace, &mut y, &mut expected_means).unwrap();
                assert_eq!(means, expected_means);
            });
        }
    }

    #[test]
    fn bands_may_lie_in_the_padding() {
        on_every_isa(|| {
            let (pointwise, depthwise, x) = convolutions([1, 40, 40, 1], 80, Window::square(1).padding(1));
            let mut y = Tensor::default();
            PackedPair::new(&pointwise, &depthwise).unwrap().run_into(&x, &mut y, None).unwrap();
            assert_eq!(y, depthwise.run(&pointwise.run(&x, None).unwrap(), None).unwrap());
        });
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let (pointwise, depthwise, x) = convolutions([1, 37, 41, 9], 96, Window::square(5).stride(2).padding(2));
        same_bits(|| {
            let [mut y, mut means] = [(); 2].map(|()| Tensor::default());
            PackedPair::new(&pointwise, &depthwise).unwrap().run_into(&x, &mut y, Some(&mut means)).unwrap();
            vec![y, means]
        });
    }

    #[test]
    fn pointwise_weights_may_be_in_16_bits() {
        let (cin, channels, window) = (160, 1664, Window::square(3).padding(1));
        let (_, depthwise, x) = convolutions([1, 7, 8, cin], channels, window);
        let w = Rng::new(3).tensor::<f32>([1, 1, cin, channels]);
        let rounded = Tensor::from_fn(*w.shape(), |i| half::f16::from_f32(w.data()[i]).to_f32());
        on_every_isa(|| {
            let depthwise = PackedConv::new(
                &Rng::new(7).tensor([3, 3, 1, channels]),
                None,
                depthwise.activation,
                window,
                channels,
                &x.shape().with_columns(channels),
            );
            let depthwise = depthwise.unwrap();
            let [(half, y), (exact, expected)] =
                [(Storage::Half, &w), (Storage::Exact, &rounded)].map(|(storage, w)| {
                    let same = Window::square(1);
                    let pointwise = PackedConv::with_storage(storage, w, None, None, same, 1, x.shape()).unwrap();
                    let (pair, mut y) = (PackedPair::new(&pointwise, &depthwise).unwrap(), Tensor::default());
                    pair.run_into(&x, &mut y, None).unwrap();
                    (pair.algorithm(), y)
                });
            assert_eq!([half, exact], ["in bands f16", "in bands"]);
            assert_eq!(y, expected);
        });
    }

    #[test]
    fn no_images_give_none() {
        let (pointwise, depthwise, _) = convolutions([1, 40, 40, 8], 64, Window::square(3));
        let [mut y, mut means] = [(); 2].map(|()| Tensor::default());
        let pair = PackedPair::new(&pointwise, &depthwise).unwrap();
        pair.run_into(&Tensor::zeros([0, 40, 40, 8]), &mut y, Some(&mut means)).unwrap();
        assert_eq!([y.shape(), means.shape()], [&Shape::from([0, 38, 38, 64]), &Shape::from([0, 38, 1, 64])]);
    }

    #[test]
    fn other_convolutions_stay_apart() {
        let (pointwise, depthwise, _) = convolutions([1, 40, 40, 8], 64, Window::square(3));
        assert!(PackedPair::new(&pointwise, &depthwise).is_some());
        assert!(PackedPair::new(&depthwise, &pointwise).is_none());
        assert!(PackedPair::new(&pointwise.clone().scaled().unwrap(), &depthwise).is_none());
        let (small, behind, _) = convolutions([1, 8, 8, 8], 64, Window::square(3));
        assert!(PackedPair::new(&small, &behind).is_none() && PackedPair::new(&pointwise, &behind).is_none());
        let (uneven, behind, _) = convolutions([1, 40, 40, 8], 57, Window::square(3));
        assert!(PackedPair::new(&uneven, &behind).is_none());
        let pair = PackedPair::new(&pointwise, &depthwise).unwrap();
        let error = pair.run_into(&Tensor::zeros([1, 40, 40, 7]), &mut Tensor::default(), None);
        assert_eq!(
            error.unwrap_err().to_string(),
            "conv2d: expected weight of shape [1, 1, 7, Cout], got [1, 1, 8, 64]"
        );
    }
}
