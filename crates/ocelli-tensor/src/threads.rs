//! The one door to threads: a rayon pool whose size is a setting.
//!
//! Every function here divides work into pieces that depend on the shape alone, never on the number of threads, and
//! combines nothing itself, so results are the same bits for any number of threads (design law 7).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::simd;

static POOL: RwLock<Option<Arc<ThreadPool>>> = RwLock::new(None);

/// Sets the number of threads that kernels use from now on; 0 means one for every processor.
pub fn set(threads: usize) {
    *POOL.write().unwrap_or_else(|e| e.into_inner()) = Some(build(threads));
}

/// The number of threads that kernels use.
pub fn count() -> usize {
    pool().current_num_threads()
}

/// Runs `f` on a thread of the pool. Kernels that `f` calls then start without waking a thread first, which is worth
/// it around a whole forward pass or training step.
pub fn install<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    if rayon::current_thread_index().is_some() {
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
    let results = Mutexes((0..tasks).map(|_| Mutex::new(None)).collect());
    run(tasks, &|i| *results.lock(i) = Some(f(i)));
    let unlocked = results.0.into_iter().map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner));
    unlocked.map(|result| result.expect("every task has run")).collect()
}

/// Calls `f(i, chunk)` for the consecutive chunks of `data`; the last may be shorter.
pub fn for_each_chunk<T: Send>(data: &mut [T], chunk: usize, f: impl Fn(usize, &mut [T]) + Send + Sync) {
    let chunks = Mutexes(data.chunks_mut(chunk.max(1)).map(Mutex::new).collect());
    run(chunks.0.len(), &|i| f(i, &mut chunks.lock(i)));
}

/// As [`for_each_chunk`] over two slices at once, which are cut into equally many chunks.
pub fn for_each_chunk2<A: Send, B: Send>(
    (a, chunk_a): (&mut [A], usize),
    (b, chunk_b): (&mut [B], usize),
    f: impl Fn(usize, &mut [A], &mut [B]) + Send + Sync,
) {
    let pairs = a.chunks_mut(chunk_a.max(1)).zip(b.chunks_mut(chunk_b.max(1)));
    let chunks = Mutexes(pairs.map(Mutex::new).collect());
    run(chunks.0.len(), &|i| {
        let (a, b) = &mut *chunks.lock(i);
        f(i, a, b);
    });
}

/// What tasks write: each locks its own, so nobody ever waits.
struct Mutexes<T>(Vec<Mutex<T>>);

impl<T> Mutexes<T> {
    fn lock(&self, i: usize) -> MutexGuard<'_, T> {
        self.0[i].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one loop over rayon. Not generic, so that it is compiled once rather than for every kernel.
fn run(tasks: usize, f: &(dyn Fn(usize) + Sync)) {
    if tasks <= 1 || count() == 1 {
        return (0..tasks).for_each(f);
    }
    let isa = simd::current();
    enter(|| (0..tasks).into_par_iter().with_max_len(1).for_each(|i| simd::with_isa(isa, || f(i))));
}

/// How many rows of `columns` elements make a piece of streaming work that is worth a thread's attention (about
/// 64 KiB of one operand): the usual chunk of elementwise kernels. Depends on the shape alone.
pub fn rows_per_chunk(columns: usize) -> usize {
    (16 * 1024 / columns.max(1)).max(1)
}

fn enter(f: impl FnOnce() + Send) {
    match rayon::current_thread_index() {
        Some(_) => f(),
        None => pool().install(f),
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
    Arc::new(builder.build().expect("the system grants threads"))
}
