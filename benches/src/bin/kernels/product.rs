//! Matrix products beside other crates'.

use std::hint::black_box;

use ocelli_benches::clock::in_turns;
use ocelli_benches::peak::Meter;
use ocelli_benches::peers;
use ocelli_benches::products::{PRODUCTS, Product};
use ocelli_tensor::threads;

/// Prints each product by Ocelli, `matrixmultiply` and `gemm`, timed in turns.
pub fn table() {
    println!("GB/s count each matrix once. The last columns are the others' times divided by Ocelli's.\n");
    println!(
        "{:<10}{:<18}{:>10}{:>10}{:>8}{:>8}{:>8}{:>16}{:>10}{:>16}{:>8}{:>8}",
        "product",
        "m × k × n",
        "ms",
        "GFLOP/s",
        "% peak",
        "GB/s",
        "% copy",
        "matrixmultiply",
        "gemm",
        "matrixmultiply",
        "gemm",
        "faults"
    );
    let mut meter = Meter::gflops(threads::count());
    let copy = Meter::copying().latest();
    for product in PRODUCTS {
        let Product { kind, size, .. } = *product;
        let [a, b] = product.operands();
        let (left, right) = product.views(&a, &b);
        let mut rivals = [vec![0.0f32; size[0] * size[2]], vec![0.0; size[0] * size[2]]];
        let [theirs, others] = &mut rivals;
        let samples = in_turns([
            &mut || drop(black_box(product.run(&a, &b))),
            &mut || peers::matrixmultiply(size, left, right, black_box(theirs)),
            &mut || peers::gemm(size, left, right, black_box(others)),
        ]);
        let peak = meter.read();
        let [gflops, matrixmultiply, gemm] = samples.map(|sample| product.flops() / sample.seconds / 1e9);
        let bandwidth = product.bytes() / samples[0].seconds / 1e9;
        println!(
            "{:<10}{:<18}{:>10.3}{gflops:>10.1}{:>8.1}{bandwidth:>8.1}{:>8.1}{matrixmultiply:>16.1}{gemm:>10.1}{:>16.2}{:>8.2}{:>8}",
            kind.name(),
            size.map(|n| n.to_string()).join("×"),
            samples[0].ms(),
            100.0 * gflops / peak,
            100.0 * bandwidth / copy,
            samples[1].seconds / samples[0].seconds,
            samples[2].seconds / samples[0].seconds,
            samples[0].shown_faults()
        );
    }
    let [least, median, most] = meter.spread();
    println!("\npeak, measured between the products: {least:.0} to {most:.0} GFLOP/s, median {median:.0}");
}
