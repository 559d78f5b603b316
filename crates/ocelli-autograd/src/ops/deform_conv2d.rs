//! y = deform_conv(x, Δ, w, m): x `[N, H, W, Cin]`, offsets Δ `[N, Ho, Wo, 2 · offset_groups · Kh · Kw]`, w `[Kh, Kw,
//! Cin / groups, Cout]`, masks m `[N, Ho, Wo, offset_groups · Kh · Kw]`, y `[N, Ho, Wo, Cout]`. The backward pass samples x
//! again rather than keeping the samples, which are Kh · Kw times as large as x.

use ocelli_tensor::ops::{self, DeformConv2d, InputGradients, Window};
use ocelli_tensor::{Element, Shape, Tensor};

use crate::plan::{Convolution, Deformable, Role};
use crate::{Cost, Gradients, Op, Result, Var};

impl<T: Element> Op<T> for DeformConv2d {
    /// All inputs.
    type Saved = Option<Vec<Tensor<T>>>;

    fn name(&self) -> &'static str {
        "deform_conv2d"
    }

    fn window(&self) -> Option<Window> {
        Some(self.window)
    }

    fn forward(&self, inputs: &[&Tensor<T>], needs: &[bool]) -> Result<(Tensor<T>, Self::Saved)> {
        let y = ops::deform_conv2d(inputs[0], inputs[1], inputs.get(3).copied(), inputs[2], self)?;
        let saved = needs.contains(&true).then(|| inputs.iter().map(|&input| input.clone()).collect());
        Ok((y, saved))
    }

    fn backward(&self, saved: Self::Saved, dy: Tensor<T>, needs: &[bool]) -> Result<Gradients<T>> {
        let Some(saved) = saved else { return Ok(vec![None; needs.len()]) };
        let [x, offset, w, mask] = [0, 1, 2, 3].map(|i| saved.get(i));
        let (Some(x), Some(offset), Some(w)) = (x, offset, w) else { unreachable!("an input, offsets and a weight") };
        let needed = |i: usize| needs.get(i) == Some(&true);
        let mut gradients = vec![None; needs.len()];
        if needed(0) || needed(1) || needed(3) {
            let InputGradients { dx, doffset, dmask } =
                ops::deform_conv2d_backward_input(&dy, x, offset, mask, w, self)?;
            gradients[0] = Some(dx).filter(|_| needed(0));
            gradients[1] = Some(doffset).filter(|_| needed(1));
            if needed(3) {
                gradients[3] = dmask;
            }
        }
        if needed(2) {
            gradients[2] = Some(ops::deform_conv2d_backward_weight(&dy, x, offset, mask, w.shape(), self)?);
        }
        Ok(gradients)
    }

    /// The products of a plain convolution; sampling is not counted, as in the papers.
    fn cost(&self, inputs: &[Shape], output: &Shape) -> Cost {
        Cost::products::<T>(output.rows() * inputs[2].len(), inputs, output)
    }

    fn role(&self, constants: &[Option<&Tensor<T>>]) -> Result<Role<T>> {
        let [None, _, Some(weight), mask @ ..] = constants else { return Ok(Role::Opaque) };
        let DeformConv2d { window, groups, offset_groups } = *self;
        let deformable = Some(Deformable { offset_groups, modulated: !mask.is_empty() });
        Ok(Role::Convolution(Convolution { weight: (*weight).clone(), bias: None, window, groups, deformable }))
    }
}

impl<T: Element> Var<T> {
    /// The deformable convolution of this value `[N, H, W, Cin]` with `weight` `[Kh, Kw, Cin / groups, Cout]`, whose
    /// taps are displaced by `offset` and weighed with `mask`: see [`ops::deform_conv2d`]. A bias is
    /// [`add`](Self::add)ed.
    pub fn deform_conv2d(
        &self,
        offset: &Var<T>,
        mask: Option<&Var<T>>,
        weight: &Var<T>,
        attributes: &DeformConv2d,
    ) -> Result<Var<T>> {
        match mask {
            Some(mask) => Var::apply(*attributes, &[self, offset, weight, mask]),
            None => Var::apply(*attributes, &[self, offset, weight]),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use ocelli_tensor::ops::Window;

    use super::super::testing::*;
    use super::*;

    /// Offsets of up to three pixels, none of which ends within a tenth of a pixel from the pixels' centres: there
    /// interpolation has a kink.
    fn offsets(shape: [usize; 4], seed: u64) -> Tensor<f64> {
        random(shape, seed).map(|r| {
            let offset = 3.0 * r;
            offset.floor() + 0.1 + 0.8 * (offset - offset.floor())
        })
    }

    pub fn gradients(g: &Geometry) -> Checked {
        let ([kh, kw], [height, width]) = (g.window.kernel_size, g.window.output_size("test", g.input).unwrap());
        let [c, o, groups] = [g.channels, g.out_channels, g.groups];
        for (groups, offset_groups) in [(1, 1), (groups, 1), (1, groups)] {
            let attributes = DeformConv2d { window: g.window, groups, offset_groups };
            let (cin, cout) = (c * groups * offset_groups, o * groups);
            let samples = offset_groups * kh * kw;
            let x = g.image_of(cin, 1);
            let offset = offsets([g.batch, height, width, 2 * samples], g.seed ^ 2);
            let w = random([kh, kw, cin / groups, cout], 3);
            let mask = random([g.batch, height, width, samples], g.seed ^ 4);
            gradcheck(&[x.clone(), offset.clone(), w.clone()], |v| {
                v[0].deform_conv2d(&v[1], None, &v[2], &attributes)
            })?;
            gradcheck(&[x, offset, w, mask], |v| v[0].deform_conv2d(&v[1], Some(&v[3]), &v[2], &attributes))?;
        }
        Ok(())
    }

    #[test]
    fn gradients_are_right() {
        for_all_geometries(gradients);
    }

    #[test]
    fn macs_are_those_of_the_plain_convolution() {
        let window = Window::square(3).padding(1);
        let inputs = [[1, 56, 56, 64], [1, 56, 56, 18], [3, 3, 64, 64]].map(Shape::from);
        let op = DeformConv2d { window, groups: 1, offset_groups: 1 };
        assert_eq!(Op::<f32>::cost(&op, &inputs, &[1, 56, 56, 64].into()).macs, 56 * 56 * 9 * 64 * 64);
    }
}
