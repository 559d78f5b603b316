//! The pool that buffers come from and go back to.
//!
//! A training step allocates the same sizes again and again. Fresh memory costs a page fault for every 4 KiB, so a
//! buffer that is dropped stays here, and the next one of about its size takes it over. Sizes are rounded up to an eighth
//! of a power of two, so that nearby sizes share. No size takes another's buffers: so each size has enough of them once a
//! step has needed its most, whatever the order in which the others came.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// As many bytes as a cache line, the unit of allocation. It is not aligned as one: memory of a greater alignment than the
/// system's own is zeroed by hand, which touches every page, though those that are fresh from the system are zero.
pub(crate) type Line = [u64; 8];

pub(crate) const LINE: usize = size_of::<Line>();

static FREE: Mutex<BTreeMap<usize, Vec<Vec<Line>>>> = Mutex::new(BTreeMap::new());
static FRESH: AtomicU64 = AtomicU64::new(0);
static REUSED: AtomicU64 = AtomicU64::new(0);

/// How often the pool was asked, and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Buffers that were allocated from the system.
    pub fresh: u64,
    /// Buffers that were taken from the pool.
    pub reused: u64,
    /// Bytes that lie idle in the pool.
    pub idle_bytes: usize,
}

/// The pool's counters since the program's start.
pub fn stats() -> Stats {
    let idle = free().iter().map(|(lines, list)| lines * LINE * list.len()).sum();
    Stats { fresh: FRESH.load(Ordering::Relaxed), reused: REUSED.load(Ordering::Relaxed), idle_bytes: idle }
}

/// Gives all idle memory back to the system.
pub fn trim() {
    free().clear();
}

fn free() -> std::sync::MutexGuard<'static, BTreeMap<usize, Vec<Vec<Line>>>> {
    // A panic elsewhere cannot leave the map half changed: every access below is one call of its methods.
    FREE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The number of lines that a request is rounded up to.
fn class(lines: usize) -> usize {
    if lines <= 8 {
        return lines;
    }
    let step = 1 << (lines.ilog2() - 3);
    lines.next_multiple_of(step)
}

/// At least `lines` lines, and whether they are known to be zero. Otherwise they hold what their last owner left.
pub(crate) fn take(lines: usize) -> (Vec<Line>, bool) {
    let class = class(lines);
    let mut free = free();
    if let Some(buffer) = free.get_mut(&class).and_then(Vec::pop) {
        REUSED.fetch_add(1, Ordering::Relaxed);
        return (buffer, false);
    }
    drop(free);
    FRESH.fetch_add(1, Ordering::Relaxed);
    (bytemuck::zeroed_vec(class), true)
}

/// Takes a buffer back.
pub(crate) fn give(buffer: Vec<Line>) {
    if !buffer.is_empty() {
        free().entry(buffer.len()).or_default().push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_close_and_ordered() {
        let mut last = 0;
        for lines in 1..5000 {
            let class = class(lines);
            assert!(class >= lines && class <= lines + lines / 8 + 1, "{lines} → {class}");
            assert!(class >= last);
            last = class;
        }
    }

    #[test]
    fn a_buffer_comes_back() {
        // A size that no other test uses.
        let (buffer, zeroed) = take(77_777);
        assert!(zeroed);
        let address = buffer.as_ptr();
        give(buffer);
        let (again, zeroed) = take(77_000);
        assert!(!zeroed);
        assert_eq!(again.as_ptr(), address);
    }
}
