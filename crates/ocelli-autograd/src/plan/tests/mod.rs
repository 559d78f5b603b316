//! That plans compute what was recorded, and fuse what they may and nothing else.

mod concat;

use ocelli_tensor::ops::conv::{Algorithm, with_algorithm};

use super::*;
use crate::ops::Window;
use crate::{Parameter, trace};

fn random(shape: impl Into<Shape>, seed: u64) -> Tensor {
    crate::ops::random(shape, seed).cast()
}

/// Convolutions, normalisations and biases with random parameters.
struct Layers;

impl Layers {
    fn conv(&self, x: &Var, out: usize, seed: u64) -> Result<Var> {
        let w = Parameter::new(random([3, 3, x.shape().columns(), out], seed));
        x.conv2d(&w.var(), &Window::square(3).padding(1), 1)
    }

    fn norm(&self, x: &Var, seed: u64) -> Result<Var> {
        let [gamma, beta, mean, var] = [0, 1, 2, 3].map(|i| random([x.shape().columns()], 4 * seed + i));
        let [gamma, beta] = [gamma, beta].map(|value| Parameter::new(value).var());
        x.batch_norm_eval(&gamma, &beta, &mean, &var.map(|x| 1.5 + x), 1e-5)
    }

    fn conv_norm(&self, x: &Var, out: usize, seed: u64) -> Result<Var> {
        self.norm(&self.conv(x, out, seed)?, seed)
    }

    fn bias(&self, x: &Var, seed: u64) -> Result<Var> {
        x.add(&Parameter::new(random([x.shape().columns()], seed)).var())
    }
}

/// Traces `f` on a batch of two, compiles it, compares batches of two and five, and returns the plan's text.
fn compiled(f: impl Fn(&Layers, &Var) -> Result<Var>) -> String {
    let x = Var::constant(random([2, 6, 5, 4], 100));
    let (y, trace) = trace(|| f(&Layers, &x));
    let plan = Plan::compile(&trace, &x, &y.unwrap()).unwrap();
    for batch in [2, 5] {
        let x = random([batch, 6, 5, 4], batch as u64);
        let expected = f(&Layers, &Var::constant(x.clone())).unwrap();
        let error = plan.run(&x).unwrap().relative_error(expected.value());
        assert!(error < 1e-5, "{error} in\n{plan}");
    }
    plan.to_string()
}

#[test]
fn a_residual_network_is_a_few_steps() {
    let text = compiled(|l, x| {
        let x = l.conv_norm(x, 8, 1)?.relu()?;
        let main = l.conv_norm(&l.conv_norm(&x, 8, 2)?.relu()?, 8, 3)?;
        let x = main.add(&x)?.relu()?;
        let main = l.conv_norm(&l.conv_norm(&x, 6, 4)?.relu6()?, 6, 5)?;
        let x = main.add(&l.conv_norm(&x, 6, 6)?)?.silu()?;
        let w = Parameter::new(random([6 * 5 * 6, 7], 7));
        x.flatten()?.linear(&w.var(), Some(&Parameter::new(random([7], 8)).var()))?.sigmoid()
    });
    let expected = "conv2d + batch_norm_eval + relu\n\
        conv2d + batch_norm_eval + relu\n\
        conv2d + batch_norm_eval + add + relu\n\
        conv2d + batch_norm_eval + relu6\n\
        conv2d + batch_norm_eval\n\
        conv2d + batch_norm_eval + add + silu\n\
        reshape\n\
        linear + sigmoid\n";
    // The second block's two convolutions both lead to the sum; the first in the trace takes it.
    assert_eq!(text, expected);
}

#[test]
fn the_residual_may_be_either_operand() {
    let text = compiled(|l, x| x.add(&l.conv_norm(x, 4, 1)?)?.relu());
    assert_eq!(text, "conv2d + batch_norm_eval + add + relu\n");
    let text = compiled(|l, x| l.conv_norm(x, 4, 1)?.add(x)?.relu());
    assert_eq!(text, "conv2d + batch_norm_eval + add + relu\n");
}

