//! y = conv(x, w): x `[N, H, W, Cin]`, w `[Kh, Kw, Cin / groups, Cout]`, y `[N, Ho, Wo, Cout]`; with one input channel a
//! group, the depthwise convolution. dx and dw are convolutions again, of dy with w and of x with dy.

use ocelli_tensor::ops::{self, Window};
use ocelli_tensor::{Element, Shape, Tensor};

use super::BatchStats;
use crate::plan::{Convolution, Role};
use crate::{Cost, Gradients, Kept, Op, Result, Target, Var};

/// The 2-D convolution, without bias.
#[derive(Debug, Clone, Copy)]
pub struct Conv2d {
    /// Kernel size, stride, padding, dilation.
    pub window: Window,
    /// The number of groups.
    pub groups: usize,
    /// Whether a backward pass computes the value again where it is needed.
    pub repeated: bool,
}

/// What the convolution's gradients need: x for dw, w for dx.
pub struct Saved<T: Element> {
    x: Option<Kept<T>>,
    w: Option<Tensor<T>>,
    x_shape: Shape,
    w_shape: Shape,
}

fn saved<T: Element>(inputs: &[&Tensor<T>], needs: &[bool]) -> Saved<T> {
    let [x, w] = [inputs[0], inputs[1]];
    let (keep_x, keep_w) = (needs[1].then(|| x.clone().into()), needs[0].then(|| w.clone()));
    Saved { x: keep_x, w: keep_w, x_shape: *x.shape(), w_shape: *w.shape() }
}

impl Conv2d {
    fn backward_input<T: Element>(
        &self,
        dy: &Tensor<T>,
        w: &Tensor<T>,
        x_shape: &Shape,
        target: &mut Target<'_, T>,
    ) -> Result<Tensor<T>> {
        let Conv2d { window, groups, .. } = self;
        if let Some(gate) = target.gate()?
            && let Some((dx, sums)) =
                ops::conv2d_backward_input_gated(&mut target.earlier, dy, w, x_shape, window, *groups, &gate.of())?
        {
            target.passed(sums);
            return Ok(dx);
        }
        if let Some(mut dx) = target.earlier.take() {
            ops::conv2d_backward_input_onto(&mut dx, dy, w, window, *groups)?;
            return Ok(dx);
        }
        Ok(ops::conv2d_backward_input(dy, w, x_shape, window, *groups)?)
    }
}

impl<T: Element> Op<T> for Conv2d {
    type Saved = Saved<T>;

    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn window(&self) -> Option<Window> {
        Some(self.window)
    }

    fn forward(&self, inputs: &[&Tensor<T>], needs: &[bool]) -> Result<(Tensor<T>, Saved<T>)> {
        Ok((ops::conv2d(inputs[0], inputs[1], &self.window, self.groups)?, saved(inputs, needs)))
    }

    fn backward(&self, saved: Saved<T>, dy: Tensor<T>, needs: &[bool]) -> Result<Gradients<T>> {
        self.backward_onto(saved, dy, needs, &mut [(); 2].map(|()| Target::default()))
    }

    fn backward_onto(
        &self,
        saved: Saved<T>,
        dy: Tensor<T>,
        _: &[bool],
        targets: &mut [Target<'_, T>],
    ) -> Result<Gradients<T>> {
        let Conv2d { window, groups, .. } = self;
        let Saved { x, w, x_shape, w_shape } = saved;
        // First what x is needed for, which may have to be computed again and is freed then; dx, which the next operation
        // reads, comes last.
        let dw = match x {
            Some(x) => Some(ops::conv2d_backward_weight(&x.value()?, &dy, &w_shape, window, *groups)?),
            None => None,
        };
        let dx = match w {
            Some(w) => Some(self.backward_input(&dy, &w, &x_shape, &mut targets[0])?),
            None => None,
        };
        Ok(vec![dx, dw])
    }

    fn repeats(&self, _: &[Kept<T>]) -> bool {
        self.repeated
    }

    fn keep(&self, saved: &mut Saved<T>, inputs: &[Kept<T>], _: &Kept<T>) {
        saved.x.iter_mut().for_each(|x| *x = inputs[0].clone());
    }

    fn cost(&self, inputs: &[Shape], output: &Shape) -> Cost {
        let w = &inputs[1];
        Cost::products::<T>(output.rows() * w.len(), inputs, output)
    }

    fn role(&self, constants: &[Option<&Tensor<T>>]) -> Result<Role<T>> {
        let [None, Some(weight)] = constants else { return Ok(Role::Opaque) };
        let Conv2d { window, groups, .. } = *self;
        Ok(Role::Convolution(Convolution { weight: (*weight).clone(), bias: None, window, groups, deformable: None }))
    }
}

impl<T: Element> Var<T> {
    /// The convolution of this value `[N, H, W, Cin]` with `weight` `[Kh, Kw, Cin / groups, Cout]`: `[N, Ho, Wo, Cout]`,
    /// the output's size being [`Window::output_size`]. A bias is [`add`](Self::add)ed.
    pub fn conv2d(&self, weight: &Var<T>, window: &Window, groups: usize) -> Result<Var<T>> {
        Var::apply(Conv2d { window: *window, groups, repeated: false }, &[self, weight])
    }

