//! Kernels with little arithmetic.

use ocelli_benches::clock::{in_turns, median};
use ocelli_benches::peak::{self, COPIED};
use ocelli_benches::streams::{self, Stream};

/// Prints each kernel whose line contains `only` with its share of the speed of copying.
pub fn table(only: &str) {
    println!(
        "Bytes are what the operands must at least move: each read and each write of a tensor that no cache holds"
    );
    println!(
        "counts once (a batch norm reads its input twice: for the statistics and for the result). Copying, 64 MiB"
    );
    println!("to 64 MiB, is counted in the same way and takes turns with each kernel.\n");
    println!("{:<34}{:<30}{:>10}{:>10}{:>10}{:>8}{:>8}", "kernel", "shape", "ms", "MB", "GB/s", "% copy", "faults");
    let (mut copy, mut copies) = (peak::copy(), Vec::new());
    for Stream { kernel, shape, bytes, prepare } in streams::all() {
        let shape = shape.to_string();
        if !format!("{kernel} {shape}").contains(only) {
            continue;
        }
        let [sample, copied] = in_turns([&mut prepare(), &mut copy]);
        let (speed, copied) = (bytes / sample.seconds / 1e9, COPIED / copied.seconds / 1e9);
        copies.push(copied);
        println!(
            "{kernel:<34}{shape:<30}{:>10.3}{:>10.1}{speed:>10.1}{:>8.1}{:>8}",
            sample.ms(),
            bytes / 1e6,
            100.0 * speed / copied,
            sample.shown_faults()
        );
    }
    if !copies.is_empty() {
        let middle = median(&mut copies);
        println!("\ncopying: {:.1} to {:.1} GB/s, median {middle:.1}", copies[0], copies[copies.len() - 1]);
    }
}
