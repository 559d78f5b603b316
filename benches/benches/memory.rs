//! Kernels with little arithmetic, on tensors that no cache holds: the same as in the table of `kernels memory`.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ocelli_benches::streams::{self, Stream};

fn memory(c: &mut Criterion) {
    let mut group = c.benchmark_group("memory");
    for Stream { kernel, shape, bytes, prepare } in streams::all() {
        // Operands of 100 MB and more are made for the kernels that are asked for alone.
        let mut prepare = Some(prepare);
        let mut call = None;
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new(kernel, shape), |b| {
            let call = call.get_or_insert_with(|| prepare.take().expect("made once")());
            b.iter(call);
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = memory
}
criterion_main!(benches);
