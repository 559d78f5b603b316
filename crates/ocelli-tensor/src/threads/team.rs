//! How the threads of the pool share the pieces of a kernel.
//!
//! A network is hundreds of kernels, many of which take some ten microseconds, as long as it takes to wake a thread that
//! sleeps. So threads that have run out of work look for more for a while before they do: those of the pool
//! ([`keep_awake`]), and the one that waits for a kernel's last pieces ([`share`]).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rayon::{ThreadPool, Yield};

/// The parts into which pieces are divided first, at most: one for each thread, or for several if there are more.
const PARTS: usize = 16;
/// How long a thread looks for work before it sleeps.
const AWAKE: Duration = Duration::from_micros(200);

/// The pieces of a kernel. Each thread begins with a part of its own, the same one in kernels of like shape, so that what
/// it has written is near when it reads it; then it takes what others have left.
struct Team<'f, I: Iterator> {
    parts: [Part<I>; PARTS],
    used: usize,
    pieces: usize,
    /// Pieces that are done.
    done: AtomicUsize,
    /// Threads of the pool that have helped one outside of it, and have left.
    gone: AtomicUsize,
    f: &'f (dyn Fn(I::Item) + Sync),
}

/// Some pieces, in cache lines of their own: threads that each take from their part do not wait for each other's line.
#[repr(align(128))]
struct Part<I>(Mutex<Option<I>>);

/// Calls `f` with all of `pieces` pieces on the calling thread and others of its pool. `part` makes the iterators over them:
/// it is told how many of the following pieces each has.
///
/// A thread that belongs to no pool works beside those of the one it is given, in the place of one of them. If it left the
/// pieces to them and slept, waking it would take as long as a small kernel.
pub(super) fn share<I: Iterator + Send>(
    pool: Option<&ThreadPool>,
    pieces: usize,
    mut part: impl FnMut(usize) -> I,
    f: &(dyn Fn(I::Item) + Sync),
) {
    let pool_threads = pool.map_or_else(rayon::current_num_threads, ThreadPool::current_num_threads);
    let threads = pool_threads.min(pieces);
    let used = threads.min(PARTS);
    let parts = std::array::from_fn(|i| {
        Part(Mutex::new((i < used).then(|| part(pieces * (i + 1) / used - pieces * i / used))))
    });
    let team = Team { parts, used, pieces, done: AtomicUsize::new(0), gone: AtomicUsize::new(0), f };
    keep_awake(pool, pool_threads - 1);
    match pool {
        None => drop(rayon::join(|| team.work_and_wait(), || team.spread(threads - 1))),
        Some(pool) => pool.in_place_scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|_| {
                    // The first part is the caller's.
                    team.work(1 + own_part() % (used - 1));
                    team.gone.fetch_add(1, Ordering::Release);
                });
            }
            team.work(0);
            // The end of the scope would sleep until they have.
            stay_awake(|| (team.gone.load(Ordering::Acquire) < threads - 1).then_some(false));
        }),
    }
}

/// The part that a thread of the pool begins with.
fn own_part() -> usize {
    rayon::current_thread_index().unwrap_or(0)
}

impl<I: Iterator + Send> Team<'_, I> {
    /// Lets so many threads of the pool work, this one first.
    fn spread(&self, threads: usize) {
        match threads {
            0 => {}
            1 => self.work(own_part()),
            _ => drop(rayon::join(|| self.work(own_part()), || self.spread(threads - 1))),
        }
    }

    /// Does pieces until there are none, those of its own part first.
    fn work(&self, own: usize) {
        for i in 0..self.used {
            let Part(part) = &self.parts[(own + i) % self.used];
            let next = || part.lock().unwrap_or_else(PoisonError::into_inner).as_mut().and_then(Iterator::next);
            let mut done = 0;
            while let Some(piece) = next() {
                (self.f)(piece);
                done += 1;
            }
            self.done.fetch_add(done, Ordering::Release);
        }
    }

    /// Does pieces, and waits for those that other threads have begun, if not for too long: a piece may have failed, or its
    /// thread may have lost its processor.
    fn work_and_wait(&self) {
        self.work(own_part());
        stay_awake(|| (self.done.load(Ordering::Acquire) < self.pieces).then_some(false));
    }
}

/// Calls `look` again and again, until it returns nothing, or has not found work (`true`) for [`AWAKE`].
fn stay_awake(mut look: impl FnMut() -> Option<bool>) {
    let mut since = Instant::now();
    while let Some(found) = look() {
        if found {
            since = Instant::now();
        } else if since.elapsed() > AWAKE {
            break;
        }
        std::hint::spin_loop();
    }
}

/// Keeps so many `others` of the pool's threads looking for work.
fn keep_awake(pool: Option<&ThreadPool>, others: usize) {
    static AWAKE_THREADS: AtomicUsize = AtomicUsize::new(0);
    let look = || {
        stay_awake(|| Some(rayon::yield_now() == Some(Yield::Executed)));
        AWAKE_THREADS.fetch_sub(1, Ordering::Relaxed);
    };
    let one_more = |awake| (awake < others).then_some(awake + 1);
    while AWAKE_THREADS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok() {
        match pool {
            None => rayon::spawn(look),
            Some(pool) => pool.spawn(look),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// What a function returns on a thread of a pool, and beside it.
    fn inside_and_beside<R: Send>(threads: usize, f: impl Fn(Option<&ThreadPool>) -> R + Sync) -> [R; 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        [pool.install(|| f(None)), f(Some(&pool))]
    }

    #[test]
    fn every_piece_is_done_once() {
        for threads in [2, 3, 2 * PARTS + 1] {
            for pieces in [2, 3, PARTS - 1, PARTS, 100, 1001] {
                inside_and_beside(threads, |pool| {
                    let done: Vec<AtomicUsize> = (0..pieces).map(|_| AtomicUsize::new(0)).collect();
                    let mut start = 0;
                    let part = |count| {
                        start += count;
                        start - count..start
                    };
                    let count = |i: usize| {
                        done[i].fetch_add(1, Ordering::Relaxed);
                    };
                    share(pool, pieces, part, &count);
                    assert!(done.iter().all(|done| done.load(Ordering::Relaxed) == 1), "{pieces} on {threads} threads");
                });
            }
        }
    }

    #[test]
    fn a_panic_reaches_the_caller() {
        for failing in 0..9 {
            let failed = inside_and_beside(3, |pool| {
                let fails = || share(pool, 9, |count| 0..count, &|i| assert!(i != failing, "a piece fails"));
                catch_unwind(AssertUnwindSafe(fails)).is_err()
            });
            assert_eq!(failed, [failing < 3; 2]);
        }
    }
}
