//! The gradient of an input that is the output of a batch norm with a ReLU, from which what the norm's backward pass needs of
//! it first is taken along.

use super::algorithm::{Algorithm, Pass, choose};
use super::{backward_geometry, transposed};
use crate::ops::Window;
use crate::ops::batch_norm::{Gate, GradientSums};
use crate::ops::gemm::Grid;
use crate::ops::gemm::gather::{Epilogue, Rows, gather_counted};
use crate::{Element, Error, Result, Shape, Tensor};

/// As [`conv2d_backward_input`](super::conv2d_backward_input), or added to `onto` if that is something, for an input that came
/// through a `gate`: only what passes the gate, and the sums of that. `None` if the algorithm cannot do this without
/// another pass; then `onto` is where it was.
pub fn conv2d_backward_input_gated<T: Element>(
    onto: &mut Option<Tensor<T>>,
    dy: &Tensor<T>,
    w: &Tensor<T>,
    x_shape: &Shape,
    window: &Window,
    groups: usize,
    gate: &Gate<'_, T>,
) -> Result<Option<(Tensor<T>, GradientSums)>> {
    const OP: &str = "conv2d_backward_input_gated";
    let g = backward_geometry(dy, w, x_shape, window, groups)?;
    let gate = gate.check(OP, x_shape)?;
    if let Some(onto) = onto.as_ref().filter(|onto| onto.shape() != x_shape) {
        return Err(Error::shape(OP, "gradient", x_shape, onto.shape()));
    }
    if x_shape.is_empty() || w.is_empty() || groups > 1 || choose(&g, Pass::Training) == Algorithm::Winograd {
        return Ok(None);
    }
    // With strides, every grid has some of the pixels.
    let [grid] = &Grid::backward(g.batch, g.input, g.output, window)[..] else { return Ok(None) };
    if grid.taps.is_empty() || grid.size != grid.target {
        return Ok(None);
    }
    let packed = transposed(&g, w, grid);
    if !gate.gate().fits(grid.len(), g.in_channels, packed.width) {
        return Ok(None);
    }
    let epilogue = if onto.is_some() { Epilogue::ONTO } else { Epilogue::NONE };
    let mut dx = onto.take().unwrap_or_else(|| Tensor::scratch(*x_shape));
    let dy = Rows { data: dy.data(), columns: g.out_channels, k: g.out_channels };
    let counts = gather_counted(grid, dy, &packed, dx.data_mut(), epilogue, Some(gate.gate()));
    Ok(Some((dx, GradientSums::new(counts.total()))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Rng, on_every_isa, same_bits};
    use crate::ops::{
        Activation, BatchNormGradients, Normalization, Recompute, batch_norm_act, batch_norm_act_backward,
        batch_norm_gated_backward, batch_norm_joined, batch_norm_joined_backward, concat_columns,
        conv2d_backward_input, conv2d_backward_input_onto,
    };
    use crate::simd;

    const EPS: f64 = 1e-5;

    /// relu(norm(parts) + residual), and the convolution behind it.
    struct Case<T: Element> {
        parts: Vec<Tensor<T>>,
        /// mean, var, γ, β
        vectors: [Tensor<T>; 4],
        residual: Tensor<T>,
        w: Tensor<T>,
        dy: Tensor<T>,
        earlier: Tensor<T>,
        window: Window,
    }

    impl<T: Element> Case<T> {
        fn new([n, h, w]: [usize; 3], widths: &[usize], cout: usize, window: Window) -> Self {
            let mut rng = Rng::new(cout as u64);
            let columns = widths.iter().sum();
            let [oh, ow] = window.output_size("test", [h, w]).unwrap();
            let [kh, kw] = window.kernel_size;
            let mut vectors = [(); 4].map(|()| rng.tensor::<T>([columns]));
            vectors[1] = vectors[1].map(|x| T::from_f64(x.to_f64().abs() + 0.5));
            Case {
                parts: widths.iter().map(|&c| rng.tensor([n, h, w, c])).collect(),
                vectors,
                residual: rng.tensor([n, h, w, columns]),
                w: rng.tensor([kh, kw, columns, cout]),
                dy: rng.tensor([n, oh, ow, cout]),
                earlier: rng.tensor([n, h, w, columns]),
                window,
            }
        }

        fn normalization(&self) -> Normalization<'_, T> {
            let [mean, var, gamma, beta] = &self.vectors;
            Normalization { mean, var, gamma, beta, eps: EPS }
        }

        fn gated(
            &self,
            recompute: Recompute<'_, T>,
            onto: &mut Option<Tensor<T>>,
        ) -> Option<(Tensor<T>, GradientSums)> {
            let gate = Gate { parts: &self.parts, normalization: self.normalization(), recompute };
            let x = self.residual.shape();
            conv2d_backward_input_gated(onto, &self.dy, &self.w, x, &self.window, 1, &gate).unwrap()
        }

        /// The gradient in front of the gate, in one pass and then another.
        fn ungated(&self, onto: bool) -> Tensor<T> {
            if !onto {
                return conv2d_backward_input(&self.dy, &self.w, self.residual.shape(), &self.window, 1).unwrap();
            }
            let mut dx = self.earlier.clone();
            conv2d_backward_input_onto(&mut dx, &self.dy, &self.w, &self.window, 1).unwrap();
            dx
        }
    }

    /// Behind the norm of one tensor, with what was added there known in every way.
    fn agrees<T: Element>(outer: [usize; 3], cin: usize, cout: usize, window: Window, bound: f64) {
        let case = Case::<T>::new(outer, &[cin], cout, window);
        let (x, relu) = (&case.parts[0], Some(Activation::Relu));
        let y = batch_norm_act(x, case.normalization(), Some(&case.residual), relu).unwrap();
        for recompute in [Recompute::Normalized, Recompute::Residual(&case.residual), Recompute::Output(&y)] {
            for onto in [false, true] {
                let dy = case.ungated(onto);
                let BatchNormGradients { dx, dgamma, dbeta, dresidual } =
                    batch_norm_act_backward(x, case.normalization(), relu, recompute, dy, None).unwrap();
                let (g, sums) = case.gated(recompute, &mut onto.then(|| case.earlier.clone())).unwrap();
                let what = || format!("{outer:?} {cin} {cout} {window:?} {recompute:?}, onto: {onto}");
                if let Some(dresidual) = dresidual {
                    assert!(g.relative_error(&dresidual) < bound, "{}", what());
                }
                let got = batch_norm_gated_backward(x, case.normalization(), g, sums, None).unwrap();
                for (got, expected) in [(got.dx, dx), (got.dgamma, dgamma), (got.dbeta, dbeta)] {
                    let error = got.relative_error(&expected);
                    assert!(error < bound, "{error:e}: {}", what());
                }
            }
        }
    }

    #[test]
    fn passes_what_the_rectifier_let_through() {
        let large = Window::square(5).padding(2);
        for (outer, cin, cout, window) in [
            ([1, 1, 1], 1, 1, Window::square(1)),
            ([2, 5, 7], 3, 17, Window::square(1)),
            ([3, 11, 13], 70, 300, Window::square(1)),
            ([1, 29, 31], 64, 40, Window::square(1)),
            ([2, 9, 8], 33, 12, large),
        ] {
            on_every_isa(|| {
                agrees::<f32>(outer, cin, cout, window, 2e-5);
                agrees::<f64>(outer, cin, cout, window, 1e-12);
            });
        }
    }

    #[test]
    fn passes_the_gradients_of_parts() {
        fn agrees<T: Element>(widths: &[usize], bound: f64) {
            let case = Case::<T>::new([2, 9, 10], widths, 48, Window::square(1));
            let (parts, relu) = (case.parts.iter().collect::<Vec<_>>(), Some(Activation::Relu));
            let none = vec![None; parts.len()];
            let backward = |dy: &Tensor<T>, sums| {
                batch_norm_joined_backward(&parts, case.normalization(), relu, dy, sums, none.clone()).unwrap()
            };
            let expected = backward(&case.ungated(false), None);
            let (g, sums) = case.gated(Recompute::Normalized, &mut None).unwrap();
            let y = batch_norm_joined(&parts, case.normalization(), relu).unwrap();
            assert!(g.data().iter().zip(y.data()).all(|(g, y)| y.to_f64() > 0.0 || g.to_f64() == 0.0));
            let got = backward(&g, Some(sums));
            assert!(got.dgamma.relative_error(&expected.dgamma) < bound);
            assert!(got.dbeta.relative_error(&expected.dbeta) < bound);
            let all = |dx: &[Tensor<T>]| concat_columns(&dx.iter().collect::<Vec<_>>()).unwrap();
            assert!(all(&got.dx).relative_error(&all(&expected.dx)) < bound, "{widths:?}");
        }
        for widths in [&[64, 32, 32, 5][..], &[32, 96], &[160]] {
            on_every_isa(|| {
                agrees::<f32>(widths, 2e-5);
                agrees::<f64>(widths, 1e-12);
            });
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let case = Case::<f32>::new([3, 40, 41], &[64, 32], 96, Window::square(1));
        let parts: Vec<_> = case.parts.iter().collect();
        same_bits(|| {
            let (g, sums) = case.gated(Recompute::Normalized, &mut Some(case.earlier.clone())).unwrap();
            let none = vec![None; 2];
            let backward =
                batch_norm_joined_backward(&parts, case.normalization(), None, &g, Some(sums), none).unwrap();
            vec![g, backward.dgamma, backward.dbeta]
        });
    }

    #[test]
    fn leaves_to_others_what_it_cannot_do() {
        let is_done = |case: Case<f32>| {
            let mut onto = Some(case.earlier.clone());
            let done = case.gated(Recompute::Normalized, &mut onto).is_some();
            assert_eq!(onto.is_none(), done);
            done
        };
        let (square, image) = (Window::square(1), [2, 12, 12]);
        assert!(is_done(Case::new(image, &[64], 32, square)));
        // Columns of a panel in two parts, pixels in several grids, transformed tiles.
        assert!(simd::with_isa(simd::available()[0], || !is_done(Case::new(image, &[31, 33], 32, square))));
        assert!(!is_done(Case::new(image, &[64], 32, square.stride(2))));
        assert!(!is_done(Case::new([2, 56, 56], &[64], 64, Window::square(3).padding(1))));
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let case = Case::<f32>::new([2, 3, 3], &[4, 2], 5, Window::square(1));
        let other = Tensor::zeros([2, 3, 3, 7]);
        let error = |parts: &[Tensor<f32>], recompute, onto: Option<Tensor<f32>>| {
            let gate = Gate { parts, normalization: case.normalization(), recompute };
            let x = case.residual.shape();
            conv2d_backward_input_gated(&mut onto.clone(), &case.dy, &case.w, x, &case.window, 1, &gate)
                .unwrap_err()
                .to_string()
        };
        let op = "conv2d_backward_input_gated: expected";
        assert_eq!(
            error(&case.parts[..1], Recompute::Normalized, None),
            format!("{op} normalised input of shape [2, 3, 3, 6], got [2, 3, 3, 4]")
        );
        assert_eq!(
            error(&case.parts, Recompute::Output(&case.residual), None),
            format!("{op} output none behind several parts, got [2, 3, 3, 6]")
        );
        assert_eq!(
            error(std::slice::from_ref(&case.residual), Recompute::Residual(&other), None),
            format!("{op} residual of shape [2, 3, 3, 6], got [2, 3, 3, 7]")
        );
        assert_eq!(
            error(&case.parts, Recompute::Normalized, Some(other.clone())),
            format!("{op} gradient of shape [2, 3, 3, 6], got [2, 3, 3, 7]")
        );
        let whole = Case::<f32>::new([2, 3, 3], &[6], 5, Window::square(1));
        let (g, sums) = whole.gated(Recompute::Normalized, &mut None).unwrap();
        let error = batch_norm_gated_backward(&whole.parts[0], whole.normalization(), other, sums.clone(), None);
        assert_eq!(
            error.unwrap_err().to_string(),
            "batch_norm_gated_backward: expected gradient of shape [2, 3, 3, 6], got [2, 3, 3, 7]"
        );
        let wide = Case::<f32>::new([2, 3, 3], &[7], 5, Window::square(1));
        let g = Tensor::zeros(g.shape().with_columns(7));
        let error = batch_norm_gated_backward(&wide.parts[0], wide.normalization(), g, sums, None).unwrap_err();
        assert_eq!(error.to_string(), "batch_norm_gated_backward: expected sums two of each of 7 columns, got 12 sums");
    }
}