#[test]
fn biases_and_scales_fold() {
    let text = compiled(|l, x| {
        let x = l.bias(&l.conv(x, 3, 1)?, 2)?;
        let x = l.norm(&x, 3)?.mul(&Var::constant(random([3], 4)))?;
        l.bias(&x, 5)
    });
    assert_eq!(text, "conv2d + add + batch_norm_eval + mul + add\n");
}

#[test]
fn depthwise_and_grouped_convolutions_fold_too() {
    let text = compiled(|l, x| {
        let depthwise = Var::constant(random([3, 3, 1, 4], 1));
        let x = x.conv2d(&depthwise, &Window::square(3).stride(2).same([6, 5]), 4)?;
        let x = l.norm(&x, 2)?.relu6()?;
        let grouped = Var::constant(random([1, 1, 2, 6], 3));
        l.norm(&x.conv2d(&grouped, &Window::square(1), 2)?, 4)?.sigmoid()
    });
    assert_eq!(text, "conv2d + batch_norm_eval + relu6\nconv2d + batch_norm_eval + sigmoid\n");
}

#[test]
fn a_value_with_two_readers_stays() {
    let text = compiled(|l, x| {
        let x = l.conv(x, 4, 1)?;
        l.norm(&x, 2)?.relu()?.add(&x)
    });
    assert_eq!(text, "conv2d\nbatch_norm_eval + relu\nadd\n");
    let text = compiled(|l, x| {
        let x = l.conv(x, 4, 1)?;
        x.add(&x)
    });
    assert_eq!(text, "conv2d\nadd\n");
    // The output is a reader too.
    let x = Var::constant(random([1, 3, 3, 2], 1));
    let (y, trace) = trace(|| {
        let y = Layers.conv(&x, 2, 1)?;
        y.relu().map(|_| y)
    });
    let plan = Plan::compile(&trace, &x, &y.unwrap()).unwrap();
    assert_eq!(plan.to_string(), "conv2d\n");
}

#[test]
fn nothing_fuses_behind_an_activation_or_a_second_residual() {
    let text = compiled(|l, x| l.norm(&l.conv(x, 4, 1)?.relu()?.add(x)?, 2));
    assert_eq!(text, "conv2d + relu\nadd\nbatch_norm_eval\n");
    let text = compiled(|l, x| l.norm(&l.conv(x, 4, 1)?.add(x)?.add(x)?, 2));
    assert_eq!(text, "conv2d + add\nadd\nbatch_norm_eval\n");
}

#[test]
fn channel_weights_residuals_and_activations_are_one_step() {
    let text = compiled(|l, x| {
        let weights = l.conv(&x.adaptive_avg_pool2d([1, 1])?, 4, 1)?.sigmoid()?;
        l.conv_norm(x, 4, 2)?.mul(&weights)?.add(x)?.relu()
    });
    let expected = "adaptive_avg_pool2d\nconv2d + sigmoid\nconv2d + batch_norm_eval\nmul + add + relu\n";
    assert_eq!(text, expected);
    let text = compiled(|l, x| x.add(&l.norm(x, 1)?)?.relu());
    assert_eq!(text, "batch_norm_eval + add + relu\n");
    let text = compiled(|l, x| l.conv(x, 4, 1)?.relu()?.add(x)?.silu());
    assert_eq!(text, "conv2d + relu\nadd + silu\n");
}

#[test]
fn channel_weights_go_into_those_of_few_outputs() {
    let squeezed = |l: &Layers, x: &Var, out| {
        let x = l.conv_norm(x, 5, 1)?.silu()?;
        let weights = l.conv(&x.adaptive_avg_pool2d([1, 1])?, 5, 2)?.sigmoid()?;
        let w = Parameter::new(random([1, 1, 5, out], 3));
        l.norm(&x.mul(&weights)?.conv2d(&w.var(), &Window::square(1), 1)?, 4)
    };
    let squeeze = "conv2d + batch_norm_eval + silu\nadaptive_avg_pool2d\nconv2d + sigmoid\n";
    let text = compiled(|l, x| squeezed(l, x, 4)?.add(x));
    assert_eq!(text, format!("{squeeze}mul + conv2d + batch_norm_eval + add\n"));
    // 30 pixels are not much more than 8 outputs.
    let text = compiled(|l, x| squeezed(l, x, 8));
    assert_eq!(text, format!("{squeeze}mul\nconv2d + batch_norm_eval\n"));
}

