//! Every lane operation on every instruction set of this processor, against scalars.

use super::*;

struct Lanes<'a, T: Element>(&'a [T], &'a mut Vec<(&'static str, T, f64)>);

impl<T: Element> Kernel<T> for Lanes<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Lanes(input, out) = self;
        let mut push = |name, v: S::V, f: &dyn Fn(usize) -> f64, n: usize| {
            let mut lanes = vec![T::ZERO; S::LANES];
            simd.store(v, &mut lanes);
            out.extend(lanes.iter().take(n).enumerate().map(|(i, &x)| (name, x, f(i))));
        };
        let n = S::LANES;
        let (a, b) = (&input[..n], &input[n..2 * n]);
        let (va, vb) = (simd.load(a), simd.load(b));
        let at = |i: usize| a[i].to_f64();
        let bt = |i: usize| b[i].to_f64();
        push("add", simd.add(va, vb), &|i| at(i) + bt(i), n);
        push("sub", simd.sub(va, vb), &|i| at(i) - bt(i), n);
        push("mul", simd.mul(va, vb), &|i| at(i) * bt(i), n);
        push("div", simd.div(va, vb), &|i| at(i) / bt(i), n);
        push("reciprocal", simd.reciprocal(va), &|i| 1.0 / at(i), n);
        push("max", simd.max(va, vb), &|i| at(i).max(bt(i)), n);
        push("min", simd.min(va, vb), &|i| at(i).min(bt(i)), n);
        push("mul_add", simd.mul_add(va, vb, va), &|i| at(i) * bt(i) + at(i), n);
        push("sqrt", simd.sqrt(simd.mul(va, va)), &|i| at(i).abs(), n);
        push("select", simd.select_gt(va, vb, vb, va), &|i| if at(i) > bt(i) { bt(i) } else { at(i) }, n);
        let bytes: [u8; 17] = std::array::from_fn(|i| 253 + (i % 3) as u8);
        push("keep", simd.keep_where(va, &bytes, 254), &|i| if i % 3 == 1 { at(i) } else { 0.0 }, n);
        let zero = simd.splat(math::power_zero());
        let powers = simd.load(&a.iter().map(|x| T::from_f64(x.to_f64().round())).collect::<Vec<_>>());
        push("scale_exp2", simd.scale_exp2(vb, simd.add(powers, zero)), &|i| bt(i) * at(i).round().exp2(), n);
        push("exp", math::exp(simd, va), &|i| at(i).exp(), n);
        push("sigmoid", math::sigmoid(simd, va), &|i| 1.0 / (1.0 + (-at(i)).exp()), n);
        let [lower, upper] = simd.zip(va, vb);
        let turns = |i: usize| if i.is_multiple_of(2) { at(i / 2) } else { bt(i / 2) };
        push("zip", lower, &turns, n);
        push("zip", upper, &|i| turns(n + i), n);
        for part in 0..=n {
            push("partial", simd.load_partial(&a[..part]), &|i| if i < part { at(i) } else { 0.0 }, n);
            let mut some = vec![T::ONE; n];
            simd.store_partial(va, &mut some[..part]);
            push("store", simd.load(&some), &|i| if i < part { at(i) } else { 1.0 }, n);
        }
        out.push(("sum", simd.reduce_add(va), a.iter().map(|x| x.to_f64()).sum()));
        out.push(("maximum", simd.reduce_max(va), a.iter().map(|x| x.to_f64()).fold(f64::MIN, f64::max)));
    }
}

fn check<T: Element>(tolerance: f64) {
    let input: Vec<T> = (0..32).map(|i| T::from_f64(((i * 37 % 64) as f64 - 31.3) * 0.29)).collect();
    for &isa in available() {
        let mut results = Vec::new();
        T::dispatch_on(isa, Lanes(&input, &mut results));
        for (name, got, expected) in results {
            let error = (got.to_f64() - expected).abs() / expected.abs().max(1e-30);
            assert!(error <= tolerance || expected == got.to_f64(), "{isa:?} {name}: {got} is not {expected}");
        }
    }
}

#[test]
fn lanes_match_scalars() {
    check::<f32>(4e-7);
    check::<f64>(8e-16);
}

