//! How throughput grows if several threads run a plan, each on its own, beside what the machine itself grants: arithmetic
//! in registers, which nothing is shared for but the power, and copying, which shares the memory.
//!
//! `cargo run --release -p ocelli-benches --bin scaling -- [THREADS [MODEL…]]`

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use ocelli_benches::{clock, random};
use ocelli_tensor::{Tensor, peak, threads};
use ocelli_zoo::nn::autograd::Plan;
use ocelli_zoo::{Model, variant};

const ROUNDS: usize = 15;
/// How long a round looks at one thread, and at all.
const LOOK: Duration = Duration::from_millis(200);

/// What one thread repeats.
type Work = Box<dyn FnMut() + Send>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let count: usize = arguments.next().map_or(Ok(2), |count| count.parse())?;
    let mut models: Vec<String> = arguments.collect();
    if models.is_empty() {
        models = ["resnet50", "tf_efficientnet_b0"].map(String::from).into();
    }
    // Each run by itself on its caller's thread.
    threads::set(1);
    println!("{:24}{:>16}{:>16}{:>8}", "", "1 thread, /s", format!("{count} threads, /s"), "ratio");
    show("arithmetic", (0..count).map(|_| arithmetic()).collect());
    show("copying 64 MiB", (0..count).map(|_| copying(64 << 20)).collect());
    for name in models {
        let variant = variant(&name)?;
        let model = Model::new(&name, variant.options(), 0)?;
        let side = variant.input_size;
        let plan = Arc::new(model.plan([1, side, side, variant.options().in_channels])?);
        show(&name, (0..count).map(|_| running(plan.clone(), random([1, side, side, 3]))).collect());
    }
    Ok(())
}

fn arithmetic() -> Work {
    Box::new(|| {
        black_box(peak::fma_gflops(1));
    })
}

fn copying(bytes: usize) -> Work {
    let (from, mut to) = (vec![1u8; bytes], vec![0u8; bytes]);
    Box::new(move || black_box(&mut to).copy_from_slice(black_box(&from)))
}

fn running(plan: Arc<Plan>, x: Tensor) -> Work {
    let mut y = Tensor::default();
    Box::new(move || plan.run_into(&x, &mut y).expect("the plan's own shape"))
}

/// Prints how often a second the first thread's work is done alone, and all threads' together: medians of rounds that
/// look at both.
fn show(name: &str, mut works: Vec<Work>) {
    per_second(&mut works);
    let (mut alone, mut together, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.push(per_second(&mut works[..1]));
        together.push(per_second(&mut works));
        ratios.push(together[together.len() - 1] / alone[alone.len() - 1]);
    }
    let [alone, together, ratio] = [alone, together, ratios].map(|mut rates| clock::median(&mut rates));
    println!("{name:24}{alone:16.1}{together:16.1}{ratio:8.2}");
}

/// How often a second threads of their own do their works.
fn per_second(works: &mut [Work]) -> f64 {
    let barrier = Barrier::new(works.len());
    let rate = |work: &mut Work| {
        barrier.wait();
        let (start, mut done) = (Instant::now(), 0);
        while start.elapsed() < LOOK {
            work();
            done += 1;
        }
        f64::from(done) / start.elapsed().as_secs_f64()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = works.iter_mut().map(|work| scope.spawn(|| rate(work))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread that works")).sum()
    })
}