#[test]
fn constant_weights_of_channels_serve_any_batch() {
    let x = Var::constant(random([1, 6, 5, 4], 1));
    let [scale, w] = [[1, 1, 1, 4], [1, 1, 4, 2]].map(|shape| Parameter::new(random(shape, 2)));
    let network = |x: &Var| x.mul(&scale.var())?.conv2d(&w.var(), &Window::square(1), 1);
    let (y, trace) = trace(|| network(&x));
    let plan = Plan::compile(&trace, &x, &y.unwrap()).unwrap();
    let batch = random([3, 6, 5, 4], 3);
    let expected = network(&Var::constant(batch.clone())).unwrap();
    assert!(plan.run(&batch).unwrap().relative_error(expected.value()) < 1e-6);
}

#[test]
fn pointwise_and_depthwise_convolutions_are_one_step() {
    let network = |x: &Var| -> Result<(Var, Var)> {
        let (w, bias) = (Parameter::new(random([1, 1, 6, 32], 1)), Parameter::new(random([32], 2)));
        let expanded = x.conv2d(&w.var(), &Window::square(1), 1)?.add(&bias.var())?.silu()?;
        let w = Parameter::new(random([3, 3, 1, 32], 3));
        let y = expanded.conv2d(&w.var(), &Window::square(3).stride(2).padding(1), 32)?.relu()?;
        Ok((expanded, y))
    };
    let x = Var::constant(random([2, 40, 30, 6], 4));
    let (traced, trace) = trace(|| {
        network(&x)
            .and_then(|(expanded, y)| Ok([y.clone(), y.global_avg_pool2d()?.add(&expanded.global_avg_pool2d()?)?]))
    });
    let [y, both] = traced.unwrap();
    let plan = Plan::compile(&trace, &x, &y).unwrap();
    assert_eq!(plan.to_string(), "conv2d + add + silu + conv2d + relu\n");
    for batch in [2, 3] {
        let x = random([batch, 40, 30, 6], 5);
        let (_, expected) = network(&Var::constant(x.clone())).unwrap();
        assert!(plan.run(&x).unwrap().relative_error(expected.value()) < 1e-5);
    }
    // What something else reads must be made.
    let plan = Plan::compile(&trace, &x, &both).unwrap();
    assert!(plan.to_string().starts_with("conv2d + add + silu\nconv2d + relu\n"), "{plan}");
}

#[test]
fn depthwise_convolutions_average_their_rows_for_means_of_images() {
    let network = |x: &Var| -> Result<[Var; 2]> {
        let depthwise = Var::constant(random([3, 3, 1, 4], 1));
        let x = x.conv2d(&depthwise, &Window::square(3).padding(1), 4)?.silu()?;
        let [a, b] = [x.adaptive_avg_pool2d([1, 1])?, x.adaptive_avg_pool2d([1, 1])?];
        let weights = a.add(&b.relu()?)?;
        // (What is no depthwise convolution averages nothing.)
        let y = Layers.conv(&x.mul(&weights)?, 16, 2)?;
        Ok([y.adaptive_avg_pool2d([2, 1])?, y.global_avg_pool2d()?])
    };
    let x = Var::constant(random([2, 9, 11, 4], 1));
    let (y, trace) = trace(|| network(&x));
    for (i, y) in y.unwrap().iter().enumerate() {
        let plan = Plan::compile(&trace, &x, y).unwrap();
        assert_eq!(plan.steps.iter().filter(|step| step.means.is_some()).count(), 1);
        for batch in [2, 1, 5] {
            let x = random([batch, 9, 11, 4], 3);
            let expected = &network(&Var::constant(x.clone())).unwrap()[i];
            assert!(plan.run(&x).unwrap().relative_error(expected.value()) < 1e-6);
        }
    }
}