/// A function of one register, at one number.
fn at(isa: Isa, function: Function, x: f32) -> f32 {
    struct At(Function, f32);
    impl Kernel<f32> for At {
        type Output = f32;
        #[inline(always)]
        fn run<S: Simd<f32>>(self, simd: S) -> f32 {
            let x = simd.splat(self.1);
            simd.reduce_max(match self.0 {
                Function::Exp => math::exp(simd, x),
                Function::Sigmoid => math::sigmoid(simd, x),
            })
        }
    }
    f32::dispatch_on(isa, At(function, x))
}

enum Function {
    Exp,
    Sigmoid,
}

#[test]
fn exp_and_sigmoid_saturate() {
    for &isa in available() {
        let most = at(isa, Function::Exp, 1000.0);
        assert!(most > 1e38 && most.is_finite());
        assert!((0.0..1e-37).contains(&at(isa, Function::Exp, -1000.0)));
        assert_eq!(at(isa, Function::Sigmoid, 1000.0), 1.0);
        assert!((0.0..1e-37).contains(&at(isa, Function::Sigmoid, -1000.0)));
    }
}

#[test]
fn halves_are_widened_exactly() {
    struct Widen<'a, T>(&'a [f16], &'a mut [T]);
    impl<T: Element> Kernel<T> for Widen<'_, T> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd<T>>(self, simd: S) {
            for (halves, numbers) in self.0.chunks_exact(S::LANES).zip(self.1.chunks_exact_mut(S::LANES)) {
                // SAFETY: the chunk has a register's numbers.
                simd.store(unsafe { simd.widen_ptr(halves.as_ptr()) }, numbers);
            }
        }
    }
    // All finite ones, which are a multiple of any register's lanes.
    let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).filter(|x| x.is_finite()).collect();
    for &isa in available() {
        let mut numbers = vec![f32::NAN; halves.len()];
        f32::dispatch_on(isa, Widen(&halves, &mut numbers));
        for (half, number) in halves.iter().zip(numbers) {
            assert_eq!(half.to_f32().to_bits(), number.to_bits(), "{half} on {isa:?}");
        }
    }
    let mut numbers = vec![f64::NAN; halves.len()];
    f64::dispatch_on(Isa::Portable, Widen(&halves, &mut numbers));
    assert!(halves.iter().zip(numbers).all(|(half, number)| half.to_f64() == number));
}

#[test]
fn short_exponentials_and_sigmoids_are_as_exact_as_they_say() {
    struct Both<'a>(&'a mut [f32], &'a mut [f32]);
    impl Kernel<f32> for Both<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd<f32>>(self, simd: S) {
            for (x, y) in self.0.chunks_mut(S::LANES).zip(self.1.chunks_mut(S::LANES)) {
                simd.store_partial(math::inverse_exp(simd, simd.load_partial(x)), x);
                simd.store_partial(math::sigmoid(simd, simd.load_partial(y)), y);
            }
        }
    }
    for (reach, exponentials, sigmoids) in
        [(5.0, [2.0, 4.0], [5.0, 10.0]), (20.0, [4.0, 10.0], [5.0, 10.0]), (87.0, [12.0, 36.0], [12.0, 36.0])]
    {
        let input: Vec<f32> = (0..400_001).map(|i| (i as f32 / 200_000.0 - 1.0) * reach).collect();
        for &isa in available() {
            let of_isa = |[fused, other]: [f64; 2]| if isa == Isa::Portable { other } else { fused };
            let (mut exp, mut sigmoid) = (input.clone(), input.clone());
            f32::dispatch_on(isa, Both(&mut exp, &mut sigmoid));
            for ((&x, e), y) in input.iter().zip(exp).zip(sigmoid) {
                let exact = f64::from(-x).exp();
                for (got, exact, most) in [(e, exact, of_isa(exponentials)), (y, 1.0 / (1.0 + exact), of_isa(sigmoids))]
                {
                    let error = (f64::from(got) - exact).abs() / exact;
                    assert!(error <= most * f64::from(f32::EPSILON), "{isa:?}: {x} is off by {error:e}");
                }
            }
        }
    }
}
