//! The one door to threads: a rayon pool whose size is a setting.
//!
//! Every function here divides work into the pieces that its caller asks for, in no order, and combines nothing itself.
//! Callers divide what is summed by the shape alone, so results are the same bits for any number of threads (design law
//! 7); what is not summed, such as the rows of a product, they may divide by [`count`].

mod team;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

use rayon::ThreadPool;

use crate::simd::{self, Isa};

static POOL: RwLock<Option<Arc<ThreadPool>>> = RwLock::new(None);
/// The size of the pool, which every kernel asks for, without its lock; 0 before there is one.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Sets the number of threads that a kernel uses from now on; 0 means one for every processor. Threads of a program that call
/// kernels at once share those of the pool, and each works on its own kernel beside them unless it is [`install`]ed.
pub fn set(threads: usize) {
    let mut pool = POOL.write().unwrap_or_else(|e| e.into_inner());
    *pool = Some(build(threads));
}

/// The number of threads that kernels use.
pub fn count() -> usize {
    match COUNT.load(Ordering::Relaxed) {
        0 => pool().current_num_threads(),
        count => count,
    }
}

/// Runs `f` on a thread of the pool. Kernels that `f` calls then share their pieces with the others more cheaply than a
/// thread outside of the pool can, by 1 to 2 % of a network's time, which is worth it around a whole forward pass or training
/// step. With one thread it is the caller's own, so that callers on several threads don't wait for each other.
pub fn install<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    if rayon::current_thread_index().is_some() || count() == 1 {
        return f();
    }
    let isa = simd::current();
    pool().install(|| simd::with_isa(isa, f))
}

/// Calls `f(0)` to `f(tasks - 1)`, in any order and at once.
pub fn for_each(tasks: usize, f: impl Fn(usize) + Send + Sync) {
    run(tasks, &f);
}

/// The results of `f(0)` to `f(tasks - 1)`, in that order.
pub fn map<R: Send>(tasks: usize, f: impl Fn(usize) -> R + Send + Sync) -> Vec<R> {
    let mut results = Vec::new();
    results.resize_with(tasks, || None);
    for_each_chunk(&mut results, 1, |i, result| result[0] = Some(f(i)));
    results.into_iter().map(|result| result.expect("every task has run")).collect()
}

/// Calls `f(i, chunk)` for the consecutive chunks of `data`; the last may be shorter.
pub fn for_each_chunk<T: Send>(data: &mut [T], chunk: usize, f: impl Fn(usize, &mut [T]) + Send + Sync) {
    run_chunks(data, chunk.max(1), &f);
}

/// As [`for_each_chunk`] over two slices at once, which are cut into equally many chunks.
pub fn for_each_chunk2<A: Send, B: Send>(
    (a, chunk_a): (&mut [A], usize),
    (b, chunk_b): (&mut [B], usize),
    f: impl Fn(usize, &mut [A], &mut [B]) + Send + Sync,
) {
    run_chunks2((a, chunk_a.max(1)), (b, chunk_b.max(1)), &f);
}

// The loops over tasks. They take the function as an object, so that they are compiled for few types of elements rather
// than for every kernel.

fn run(tasks: usize, f: &(dyn Fn(usize) + Sync)) {
    if is_serial(tasks) {
        return (0..tasks).for_each(f);
    }
    let mut start = 0;
    let part = |count| {
        start += count;
        start - count..start
    };
    enter(|isa, pool| team::share(pool, tasks, part, &|i| simd::with_isa(isa, || f(i))));
}

fn run_chunks<T: Send>(data: &mut [T], chunk: usize, f: &(dyn Fn(usize, &mut [T]) + Sync)) {
    let tasks = data.len().div_ceil(chunk);
    if is_serial(tasks) {
        return data.chunks_mut(chunk).enumerate().for_each(|(i, chunk)| f(i, chunk));
    }
    let (mut rest, mut start) = (data, 0);
    let part = |count| {
        let first = start;
        start += count;
        (first..).zip(cut_off(&mut rest, count * chunk).chunks_mut(chunk))
    };
    enter(|isa, pool| team::share(pool, tasks, part, &|(i, chunk)| simd::with_isa(isa, || f(i, chunk))));
}

fn run_chunks2<A: Send, B: Send>(
    (a, chunk_a): (&mut [A], usize),
    (b, chunk_b): (&mut [B], usize),
    f: &OnPair<'_, A, B>,
) {
    let tasks = a.len().div_ceil(chunk_a).min(b.len().div_ceil(chunk_b));
    if is_serial(tasks) {
        return a.chunks_mut(chunk_a).zip(b.chunks_mut(chunk_b)).enumerate().for_each(|(i, (a, b))| f(i, a, b));
    }
    let (mut rest_a, mut rest_b, mut start) = (a, b, 0);
    let part = |count| {
        let first = start;
        start += count;
        let [a, b] = [count * chunk_a, count * chunk_b];
        let pairs = cut_off(&mut rest_a, a).chunks_mut(chunk_a).zip(cut_off(&mut rest_b, b).chunks_mut(chunk_b));
        (first..).zip(pairs)
    };
    enter(|isa, pool| team::share(pool, tasks, part, &|(i, (a, b))| simd::with_isa(isa, || f(i, a, b))));
}

/// Takes up to `n` elements from the front of a slice.
fn cut_off<'a, T>(rest: &mut &'a mut [T], n: usize) -> &'a mut [T] {
    let n = n.min(rest.len());
    let (first, others) = std::mem::take(rest).split_at_mut(n);
    *rest = others;
    first
}

/// What [`for_each_chunk2`] calls.
type OnPair<'f, A, B> = dyn Fn(usize, &mut [A], &mut [B]) + Sync + 'f;

fn is_serial(tasks: usize) -> bool {
    tasks <= 1 || count() == 1
}

/// How many rows of `columns` elements make a piece of streaming work that is worth a thread's attention (about
/// 64 KiB of one operand): the usual chunk of elementwise kernels. Depends on the shape alone.
pub fn rows_per_chunk(columns: usize) -> usize {
    (16 * 1024 / columns.max(1)).max(1)
}

/// Calls `f` with the instruction set that its tasks are to use and, on a thread outside of the pool, with the pool.
fn enter(f: impl FnOnce(Isa, Option<&ThreadPool>)) {
    let isa = simd::current();
    match rayon::current_thread_index() {
        Some(_) => f(isa, None),
        None => f(isa, Some(&pool())),
    }
}

fn pool() -> Arc<ThreadPool> {
    if let Some(pool) = POOL.read().unwrap_or_else(|e| e.into_inner()).as_ref() {
        return pool.clone();
    }
    POOL.write().unwrap_or_else(|e| e.into_inner()).get_or_insert_with(|| build(0)).clone()
}

fn build(threads: usize) -> Arc<ThreadPool> {
    let builder = rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("ocelli-{i}"));
    let pool = builder.build().expect("the system grants threads");
    COUNT.store(pool.current_num_threads(), Ordering::Relaxed);
    Arc::new(pool)
}