#[test]
fn broadcast_sums_are_no_residuals() {
    let text = compiled(|l, x| {
        let per_pixel = l.conv(x, 1, 2)?.sigmoid()?;
        l.conv(x, 4, 1)?.add(&per_pixel)
    });
    assert_eq!(text, "conv2d + sigmoid\nconv2d\nadd\n");
}

#[test]
fn constants_are_computed_once() {
    let text = compiled(|l, x| {
        let w = Var::constant(random([3 * 3 * 4 * 2], 1)).reshape([3, 3, 4, 2])?.scale(0.5)?;
        l.bias(&x.conv2d(&w, &Window::square(3), 1)?, 2)
    });
    assert_eq!(text, "conv2d + add\n");
}

#[test]
fn dropout_vanishes() {
    let x = Var::constant(random([2, 3, 3, 4], 1));
    let (y, trace) = trace(|| Layers.conv(&x, 4, 1)?.dropout(0.5, 1)?.relu());
    let plan = Plan::compile(&trace, &x, &y.unwrap()).unwrap();
    assert_eq!(plan.to_string(), "conv2d + relu\n");
    let expected = Layers.conv(&x, 4, 1).unwrap().relu().unwrap();
    assert!(plan.run(x.value()).unwrap().relative_error(expected.value()) < 1e-6);
}

#[test]
fn a_plan_may_do_nothing() {
    let x = Var::constant(random([2, 4], 1));
    let (y, trace) = trace(|| x.dropout(0.5, 1));
    let plan = Plan::compile(&trace, &x, &y.unwrap()).unwrap();
    assert_eq!((plan.run(x.value()).unwrap(), plan.steps.len()), (x.value().clone(), 0));
}

#[test]
fn scopes_name_the_steps() {
    let text = compiled(|l, x| crate::scope("layer1", || l.conv(x, 4, 1)?.relu()));
    assert_eq!(text, "layer1: conv2d + relu\n");
}

#[test]
fn places_are_reused() {
    let x = Var::constant(random([1, 4, 4, 2], 1));
    let (y, trace) = trace(|| (0..50).try_fold(x.clone(), |x, seed| Layers.conv(&x, 2, seed)?.relu()));
    let plan = Plan::compile(&trace, &x, &y.unwrap()).unwrap();
    assert_eq!((plan.steps.len(), plan.places.len()), (50, 4));
}

#[test]
fn an_output_takes_the_memory_of_an_earlier_one() {
    let x = Var::constant(random([2, 4, 4, 2], 1));
    let (y, trace) = trace(|| Layers.conv(&x, 3, 1)?.relu());
    let y = y.unwrap();
    let plan = Plan::compile(&trace, &x, &y).unwrap();
    let mut output = Tensor::default();
    let addresses: Vec<_> = (0..4)
        .map(|_| {
            plan.run_into(x.value(), &mut output).unwrap();
            assert!(output.relative_error(y.value()) < 1e-6);
            output.data().as_ptr()
        })
        .collect();
    assert_eq!(addresses[..2], addresses[2..]);
    // What is shared is left alone.
    let (kept, copy) = (output.clone(), output.data().to_vec());
    (0..3).for_each(|i| plan.run_into(&random([2, 4, 4, 2], i), &mut output).unwrap());
    assert_eq!(kept.data(), copy);
}

/// y = x, in x's memory.
#[derive(Debug)]
struct Same;

impl crate::Op<f32> for Same {
    type Saved = ();

    fn name(&self) -> &'static str {
        "same"
    }

    fn forward(&self, inputs: &[&Tensor], _: &[bool]) -> Result<(Tensor, ())> {
        Ok((inputs[0].clone(), ()))
    }

    fn backward(&self, (): (), dy: Tensor, _: &[bool]) -> Result<crate::Gradients<f32>> {
        Ok(vec![Some(dy)])
    }
}