    /// As [`conv2d`](Self::conv2d), but the graph keeps the operands in place of the value, which a backward pass that needs
    /// it computes again: for an input of few channels.
    pub fn conv2d_repeated(&self, weight: &Var<T>, window: &Window, groups: usize) -> Result<Var<T>> {
        Var::apply(Conv2d { window: *window, groups, repeated: true }, &[self, weight])
    }

    /// As [`conv2d`](Self::conv2d) or, if it is `repeated`, [`conv2d_repeated`](Self::conv2d_repeated), before a batch norm:
    /// the statistics that this needs are taken along, where that is cheaper than another pass.
    pub fn conv2d_before_norm(
        &self,
        weight: &Var<T>,
        window: &Window,
        groups: usize,
        repeated: bool,
    ) -> Result<Var<T>> {
        let mut stats = None;
        let op = Conv2d { window: *window, groups, repeated };
        let y = Var::apply_by(op, &[self, weight], |_, inputs, needs| {
            let (y, taken) = ops::conv2d_with_stats(inputs[0], inputs[1], window, groups)?;
            stats = taken.map(|ops::ColumnStats { mean, var }| BatchStats { mean, var, count: y.shape().rows() });
            Ok((y, saved(inputs, needs)))
        })?;
        if let Some(stats) = stats {
            y.stats.get_or_init(|| stats);
        }
        Ok(y)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::*;
    use super::*;

    pub fn gradients(g: &Geometry) -> Checked {
        let [kh, kw] = g.window.kernel_size;
        // Plain, grouped, depthwise, and depthwise with a multiplier.
        let [c, o, groups] = [g.channels, g.out_channels, g.groups];
        for (cin, cout, groups) in [(c, o, 1), (c * groups, o * groups, groups), (c, c, c), (c, 2 * c, c)] {
            let (x, w) = (g.image_of(cin, 1), random([kh, kw, cin / groups, cout], 2));
            gradcheck(&[x.clone(), w.clone()], |v| v[0].conv2d(&v[1], &g.window, groups))?;
            // Whose value the next operation's gradient needs.
            gradcheck(&[x.clone(), w.clone()], |v| v[0].conv2d_repeated(&v[1], &g.window, groups)?.silu())?;
            let before_norm = |v: &[Var<f64>]| v[0].conv2d_before_norm(&v[1], &g.window, groups, true)?.silu();
            gradcheck(&[x.clone(), w.clone()], before_norm)?;
            // Whose gradient is added to what another operation says of the same input.
            gradcheck(&[x, w], |v| {
                let y = v[0].conv2d(&v[1], &g.window, groups)?.sum()?;
                v[0].mul(&v[0])?.sum()?.add(&y)
            })?;
        }
        Ok(())
    }

    #[test]
    fn gradients_are_right() {
        for_all_geometries(gradients);
    }

    #[test]
    fn macs_are_those_of_the_formula() {
        // The stem of ResNet-50: 112 · 112 · 64 · 7 · 7 · 3.
        let op = Conv2d { window: Window::square(7).stride(2).padding(3), groups: 1, repeated: false };
        let cost = Op::<f32>::cost(&op, &[[1, 224, 224, 3].into(), [7, 7, 3, 64].into()], &[1, 112, 112, 64].into());
        assert_eq!(cost.macs, 118_013_952);
    }
}
