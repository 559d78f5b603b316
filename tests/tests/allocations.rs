//! A training loop takes its memory in the first two steps (the second also keeps gradients and momentum, which the
//! first made, while it makes new ones) and then reuses it: no later step asks the system for a large block. A plan whose
//! output goes back into it asks for no block at all.
//!
//! This is a test binary of its own, because its allocator counts for the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use ocelli_train::zoo::nn::autograd::Var;
use ocelli_train::zoo::nn::loss::cross_entropy;
use ocelli_train::zoo::nn::optim::{Optimizer, SgdOptions};
use ocelli_train::zoo::nn::tensor::{Tensor, pool, threads};
use ocelli_train::zoo::nn::{Builder, Mode};
use ocelli_train::zoo::{Model, Options, variant};

/// From this size on a block counts, wherever it comes from. What is smaller keeps books: the list of a network's
/// gradients, the pixels that a product's tile reads. (The pool's misses count whatever their size.)
const LARGE: usize = 64 * 1024;

static LARGE_BLOCKS: AtomicU64 = AtomicU64::new(0);
static BLOCKS: AtomicU64 = AtomicU64::new(0);
/// Bytes that are allocated, wherever.
static HELD: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, with counts of the blocks and of the large ones, and the sum of all.
struct Counting;

impl Counting {
    fn count(size: usize) {
        HELD.fetch_add(size as u64, Ordering::Relaxed);
        BLOCKS.fetch_add(1, Ordering::Relaxed);
        if size >= LARGE {
            LARGE_BLOCKS.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// SAFETY: every call is passed on to the system's allocator as it came; the count is of no account to memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Counting::count(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Counting::count(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Counting::count(size);
        HELD.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(block, layout, size) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The large blocks, and the pool's misses, of each of some training steps, and the bytes held after each.
fn fresh_blocks(model: &str, size: usize, steps: usize) -> (Vec<[u64; 2]>, Vec<u64>) {
    const BATCH: usize = 2;
    let builder = Builder::new(1);
    let network = (variant(model).unwrap().build)(&builder, Options { classes: 10, in_channels: 3 }).unwrap();
    let options = SgdOptions { momentum: 0.9, nesterov: false, weight_decay: 1e-4, decay_vectors: true };
    let mut sgd = Optimizer::new(&builder.state(), options).unwrap();
    let x = Tensor::from_fn([BATCH, size, size, 3], |i| (i % 17) as f32 / 8.0 - 1.0);
    let mut step = |k: usize| {
        let before = [LARGE_BLOCKS.load(Ordering::Relaxed), pool::stats().fresh];
        let outputs = network.outputs(&Var::constant(x.clone()), &Mode::train(k as u64)).unwrap();
        outputs.loss(|logits| cross_entropy(logits, &[3, 7], 0.1)).unwrap().backward().unwrap();
        sgd.step(0.01);
        [LARGE_BLOCKS.load(Ordering::Relaxed) - before[0], pool::stats().fresh - before[1]]
    };
    // Room for the books before they are kept.
    let (mut blocks, mut held) = (Vec::with_capacity(steps), Vec::with_capacity(steps));
    for k in 0..steps {
        blocks.push(step(k));
        held.push(HELD.load(Ordering::Relaxed));
    }
    (blocks, held)
}

// One test, since the counters are the process's.
#[test]
fn what_is_repeated_allocates_little_or_nothing_and_keeps_nothing() {
    // On more threads it depends on their timing when a step first needs the most blocks at once.
    threads::set(1);
    steps_after_the_second();
    runs_after_the_second();
}

fn runs_after_the_second() {
    // Between them: every kind of convolution and pooling, joined and growing columns, channel weights, normalisation
    // across channels, offsets.
    let models = [
        "alexnet_2012",
        "googlenet",
        "resnet18",
        "preact_resnet110",
        "densenet121",
        "legacy_seresnet18",
        "tf_efficientnet_b0",
        "deformable_resnet50_v2",
    ];
    for model in models {
        let network = Model::new(model, Options { classes: 10, in_channels: 3 }, 1).unwrap();
        let plan = network.plan([1, 64, 64, 3]).unwrap();
        let x = Tensor::from_fn([1, 64, 64, 3], |i| (i % 17) as f32 / 8.0 - 1.0);
        let mut y = Tensor::default();
        let counts = || [BLOCKS.load(Ordering::Relaxed), pool::stats().fresh + pool::stats().reused];
        let mut run = |_| {
            let before = counts();
            plan.run_into(&x, &mut y).unwrap();
            let after = counts();
            [after[0] - before[0], after[1] - before[1]]
        };
        let blocks: [_; 8] = std::array::from_fn(&mut run);
        assert!(blocks[0][0] > 0 && blocks[0][1] > 0, "{model}: the counters count");
        assert_eq!(blocks[2..], [[0, 0]; 6], "{model}: blocks of the system and of the pool: {blocks:?}");
    }
}

fn steps_after_the_second() {
    // Between them: every kind of convolution, pooling, joined columns, dropout.
    for (model, size) in [("resnet18", 64), ("googlenet", 64), ("tf_efficientnet_lite0", 64), ("densenet121", 32)] {
        let (blocks, _) = fresh_blocks(model, size, 5);
        assert!(blocks[0][0] > 0 && blocks[0][1] > 0, "{model}: the counters count");
        assert_eq!(blocks[2..], [[0, 0]; 3], "{model}: {blocks:?}");
    }
    let (blocks, held) = fresh_blocks("resnet8", 16, 1000);
    assert_eq!(blocks[2..], [[0, 0]; 998]);
    assert_eq!(held[2], held[999], "bytes held after the third and the thousandth step");
}
