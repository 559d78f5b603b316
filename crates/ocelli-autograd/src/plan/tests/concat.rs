//! Concatenations that grow, and those whose parts are written where they belong.

use super::*;

/// A layer of a DenseNet.
pub(super) fn dense(l: &Layers, x: &Var, seed: u64) -> Result<Var> {
    Var::concat(&[x, &l.conv(&l.norm(x, seed)?.relu()?, 3, seed)?])
}

#[test]
fn concatenations_grow_in_place() {
    let block = |l: &Layers, x: &Var| (1..4).try_fold(x.clone(), |x, seed| dense(l, &x, seed));
    let layout = |f: &dyn Fn(&Layers, &Var) -> Result<Var>| {
        let x = Var::constant(random([2, 6, 5, 4], 100));
        let (y, trace) = trace(|| f(&Layers, &x));
        let plan = Plan::compile(&trace, &x, &y.unwrap()).unwrap();
        let in_place = plan.steps.iter().filter(|step| step.algorithm() == "in place").count();
        [in_place, plan.steps.len(), plan.places.len()]
    };
    // Convolutions write what the second and third concatenation add. One of the places is the workspace's.
    assert_eq!(layout(&|l, x| l.norm(&block(l, x)?, 9)), [1, 8, 5]);
    let norms =
        |l: &Layers, x: &Var| (1..4).try_fold(x.clone(), |x, seed| Var::concat(&[&x, &l.norm(&x, seed)?.relu()?]));
    assert_eq!(layout(&norms)[..2], [3, 6]);
    compiled(norms);
    // The plan's output may be what has grown, or only some of it, and others may read the whole of it.
    compiled(|l, x| block(l, x));
    compiled(|l, x| l.norm(&block(l, x)?, 9)?.relu());
    compiled(|l, x| l.conv(&block(l, x)?, 2, 9));
    compiled(|l, x| {
        let half = dense(l, x, 1)?;
        dense(l, &dense(l, &half, 2)?, 3)?;
        Ok(half)
    });
}

#[test]
fn what_a_convolution_reads_does_not_grow() {
    let text = compiled(|l, x| {
        let joined = Var::concat(&[x, &l.conv(x, 3, 1)?])?;
        Var::concat(&[&joined, &l.conv(&joined, 2, 2)?])
    });
    assert_eq!(text, "conv2d\nconcat\nconv2d\nconcat\n");
    // Nor does a concatenation of a value with itself.
    compiled(|_, x| {
        let twice = Var::concat(&[x, x])?;
        Var::concat(&[&twice, &twice])
    });
}

#[test]
fn convolutions_write_their_columns_of_a_concatenation() {
    let branches = |l: &Layers, x: &Var| {
        let wide = l.conv_norm(x, 20, 1)?.relu()?;
        let narrow = l.bias(&l.conv(&wide, 3, 2)?, 2)?;
        Var::concat(&[&l.conv(x, 5, 3)?.silu()?, &narrow, &l.conv(x, 33, 4)?])
    };
    let text = compiled(branches);
    assert_eq!(text, "conv2d + batch_norm_eval + relu\nconv2d + add\nconv2d + silu\nconv2d\n");
    let text = compiled(|l, x| l.conv(&branches(l, x)?, 4, 9)?.relu());
    assert_eq!(text.lines().count(), 5, "{text}");
    // Not if somebody else reads a part, or if one is no convolution, or adds a residual.
    let is_joined = |f: fn(&Layers, &Var) -> Result<[Var; 2]>| {
        let text = compiled(|l, x| Var::concat(&f(l, x)?.each_ref()));
        assert!(text.contains("concat"), "{text}");
    };
    is_joined(|l, x| Ok([l.conv(x, 4, 1)?, x.clone()]));
    is_joined(|l, x| Ok([l.conv(x, 4, 1)?, l.conv(x, 4, 2)?.add(x)?]));
    is_joined(|l, x| {
        let part = l.conv(x, 4, 1)?;
        Ok([part.clone(), l.conv(&part, 4, 2)?])
    });
}