#[test]
fn operations_may_return_their_input() {
    compiled(|l, x| {
        let x = l.conv(&Var::apply(Same, &[x])?, 4, 1)?;
        let same = Var::apply(Same, &[&x])?;
        Var::apply(Same, &[&l.conv(&same, 4, 2)?.add(&same)?])
    });
    let x = Var::constant(random([2, 4], 1));
    let (y, trace) = trace(|| Var::apply(Same, &[&Var::apply(Same, &[&x])?]));
    let plan = Plan::compile(&trace, &x, &y.unwrap()).unwrap();
    let input = random([2, 4], 2);
    drop(plan.run(&input).unwrap());
    assert!(input.is_unique(), "a plan keeps nothing of its input");
}

#[test]
fn many_threads_run_one_plan() {
    let x = Var::constant(random([2, 6, 5, 4], 1));
    let (y, trace) = trace(|| concat::dense(&Layers, &concat::dense(&Layers, &x, 1)?, 2)?.relu());
    let y = y.unwrap();
    let plan = Plan::compile(&trace, &x, &y).unwrap();
    let run = || (0..50).for_each(|_| assert!(plan.run(x.value()).unwrap().relative_error(y.value()) < 1e-5));
    std::thread::scope(|threads| (0..4).for_each(|_| drop(threads.spawn(run))));
    let arenas = plan.arenas.lock().unwrap().len();
    assert!((1..=4).contains(&arenas), "{arenas}");
}

#[test]
fn a_plan_keeps_the_weights_it_was_made_with() {
    let w = Parameter::new(random([1, 1, 2, 2], 1));
    let x = Var::constant(random([1, 3, 3, 2], 2));
    let (y, trace) = trace(|| x.conv2d(&w.var(), &Window::square(1), 1));
    let y = y.unwrap();
    let plan = Plan::compile(&trace, &x, &y).unwrap();
    w.update(|w| w.data_mut().fill(0.0));
    assert!(plan.run(x.value()).unwrap().relative_error(y.value()) < 1e-6);
}

#[test]
fn misuse_is_an_error() {
    let x = Var::constant(random([2, 3, 3, 2], 1));
    let (y, trace) = trace(|| Layers.conv(&x, 2, 1));
    let y = y.unwrap();
    let plan = Plan::compile(&trace, &x, &y).unwrap();
    let error = plan.run(&random([2, 4, 3, 2], 2)).unwrap_err();
    let expected = "plan: expected an input of shape [2, 3, 3, 2] but for the batch size, got [2, 4, 3, 2]";
    assert_eq!(error.to_string(), expected);
    assert!(plan.run(&random([3, 3, 2], 2)).is_err());
    let stranger = Var::constant(random([2, 3, 3, 2], 1));
    assert_eq!(Plan::compile(&trace, &stranger, &y).unwrap_err(), Error::NotTraced);
    assert_eq!(Plan::compile(&trace, &x, &stranger).unwrap_err(), Error::NotTraced);
}

#[test]
fn plans_can_be_shared_between_threads() {
    fn shared<P: Send + Sync>() {}
    shared::<Plan<f32>>();
    shared::<Plan<f64>>();
}

#[test]
fn memory_bound_weights_may_be_kept_in_16_bits() {
    let x = Var::constant(random([1, 7, 7, 300], 1));
    let network = |x: &Var| -> Result<Var> {
        let x = Layers.conv_norm(x, 120, 1)?.relu()?;
        let [w, b] = [random([5880, 50], 3), random([50], 4)].map(|value| Parameter::new(value).var());
        x.flatten()?.linear(&w, Some(&b))
    };
    let (y, trace) = trace(|| network(&x));
    let y = y.unwrap();
    let [exact, half] = [Storage::Exact, Storage::Half]
        .map(|storage| with_algorithm(Algorithm::Direct, || Plan::compile_with(storage, &trace, &x, &y).unwrap()));
    assert_eq!(half.algorithms().collect::<Vec<_>>(), ["gathered f16", "", "product f16"]);
    assert!(exact.algorithms().all(|algorithm| !algorithm.ends_with("f16")));
    for batch in [1, 3] {
        let x = random([batch, 7, 7, 300], 2);
        let [y, expected] = [&half, &exact].map(|plan| plan.run(&x).unwrap());
        let error = y.relative_error(&expected);
        assert!((1e-6..1e-3).contains(&error), "{error}");
    }
}
